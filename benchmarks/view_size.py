"""How much detail is left when photos of several sizes are warped into the texture frame.

    python benchmarks/view_size.py --size 128 --json view_size.json

Shows colour and slopes of materials, in all the detail that their files have, through known cameras, as photos would;
warps the photos back, and correlates what arrives with the maps averaged down to `--size`, after both have lost what is
coarser than a few pixels. `taps 1` interpolates bilinearly at
pixel centres; `averaged` averages what a pixel covers, as training and inference do.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.data.images import read_map
from neuropbr_core.data.layout.paths import map_files
from neuropbr_core.data.synthesis.render import find_materials
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import identity_frame, taps_needed, warp_views
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.materials.capture import surface_for
from neuropbr_core.materials.color import luminance, srgb_to_linear
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.render import rasterize
from neuropbr_core.materials.surface import Point
from neuropbr_core.shipped import resolve

FACTORS = (1.0, 1.5, 2.0, 3.0, 4.0)


def shown(point: Point, _: Tensor) -> Tensor:
    """Luminance and the two slopes of a surface."""
    return torch.cat((luminance(point.reflectance.base_linear), point.normal[:2] / point.normal[2:]))


def detail(images: Tensor) -> Tensor:
    """What a blur of a few pixels takes away."""
    return images - F.avg_pool2d(images, 5, 1, 2, count_include_pad=False)


def correlation(found: Tensor, truth: Tensor, seen: Tensor) -> Tensor:
    """Correlation of each channel over the pixels that are seen; NaN for a channel without detail."""
    a, b = (values[:, seen] - values[:, seen].mean(dim=1, keepdim=True) for values in (found, truth))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def measure(
    fine: dict[str, Tensor], maps: dict[str, Tensor], size: int, factor: float, seed: int
) -> dict[str, list[float]]:
    """Correlations of the tilted views of one capture, luminance and slopes in turn, by way of sampling.

    Args:
        fine: What is photographed.
        maps: The truth.
        size: Side of the truth in pixels.
        factor: Side of the photos over that.
        seed: Seed of the cameras.
    """
    side = round(size * factor)
    cameras = sample_cameras(torch.Generator().manual_seed(seed), 3)[1:]
    photos = torch.stack([rasterize(surface_for(fine, side), camera, side, shown) for camera in cameras])[None]
    homographies = torch.stack([camera.homography for camera in cameras])[None]
    normal = maps["normal"]
    truth = torch.cat((luminance(srgb_to_linear(maps["albedo"])), normal[:, :2] / normal[:, 2:]), dim=1)
    result = {}
    for name, taps in (("taps 1", 1), ("averaged", taps_needed(homographies, identity_frame(1), (side, side), size))):
        aligned, visible = warp_views(photos, homographies, identity_frame(1), size, taps)
        kept = [
            correlation(detail(view[None])[0], detail(truth)[0], F.avg_pool2d(mask, 9, 1, 4)[0] > 0.999)
            for view, mask in zip(aligned[0], visible[0], strict=True)
        ]
        mean = torch.stack(kept).mean(0)
        result[name] = [float(mean[0]), float(mean[1:].nanmean())]
    return result


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="Detail that is left after alignment, by size of the photos.")
    parser.add_argument("--materials", default="neuropbr:examples/materials", help="folder of material folders")
    parser.add_argument("--size", type=int, default=128, help="side of the maps in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cameras")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    rows = []
    print(f"{'material':22}{'photos':>8}{'sampling':>12}{'luminance':>11}{'slopes':>9}")
    for name, folder in find_materials(resolve(options.materials)).items():
        fine, maps = (
            {
                key: decode_map(MAPS[key], torch.from_numpy(read_map(path, MAPS[key], size))[None])
                for key, path in map_files(folder).items()
            }
            for size in (None, options.size)
        )
        for factor in FACTORS:
            for way, (light, slopes) in measure(fine, maps, options.size, factor, options.seed).items():
                rows.append((name, factor, way, light, slopes))
                print(f"{name:22}{factor:7.1f}x{way:>12}{light:11.3f}{slopes:9.3f}")
    for factor in FACTORS:
        for way in ("taps 1", "averaged"):
            chosen = torch.tensor([row[3:] for row in rows if row[1:3] == (factor, way)])
            light, slopes = chosen.nanmean(0).tolist()
            print(f"{'mean':22}{factor:7.1f}x{way:>12}{light:11.3f}{slopes:9.3f}")
    if options.json:
        keys = ("material", "factor", "sampling", "luminance", "slopes")
        options.json.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
