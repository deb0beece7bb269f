"""Imports packages in Blender and renders each with one sun: run by `test_blender.py` with a Python that has `bpy`.

    python blender_render.py JOBS.json

A job has `path` (.glb, .gltf, .usda, .usdz, or an import script), `image` (a .npy file to write), `side` (pixels) and
`light` (direction to the sun in the texture's tangent space: right, up, out of the surface).
"""

import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        suffix = Path(job["path"]).suffix
        if suffix in (".glb", ".gltf"):
            bpy.ops.import_scene.gltf(filepath=job["path"])
        elif suffix in (".usda", ".usdz"):
            bpy.ops.wm.usd_import(filepath=job["path"], import_usd_preview=True)
        else:
            add_square()
            runpy.run_path(job["path"], run_name="__main__")
        render(job)


def add_square() -> None:
    """A square in the plane y = 0 that faces -y, as the importers of glTF and USD leave theirs, and is active."""
    mesh = bpy.data.meshes.new("square")
    half = 0.5
    mesh.from_pydata([(-half, 0, -half), (half, 0, -half), (half, 0, half), (-half, 0, half)], [], [(0, 1, 2, 3)])
    layer = mesh.uv_layers.new()
    for corner, place in zip(layer.data, [(0, 0), (1, 0), (1, 1), (0, 1)], strict=True):
        corner.uv = place
    square = bpy.data.objects.new("square", mesh)
    bpy.context.scene.collection.objects.link(square)
    bpy.context.view_layer.objects.active = square


def render(job: dict) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = 16
    scene.cycles.use_denoising = False
    scene.cycles.max_bounces = 0
    # A pixel sees the middle of its texel alone, as the reference does.
    scene.cycles.pixel_filter_type = "GAUSSIAN"
    scene.cycles.filter_width = 0.01
    scene.render.resolution_x = scene.render.resolution_y = job["side"]
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 1
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.type = "ORTHO"
    camera.data.ortho_scale = 1.0
    camera.location = (0, -2, 0)
    camera.rotation_euler = (np.pi / 2, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.angle = 0
    sun.data.energy = np.pi
    right, up, out = job["light"]
    # A sun shines along its own -z.
    direction = __import__("mathutils").Vector((right, -out, up))
    sun.rotation_euler = direction.to_track_quat("Z", "Y").to_euler()
    scene.collection.objects.link(sun)
    path = Path(job["image"]).with_suffix(".exr")
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "32"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    pixels = np.array(image.pixels[:]).reshape(job["side"], job["side"], 4)
    # Blender's first row is the lowest.
    np.save(job["image"], pixels[::-1, :, :3])


if __name__ == "__main__":
    main()
