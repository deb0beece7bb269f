"""Photos that were held back, re-rendered with the maps that the other photos gave: how good is a model on real ones?

    python benchmarks/real_captures.py FOLDER… --refine 200 --json real.json

Each FOLDER has the rectified flash photos of one flat material and their cameras: a `cameras.json` of this project,
or one of two forms in which public captures come, with the camera of each photo in the unit of the patch's side:
`camera_pos.txt` beside `image_size.txt`, or a JSON file with `camera_pos` and `image_size` or `im_size`.

Maps are predicted from the first photos by name, and all other photos are rendered with them under a flash at the
lens. One gain for all photos is fitted on the used ones. With all photos in use, the error is of these. The number is
the RMSE of sRGB-encoded values at 256², beside that of the median of the views with roughness 0.5, no metal, flat.
The rows "with light" add the light from around that the refinement found.
"""

import argparse
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import fit_photo, read_view
from neuropbr_core.data.layout.paths import list_photos
from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.evaluation.baselines import Baselines
from neuropbr_core.files import write_json
from neuropbr_core.inference import (
    LoadedGenerator,
    ViewSet,
    load_generator,
    predict_turned,
    read_views,
    refine_prediction,
)
from neuropbr_core.inference.refine import linear_photos
from neuropbr_core.materials.alignment import warp_views
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.outputs.material import resample_maps
from neuropbr_core.shipped import DEFAULT_MODEL, shipped_model

SIZE = 256
COUNTS = (5, 9, 3)


def read_folder(folder: Path) -> ViewSet:
    """Read photos and cameras in any of the three forms.

    Raises:
        DataError: The cameras are missing, or do not fit the photos.
    """
    if (folder / "cameras.json").is_file():
        return read_views(folder)
    positions = torch.tensor(_positions(folder), dtype=torch.float32)
    paths = list_photos(folder)
    if positions.shape != (len(paths), 3):
        raise DataError(f"{folder}: has {len(paths)} photos, but cameras of shape {tuple(positions.shape)}")
    images = []
    for path in paths:
        images.append(torch.from_numpy(read_view(path)))
    # Rectified photos show the patch from edge to edge.
    return ViewSet(paths, tuple(images), torch.eye(3).repeat(len(paths), 1, 1), positions)


def _positions(folder: Path) -> list[list[float]]:
    """Cameras in sides of the patch, from one of the two public forms."""
    table = folder / "camera_pos.txt"
    if table.is_file():
        rows = np.loadtxt(table, delimiter=",", ndmin=2)
        return (rows / float((folder / "image_size.txt").read_text())).tolist()  # type: ignore[no-any-return]
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text())
        side = content.get("image_size", content.get("im_size"))
        if side and "camera_pos" in content:
            return (np.array(content["camera_pos"]) / side).tolist()  # type: ignore[no-any-return]
    raise DataError(f"{folder}: has no cameras; give a cameras.json, or camera_pos.txt with image_size.txt")


def first_views(views: ViewSet, count: int) -> ViewSet:
    """The first photos of a capture."""
    homographies, positions = cameras(views)
    return replace(
        views,
        paths=views.paths[:count],
        images=views.images[:count],
        homographies=homographies[:count],
        positions=positions[:count],
        masks=views.masks[:count],
    )


def cameras(views: ViewSet) -> tuple[Tensor, Tensor]:
    """Homographies and positions of a capture, whose folder was checked for them."""
    if views.homographies is None or views.positions is None:
        raise DataError(f"{views.folder}: has no cameras")
    return views.homographies, views.positions


def texture_photos(views: ViewSet) -> tuple[Tensor, Tensor]:
    """All photos in the texture frame at 256², sRGB-encoded, and where they show it."""
    homographies, _ = cameras(views)
    fitted = []
    for image in views.images:
        fitted.append(torch.from_numpy(fit_photo(image.numpy(), SIZE)).float() / 255)
    photos, visible = warp_views(torch.stack(fitted)[None], homographies[None], torch.eye(3)[None], SIZE)
    return photos[0], visible[0]


def held_back_error(maps: Maps, views: ViewSet, used: int, ambient: Tensor) -> float:
    """RMSE of encoded values on the photos that were not used; on all when all were used.

    Args:
        maps: Maps at 256².
        views: The whole capture.
        used: How many photos the maps were made from.
        ambient: Light from around, with a flash that makes the rest of 1.
    """
    _, positions = cameras(views)
    photos, visible = texture_photos(views)
    rendered = linear_photos(maps, positions, ambient)
    gain = _best_gain(rendered[:used], photos[:used], visible[:used])
    held_back = slice(used, None)
    if used == len(photos):
        held_back = slice(None)
    return _rmse(rendered[held_back] * gain, photos[held_back], visible[held_back])


def _best_gain(rendered: Tensor, photos: Tensor, visible: Tensor) -> float:
    """The gain with the least error, to a fiftieth: a coarse grid over ±3 stops first, then a fine one."""
    best = 0.0
    for width, steps in ((2.1, 43), (0.1, 11)):
        candidates = (best + np.linspace(-width, width, steps)).tolist()
        best = min(candidates, key=lambda log_gain: _rmse(rendered * math.exp(log_gain), photos, visible))
    return math.exp(best)


def _rmse(linear: Tensor, photos: Tensor, visible: Tensor) -> float:
    squared = (linear_to_srgb(linear.clamp(0, 1)) - photos).square() * visible
    return float((squared.sum() / (visible.sum() * 3)).sqrt())


def measure(model: LoadedGenerator, folder: Path, count: int, steps: int) -> dict[str, Any]:
    """Score a model on a capture with some photos used."""
    views = read_folder(folder)
    used = first_views(views, count)
    inputs = model.prepare(used)
    maps = predict_turned(model.apply, inputs)
    none = torch.zeros(3)
    baseline = held_back_error(_at_size(_baseline(inputs, maps)), views, count, none)
    predicted = held_back_error(_at_size(maps), views, count, none)
    row: dict[str, Any] = {
        "capture": folder.name,
        "photos": count,
        "baseline": baseline,
        "predicted": predicted,
        "predicted_metallic": float(maps["metallic"].mean()),
    }
    if steps:
        refinement = refine_prediction(model, used, inputs, maps, steps)
        refined = _at_size(refinement.maps)
        row["refined"] = held_back_error(refined, views, count, none)
        row["refined_with_light"] = held_back_error(refined, views, count, refinement.light.ambient)
        row["refined_metallic"] = float(refined["metallic"].mean())
    return row


def _baseline(inputs: dict[str, Tensor], maps: Maps) -> Maps:
    """Median of the views, roughness 0.5, no metal, flat."""
    visible = inputs.get("visible", torch.ones_like(inputs["views"][:, :, :1]))
    baselines = Baselines({})
    return baselines.naive(baselines.predictions(inputs["views"], visible, maps), maps["roughness"])


def _at_size(maps: Maps) -> Maps:
    return resample_maps({name: value.contiguous() for name, value in maps.items()}, SIZE)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--model", metavar="NAME", default=DEFAULT_MODEL, help="a model that ships")
    parser.add_argument("--run", metavar="DIR", help="instead: a run")
    parser.add_argument("--checkpoint", default="best", help="of the run")
    parser.add_argument("--refine", type=int, default=0, metavar="N", help="refine with N steps")
    parser.add_argument(
        "--photos", type=int, nargs="+", default=list(COUNTS), metavar="N", help="numbers of used photos"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    try:
        if arguments.run:
            model = load_generator(arguments.run, arguments.checkpoint)
        else:
            model = load_generator(shipped_model(arguments.model).folder)
        rows = []
        print("| capture | photos | baseline | predicted | refined | with light | metallic: predicted, refined |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for folder in arguments.folders:
            for count in arguments.photos:
                row = measure(model, folder, min(count, len(list_photos(folder))), arguments.refine)
                rows.append(row)
                print(_line(row), flush=True)
    except NeuroPBRError as error:
        raise SystemExit(f"error: {error}") from None
    if arguments.json:
        write_json(arguments.json, {"model": str(model.checkpoint), "refine": arguments.refine, "rows": rows})


def _line(row: dict[str, Any]) -> str:
    cells = [str(row["capture"]), str(row["photos"])]
    for name in ("baseline", "predicted", "refined", "refined_with_light"):
        cell = ""
        if name in row:
            cell = f"{row[name]:.3f} ({row[name] / row['baseline']:.2f} ×)"
        cells.append(cell)
    metallic = f"{row['predicted_metallic']:.2f}"
    if "refined_metallic" in row:
        metallic += f", {row['refined_metallic']:.2f}"
    return "| " + " | ".join([*cells, metallic]) + " |"


if __name__ == "__main__":
    main()
