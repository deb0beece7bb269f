"""What a white reference in the first photo brings, on photos of wrong exposure and colour.

    python benchmarks/white.py --json white.json

A sheet of white paper is put into a corner of each example material, and three flash photos are rendered: as they
should be, a stop too dark in reddish light, and a third of a stop too dark in bluish light. Printed is the error of the
albedo outside the paper, as predicted and refined: without a reference, with its place given, and with the paper found
by itself. The means over materials are followed by their standard deviations.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import read_map
from neuropbr_core.data.layout.paths import record_camera, write_cameras
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.metrics import measure
from neuropbr_core.files import write_json
from neuropbr_core.inference import LoadedGenerator, WhiteReference, infer, load_generator
from neuropbr_core.inference.white import PAPER
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.capture import render_capture
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.shipped import DEFAULT_MODEL, shipped_root

SIZE = 384
TOP, LEFT, HEIGHT, WIDTH = 20, 270, 70, 100
"""Place of the paper in the maps, in pixels; the photo from above shows it nearly there."""
INSIDE = (290, 38, 60, 34)
"""A region of the first photo within the paper."""
# The upper right corner without a margin around the paper, over whose border the network mixes both.
BESIDE = 30
LIGHTS = {
    "as they should be": (0.0, (1.0, 1.0, 1.0)),
    "1 stop too dark, reddish": (-1.0, (1.2, 1.0, 0.8)),
    "1/3 stop too dark, bluish": (-0.33, (0.9, 1.0, 1.1)),
}
WAYS = {"no reference": None, "region": WhiteReference(INSIDE), "auto": WhiteReference("auto")}


def with_paper(folder: Path) -> Maps:
    """The maps of a material, `(1, channels, SIZE, SIZE)`, with a sheet of paper in a corner."""
    maps = {}
    for name, spec in MAPS.items():
        pixels = read_map(next(folder.glob(f"{name}.*")), spec, SIZE)
        maps[name] = decode_map(spec, torch.from_numpy(pixels))[None]
    paper = (..., slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH))
    maps["albedo"][paper] = float(linear_to_srgb(torch.tensor(PAPER)))
    maps["roughness"][paper] = 0.9
    maps["metallic"][paper] = 0.0
    maps["normal"][paper] = torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    return maps


def photograph(maps: Maps, folder: Path) -> Tensor:
    """Write the cameras of three photos into a folder; return the photos, linear, `(3, 3, SIZE, SIZE)`."""
    capture = render_capture(maps, 3, SIZE, torch.Generator().manual_seed(3))
    records = tuple(record_camera(camera.homography, camera.position) for camera in capture.cameras)
    write_cameras(folder / "cameras.json", {folder.name: records})
    return srgb_to_linear(capture.views.float() / 255)


def albedo_error(model: LoadedGenerator, folder: Path, white: WhiteReference | None, steps: int, truth: Maps) -> float:
    """PSNR of the albedo outside the paper, in dB."""
    maps = infer(folder, model, white=white, refine=steps).maps
    size = maps["albedo"].shape[-1]
    valid = torch.ones(1, 1, SIZE, SIZE)
    valid[..., : TOP + HEIGHT + BESIDE, LEFT - BESIDE :] = 0
    sized = {name: F.interpolate(value, size=(size, size), mode="area") for name, value in truth.items()}
    return float(measure(maps, sized, F.interpolate(valid, size=(size, size)))["albedo/psnr"])


def main() -> None:
    """Measure all materials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--materials", default=str(shipped_root() / "examples" / "materials"), metavar="DIR")
    parser.add_argument("--json", metavar="FILE", help="write the numbers here too")
    options = parser.parse_args()
    model = load_generator(f"neuropbr:{DEFAULT_MODEL}")
    if not isinstance(model, LoadedGenerator):
        raise SystemExit("the model in the box is no run's")
    errors: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    not_found = 0
    for material in sorted(path for path in Path(options.materials).iterdir() if path.is_dir()):
        truth = with_paper(material)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / material.name
            folder.mkdir()
            linear = photograph(truth, folder)
            for light, (stops, cast) in LIGHTS.items():
                changed = linear * 2**stops * torch.tensor(cast)[:, None, None]
                for index, photo in enumerate(linear_to_srgb(changed.clamp(0, 1))):
                    pixels = (photo * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(folder / f"{index}.png")
                for way, white in WAYS.items():
                    for steps in (0, 200):
                        try:
                            errors[light, way, steps].append(albedo_error(model, folder, white, steps, truth))
                        except DataError as error:
                            not_found += 1
                            print(f"{material.name}, {light}, {way}: {error}")
    print("| photos | reference | albedo as predicted | refined |")
    print("| --- | --- | --- | --- |")
    rows = []
    for light in LIGHTS:
        for way in WAYS:
            cells = []
            for steps in (0, 200):
                values = errors[light, way, steps]
                cells.append(f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} dB")
                rows.append({"light": light, "reference": way, "steps": steps, "albedo/psnr": values})
            print(f"| {light} | {way} | {cells[0]} | {cells[1]} |")
    print(f"paper not found or not usable: {not_found // 2} times")
    if options.json:
        write_json(Path(options.json), rows)


if __name__ == "__main__":
    main()
