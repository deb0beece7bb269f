"""Time and size of each packager for one material.

    python benchmarks/packagers.py MAPS [--json FILE]

MAPS is a folder of maps as `neuropbr infer` writes them. The maps that are derived from the normals are computed once,
for all packagers, and timed apart.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from neuropbr_core.outputs import choose_targets, read_material, write_packages
from neuropbr_core.registry import default_registry


@dataclass(frozen=True)
class Measurement:
    """One packager.

    Attributes:
        packager: Its name.
        seconds: Wall time of the package, without derived maps.
        mebibytes: Size of all its files.
        files: How many there are.
    """

    packager: str
    seconds: float
    mebibytes: float
    files: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there too")
    arguments = parser.parse_args()
    start = time.perf_counter()
    material = read_material(arguments.maps)
    print(f"reading {material.size}² maps: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    for name in ("height", "ao", "cavity"):
        material.layer(name)
    print(f"derived maps and seam scores: {time.perf_counter() - start:.1f} s")
    registry = default_registry()
    measurements = []
    with tempfile.TemporaryDirectory() as folder:
        for entry in registry.entries("packager"):
            targets = choose_targets({entry.name: registry.choose("packager", entry.qualified)})
            start = time.perf_counter()
            (package,) = write_packages(material, targets, folder)
            seconds = time.perf_counter() - start
            sizes = [path.stat().st_size for path in package.rglob("*") if path.is_file()]
            measurement = Measurement(entry.name, round(seconds, 2), round(sum(sizes) / 2**20, 1), len(sizes))
            measurements.append(measurement)
            print(f"| `{entry.name}` | {measurement.seconds} | {measurement.mebibytes} | {measurement.files} |")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in measurements], indent=2) + "\n")


if __name__ == "__main__":
    main()
