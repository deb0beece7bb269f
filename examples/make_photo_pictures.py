"""Render the pictures of `docs/photos.md` again: `python examples/make_photo_pictures.py`.

Four sets of photos of one material (right, too far, no flash, moved), each as a strip of three, into `docs/images/`.
The material is one of `examples/materials/` (CC0-1.0).
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neuropbr_core.data.images import read_map
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import Camera, look_at
from neuropbr_core.materials.capture import Scene, draw_scene, surface_for, take_clean
from neuropbr_core.materials.capture_kinds import CaptureKind
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.shipped import resolve

MATERIAL = "acg_Bricks102"
SIZE = 224  # pixels; three beside each other fit the width of a page
GAP = 8  # white pixels between two photos
FOCAL = 1.3  # in sides of the photo: about a phone's wide lens, cut to its middle
SEED = 11
FOLDER = Path(__file__).parents[1] / "docs" / "images"


def camera(tilt: float, azimuth: float, distance: float, aim: tuple[float, float] = (0.0, 0.0)) -> Camera:
    """A phone that looks at `aim`, tilted by degrees towards a side."""
    tilt = math.radians(tilt)
    azimuth = math.radians(azimuth)
    towards = (math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), math.cos(tilt))
    position = torch.tensor(towards) * distance + torch.tensor((*aim, 0.0))
    return look_at(position, torch.tensor(aim), FOCAL)


SETS = {
    "right": (True, [camera(0, 0, 1.35), camera(30, 30, 1.35), camera(30, 150, 1.35)]),
    "too_far": (True, [camera(0, 0, 3.6), camera(30, 30, 3.6), camera(30, 150, 3.6)]),
    "no_flash": (False, [camera(0, 0, 1.35), camera(30, 30, 1.35), camera(30, 150, 1.35)]),
    "moved": (True, [camera(0, 0, 1.35), camera(20, 30, 1.35, (0.75, 0.3)), camera(20, 150, 1.35, (-0.8, -0.3))]),
}


def main() -> None:
    """Render and write the strips."""
    folder = resolve("neuropbr:examples/materials") / MATERIAL
    maps = {}
    for name, spec in MAPS.items():
        stored = torch.from_numpy(read_map(folder / spec.file_name, spec))
        maps[name] = decode_map(spec, stored[None])
    surface = surface_for(maps, SIZE)
    for name, (flash, cameras) in SETS.items():
        # One seed, so that all sets have the same surroundings and differ in one thing.
        kind: CaptureKind = "no_flash"
        if flash:
            kind = "flash"
        scene: Scene = draw_scene(torch.Generator().manual_seed(SEED), len(cameras), kind=kind)
        scene = scene._replace(cameras=cameras)
        photos = take_clean(surface, scene, SIZE, torch.Generator().manual_seed(SEED), "auto")
        strip = Image.new("RGB", (len(photos) * (SIZE + GAP) - GAP, SIZE), "white")
        for view, photo in enumerate(photos):
            pixels = np.moveaxis(photo.numpy(), 0, 2)
            strip.paste(Image.fromarray(np.ascontiguousarray(pixels)), (view * (SIZE + GAP), 0))
        strip.save(FOLDER / f"photos_{name}.jpg", quality=82)


if __name__ == "__main__":
    main()
