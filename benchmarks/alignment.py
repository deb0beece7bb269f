"""Same-pixel error of a capture's views: unaligned, registered from the pictures alone, and with recorded cameras.

    python benchmarks/alignment.py --captures 2 --size 512 --json alignment.json

Renders captures of materials with known cameras, and asks of each view but the first: how far apart in the material are
the points that one pixel shows, in the view and in the frame that it should lie in? That frame is the texture, or, for
photos alone, the first photo. Views that registration refuses count as failures, not in the means; a view that it
accepts although it is off by more than 2 % of the tile counts as wrong.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neuropbr_core.data.images import Stored, read_map
from neuropbr_core.data.layout.paths import map_files, record_camera
from neuropbr_core.data.registration.register import Registration, register_photos
from neuropbr_core.data.synthesis.render import find_materials
from neuropbr_core.errors import DataError
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.materials.cameras import Camera
from neuropbr_core.materials.capture import Capture, render_capture
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.shipped import resolve

Array = npt.NDArray[np.float64]

WRONG = 0.02
_STEPS = (np.arange(32) + 0.5) / 32
GRID: Array = np.stack(np.meshgrid(_STEPS, _STEPS), axis=-1).reshape(-1, 2)
ROWS = (
    "unaligned, to the first photo",
    "estimated, to the first photo",
    "unaligned, to the texture",
    "estimated, to the texture",
    "recorded, to the texture",
)


@dataclass
class Tally:
    """What was measured.

    Attributes:
        errors: Mean error of each view in sides of the tile, by row of the table.
        angles: Mean angle of each estimated view's directions to the true ones, in degrees.
        confidence: Confidence of each accepted view.
        loose: Accepted views whose first photo could not be registered to the true albedo.
        refused: Views that were refused, `MATERIAL/VIEW`.
        wrong: Views that were accepted although they are wrong.
    """

    errors: dict[str, list[float]] = field(default_factory=lambda: {row: [] for row in ROWS})
    angles: list[float] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    loose: int = 0
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def views(self) -> int:
        """Views measured."""
        return len(self.errors["unaligned, to the texture"])


def captures(materials: Path, count: int, size: int, seed: int) -> Iterator[tuple[str, Stored, Capture]]:
    """Render captures of every material of a folder; its name and true albedo come with them."""
    for index, (name, folder) in enumerate(find_materials(materials).items()):
        stored = {name: read_map(path, MAPS[name], size) for name, path in map_files(folder).items()}
        maps = {name: decode_map(MAPS[name], torch.from_numpy(values)[None]) for name, values in stored.items()}
        for number in range(count):
            generator = torch.Generator().manual_seed(seed + index * count + number)
            yield name, stored[ALBEDO.name], render_capture(maps, 3, size, generator)


def measure(tally: Tally, name: str, albedo: Stored | None, capture: Capture) -> None:
    """Add a capture's views to a tally; each tilted view is registered on its own, so that one cannot fail another."""
    true = [camera.homography.double().numpy() for camera in capture.cameras]
    first = np.linalg.inv(true[0])
    for view in range(1, len(true)):
        recorded = np.array(record_camera(capture.cameras[view].homography, capture.cameras[view].position).homography)
        tally.errors["unaligned, to the first photo"].append(_error(true[view], np.eye(3), first))
        tally.errors["unaligned, to the texture"].append(_error(true[view], np.eye(3), np.eye(3)))
        tally.errors["recorded, to the texture"].append(_error(true[view], recorded, np.eye(3)))
        found = _register(capture, view, albedo)
        if found is None:
            tally.refused.append(f"{name}/{view}")
            continue
        to_first, to_view = (np.array(camera.homography) for camera in found.cameras)
        tally.errors["estimated, to the first photo"].append(
            _error(true[view], to_view @ np.linalg.inv(to_first), first)
        )
        tally.errors["estimated, to the texture"].append(_error(true[view], to_view, np.eye(3)))
        tally.loose += not found.confidence[0]
        tally.angles.append(_angle(np.array(found.cameras[1].position), capture.cameras[view]))
        tally.confidence.append(found.confidence[1])
        if tally.errors["estimated, to the first photo"][-1] > WRONG:
            tally.wrong.append(f"{name}/{view}")


def _register(capture: Capture, view: int, albedo: Stored | None) -> Registration | None:
    photos = capture.views.numpy()
    try:
        return register_photos([photos[0], photos[view]], ["0", str(view)], albedo)
    except DataError:
        return None


def _error(true: Array, used: Array, frame: Array) -> float:
    """Mean distance in the material between what a view shows through `used` and what the frame shows.

    Args:
        true: Texture to view.
        used: Frame to view, as alignment assumes.
        frame: Frame to texture.
    """
    return float(np.linalg.norm(_move(np.linalg.inv(true) @ used) - _move(frame), axis=1).mean())


def _move(matrix: Array) -> Array:
    moved = np.column_stack((GRID, np.ones(len(GRID)))) @ matrix.T
    result: Array = moved[:, :2] / moved[:, 2:]
    return result


def _angle(found: Array, camera: Camera) -> float:
    """Mean angle between directions to where a camera was found and to where it is, in degrees."""
    points = np.column_stack((GRID[:, 0] - 0.5, 0.5 - GRID[:, 1], np.zeros(len(GRID))))
    towards = [position - points for position in (found, camera.position.double().numpy())]
    a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in towards)
    return float(np.degrees(np.arccos(np.clip((a * b).sum(axis=1), -1, 1))).mean())


def summarize(tally: Tally, size: int) -> dict[str, object]:
    """Plain numbers for people and programs."""
    table = {
        row: {
            "mean": float(np.mean(errors)),
            "median": float(np.median(errors)),
            "p95": float(np.percentile(errors, 95)),
            "mean_pixels": float(np.mean(errors)) * size,
        }
        for row, errors in tally.errors.items()
        if errors
    }
    return {
        "views": tally.views,
        "size": size,
        "errors": table,
        "direction_degrees": float(np.mean(tally.angles)) if tally.angles else None,
        "lowest_confidence": min(tally.confidence, default=None),
        "not_registered_to_albedo": tally.loose,
        "refused": tally.refused,
        "wrong": tally.wrong,
    }


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Same-pixel error before and after alignment.")
    parser.add_argument("--materials", default="neuropbr:examples/materials", help="folder of material folders")
    parser.add_argument("--captures", type=int, default=2, help="captures of each material, of three views each")
    parser.add_argument("--size", type=int, default=512, help="side of the photos in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first capture")
    parser.add_argument("--photos-only", action="store_true", help="do not register first photos to the true albedo")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    tally = Tally()
    for name, albedo, capture in captures(resolve(options.materials), options.captures, options.size, options.seed):
        measure(tally, name, None if options.photos_only else albedo, capture)
    result = summarize(tally, options.size)
    print(f"{'same-pixel error, in sides of the tile':40}{'mean':>9}{'median':>9}{'95 %':>9}{'mean, px':>10}")
    for row, errors in tally.errors.items():
        if errors:
            mean, median, high = np.mean(errors), np.median(errors), np.percentile(errors, 95)
            print(f"{row:40}{mean:9.5f}{median:9.5f}{high:9.5f}{mean * options.size:10.2f}")
    if tally.angles:
        print(f"directions to the estimated cameras: {np.mean(tally.angles):.1f}° off on average")
        print(f"lowest confidence of an accepted view: {min(tally.confidence):.2f}")
    if not options.photos_only:
        print(f"first photo not registered to the true albedo: {tally.loose} views")
    print(f"refused: {len(tally.refused)} of {tally.views} views {' '.join(tally.refused)}")
    print(f"accepted but wrong: {len(tally.wrong)} of {tally.views} views {' '.join(tally.wrong)}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
