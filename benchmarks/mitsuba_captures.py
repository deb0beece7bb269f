"""Photographs materials with Mitsuba 3, as a dataset that `neuropbr evaluate --data` reads.

    python benchmarks/mitsuba_captures.py --materials DIR --output mitsuba --samples 16 --views 3
    neuropbr evaluate --run RUN --data mitsuba

Scenes, exposure and noise are those of `neuropbr data synthesize` with the same seed, kinds and sizes; light and
reflectance are Mitsuba's: path-traced surroundings instead of the split sum, and its `principled` BSDF, whose diffuse
term and masking are not ours. A model whose errors are alike on both sets has not learnt the peculiarities of our
renderer. There are no careless captures. Mitsuba comes with the extra `dev`.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import mitsuba as mi
import numpy as np
import torch
from torch import Tensor

from neuropbr_core.data.images import read_map, write_map
from neuropbr_core.data.layout.paths import map_files, record_camera
from neuropbr_core.data.seeding import CAPTURE, torch_generator
from neuropbr_core.data.synthesis.capture_folder import CaptureFolder, CaptureRecord, write_views
from neuropbr_core.data.synthesis.render import find_materials
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import Camera
from neuropbr_core.materials.capture import Exposure, Scene, develop, draw_scene, light
from neuropbr_core.materials.capture_kinds import CAPTURE_KINDS
from neuropbr_core.materials.color import srgb_to_linear
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.environments import Environment, specular_light
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.reporting import track
from neuropbr_core.shipped import resolve

TILES = 5
"""Tiles along the side of the plane. Tilted photos show some of the neighbours of the tile in the middle."""


def texture(values: Tensor) -> dict[str, Any]:
    """A Mitsuba texture of linear values `(C, H, W)` that repeats on the plane; its v points up."""
    pixels = values.flip(1).permute(1, 2, 0).contiguous().numpy().astype(np.float32)
    return {
        "type": "bitmap",
        "bitmap": mi.Bitmap(pixels),
        "raw": True,
        "wrap_mode": "repeat",
        "to_uv": mi.ScalarTransform4f().scale([TILES, TILES, 1]),
    }


def plane(maps: dict[str, Tensor]) -> dict[str, Any]:
    """The material on a plane.

    Args:
        maps: Albedo, roughness, metallic and normal, `(C, H, W)` in their ranges.
    """
    surface = {
        "type": "principled",
        "base_color": texture(srgb_to_linear(maps["albedo"])),
        "roughness": texture(maps["roughness"]),
        "metallic": texture(maps["metallic"]),
        "specular": 0.5,  # reflects 4 % head on, as our dielectrics do
    }
    bumpy = {"type": "normalmap", "normalmap": texture(maps["normal"] / 2 + 0.5), "bsdf": surface}
    return {
        "type": "rectangle",  # from -1 to 1
        "to_world": mi.ScalarTransform4f().scale([TILES / 2, TILES / 2, 1.0]),
        "material": {"type": "twosided", "bsdf": bumpy},
    }


def surroundings(environment: Environment, height: int = 129) -> dict[str, Any]:
    """Our environment as an emitter.

    Mitsuba's has y up, sees azimuth grow the other way, and its first and last rows are the poles themselves.
    """
    polar = (torch.arange(height) / (height - 1) * math.pi)[:, None]
    azimuth = -((torch.arange(2 * height) + 0.5) / height * math.pi)[None, :]
    up = polar.cos().expand(-1, azimuth.shape[1])
    towards = torch.stack((polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), up))
    # Roughness 0: the environment as a mirror shows it.
    pixels = specular_light(environment, towards, torch.zeros(1, *towards.shape[1:]))
    turned = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    bitmap = mi.Bitmap(pixels.permute(1, 2, 0).contiguous().numpy())
    return {"type": "envmap", "bitmap": bitmap, "to_world": mi.ScalarTransform4f(turned)}


def sensor(camera: Camera, size: int, samples: int) -> dict[str, Any]:
    """Our camera, taken apart into focal length and pose.

    Args:
        camera: The homography from texture to photo, and the lens.
        size: Side of the photo in pixels.
        samples: Rays a pixel.

    Source: Hartley and Zisserman, Multiple View Geometry (2nd ed.), 8.1.1: for a plane, H = K R (e1, e2, -C).
    """
    position = camera.position.double().numpy()
    # From (u, v, 1) to the point of the plane minus the lens.
    offset = np.array([[1.0, 0.0, -0.5], [0.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    offset[:, 2] -= position
    lens_and_axes = camera.homography.double().numpy() @ np.linalg.inv(offset)
    lens_and_axes /= np.linalg.norm(lens_and_axes[2])
    right, down, forward = lens_and_axes
    # The principal point is in the middle, so half of `forward` is in both other rows; what is left is as long as the
    # focal length.
    focal = np.linalg.norm(right - 0.5 * forward)
    up = 0.5 * forward - down
    return {
        "type": "perspective",
        "fov": math.degrees(2 * math.atan(0.5 / focal)),
        "to_world": mi.ScalarTransform4f().look_at(
            position.tolist(), (position + forward).tolist(), (up / np.linalg.norm(up)).tolist()
        ),
        "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
        "sampler": {"type": "multijitter", "sample_count": samples},
    }


def photograph(maps: dict[str, Tensor], scene: Scene, size: int, samples: int) -> Tensor:
    """Render the photos of a scene, linear `(V, 3, size, size)`."""
    lighting = light(scene)
    shared = {
        "type": "scene",
        # One reflection: the plane is alone, and our renderer knows no light between texels either. One sample of each
        # sort: `direct` counts a point light once for every emitter sample, without dividing by their number.
        "integrator": {"type": "direct"},
        "plane": plane(maps),
        "surroundings": surroundings(lighting.environment),
    }
    photos = []
    for view, camera in enumerate(scene.cameras):
        described = {**shared, "sensor": sensor(camera, size, samples)}
        if lighting.flash > 0:
            position = camera.position
            if lighting.flash_offset is not None:
                position = position + lighting.flash_offset
            intensity = {"type": "rgb", "value": [lighting.flash] * 3}
            described["flash"] = {"type": "point", "position": position.tolist(), "intensity": intensity}
        rendered = np.array(mi.render(mi.load_dict(described), seed=mi.UInt32(view)))
        photos.append(torch.from_numpy(rendered).permute(2, 0, 1))
    return torch.stack(photos)


def write_captures(plan: Synthesize, output: Path, *, views: int = 3, rays: int = 64) -> None:
    """Write a dataset.

    Args:
        plan: Materials, samples, sizes, seed and kinds; the rest is not used.
        output: The dataset's folder; its `input/` must not hold anything.
        views: Photos of each sample.
        rays: Rays a pixel.
    """
    # The compiled variants are faster, but need an LLVM that suits Dr.Jit and the processor.
    mi.set_variant("scalar_rgb")
    folders = find_materials(resolve(plan.materials))
    names = list(folders)
    side = plan.view_size or plan.size
    folder = CaptureFolder(output)
    if folder.foreign():
        raise SystemExit(f"{folder.input}: is not empty; choose another folder")
    for index in track(range(plan.samples), plan.samples, "rendering captures"):
        name = names[index % len(names)]
        kind = plan.kinds[index // len(names) % len(plan.kinds)]
        maps: dict[str, Tensor] = {}
        for key, path in map_files(folders[name]).items():
            write_map(output / "output" / name, MAPS[key], read_map(path, MAPS[key], plan.size))
            fine = read_map(path, MAPS[key], max(plan.size, side))
            maps[key] = decode_map(MAPS[key], torch.from_numpy(fine)[None])[0]
        generator = torch_generator(plan.seed, CAPTURE, index)
        scene = draw_scene(generator, views, kind=kind)
        exposure: Exposure = "grey_card"
        if kind == "auto":
            exposure = "auto"
        photos = develop(photograph(maps, scene, side, rays), generator, exposure).numpy()
        offset = None
        if scene.flash_offset is not None:
            x, y, z = scene.flash_offset.tolist()
            offset = (x, y, z)
        record = CaptureRecord(scene.surroundings, 0.0, kind != "no_flash", scene.ambient, None, kind, offset)
        cameras = [record_camera(*camera) for camera in scene.cameras]
        write_views(folder.input, index, {"clean": list(photos)})
        folder.add(index, name, cameras, record)
    # The folder gets no synthesis.json, so that nobody continues it with our renderer.
    folder.save()


def main() -> None:
    """Read the options and write the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--materials", default="neuropbr:examples/materials")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--view-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", dest="kinds", action="append", choices=CAPTURE_KINDS)
    parser.add_argument("--rays", type=int, default=64, help="rays a pixel")
    given = parser.parse_args()
    plan = Synthesize(
        given.materials,
        samples=given.samples,
        size=given.size,
        view_size=given.view_size,
        seed=given.seed,
        kinds=tuple(given.kinds or ("flash",)),
    )
    write_captures(plan, given.output, views=given.views, rays=given.rays)


if __name__ == "__main__":
    main()
