"""What fusion by windows costs beside fusion by whole frames, against the size of the latents.

    python benchmarks/fusion.py [--counted 64 128 256 512] [--timed 16 32 64] [--rounds 3] [--json FILE]

Both blocks have the same width, heads and depth, and fuse three views. Operations are counted on tensors without
values. Times are processor times of one thread, forward and backward; both blocks take turns, and each round gives one
ratio.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from neuropbr_core.contracts import Fusion
from neuropbr_core.registry import default_registry

VIEWS = 3
CHANNELS = 64
OPTIONS = {"dim": 64, "heads": 4, "depth": 4}


def make(name: str) -> Fusion:
    """Build a block."""
    fusion: Fusion = default_registry().choose("fusion", name, OPTIONS).create(in_channels=CHANNELS)
    return fusion


def operations(name: str, side: int) -> int:
    """Count the operations of a forward pass, a multiplication and its addition as two."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        make(name)(torch.zeros(1, VIEWS, CHANNELS, side, side))
    return int(counter.get_total_flops())


def seconds(fusion: Fusion, side: int) -> float:
    """Processor time of a forward and a backward pass."""
    latents = torch.randn(1, VIEWS, CHANNELS, side, side, requires_grad=True)
    start = time.process_time()
    fusion(latents).square().mean().backward()
    return time.process_time() - start


def main() -> None:
    """Count, measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--counted", nargs="+", type=int, default=(64, 128, 256, 512), help="sides that are counted")
    parser.add_argument("--timed", nargs="+", type=int, default=(16, 32, 64), help="sides that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="timed passes of each block (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counted: list[dict[str, Any]] = []
    print("| latents | window, × before | vit, × before | vit / window |\n| --- | --- | --- | --- |")
    for side in options.counted:
        row = {"side": side, "window": operations("window", side), "vit": operations("vit", side)}
        growth = ["", ""]
        if counted:
            growth = [f"{row[name] / counted[-1][name]:.2f}" for name in ("window", "vit")]
        counted.append(row)
        print(f"| {side}×{side} | {growth[0]} | {growth[1]} | {row['vit'] / row['window']:.1f} |")
    print("\n| latents | vit / window, processor time |\n| --- | --- |")
    window = make("window")
    vit = make("vit")
    seconds(window, 8)  # warm up
    seconds(vit, 8)
    timed = []
    for side in options.timed:
        pairs = [(seconds(window, side), seconds(vit, side)) for _ in range(options.rounds)]
        ratios = [whole / windowed for windowed, whole in pairs]
        timed.append({"side": side, "window": [pair[0] for pair in pairs], "vit": [pair[1] for pair in pairs]})
        print(
            f"| {side}×{side} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |", flush=True
        )
    if options.json:
        options.json.write_text(json.dumps({"counted": counted, "timed": timed}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
