"""Loading: packed images against decoding PNGs with Pillow and torchvision, and against plain memory copies.

    python benchmarks/loading.py --materials DIR [--quick] [--json FILE]

A dataset is made from the materials (three views and four maps a sample, as PNG), packed, and loaded in turns:

- usual: Pillow, `ToTensor` and `Normalize` in a `DataLoader`, whole frames, without and with worker processes
- usual crops: the same, but cropped before `ToTensor`
- packed: our loader on a pack, whole frames and crops, with flips and turns, and with recorded alignment
- unpacked: our loader on the PNGs, with threads and without a cache
- copy: `numpy.copyto` of as many bytes as whole frames have, between arrays that are there

Everything is warm: files are in the page cache. Each one's median round counts. Peak memory is that of a process of
its own, anonymous pages alone, above what it had before its first batch. Exits with 1 when a target is missed.
"""

import argparse
import gc
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.batches.loader import train_loader, val_loader
from neuropbr_core.data.layout.paths import CameraRecord, map_files, write_cameras
from neuropbr_core.data.layout.scan import Sample, find_samples
from neuropbr_core.data.pack.choose import digest_images, open_images, pack_images
from neuropbr_core.data.pack.store import DecodedImages
from neuropbr_core.data.synthesis.render import find_materials
from neuropbr_core.datasets.layout.source import LayoutSource
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.parallel import cores
from neuropbr_core.recipe.sections import Data
from neuropbr_core.shipped import resolve

VIEWS = 3
CROP_BATCH = 8
USUAL, WORKERS, USUAL_CROPS = "usual", "usual, worker processes", "usual crops"
PACKED, UNPACKED, COPY = "packed", "unpacked", "copy"
CROPS, TURNED, ALIGNED = "packed crops", "packed crops, turned", "packed crops, aligned"

Work = Callable[[], int]
"""Loads something and returns how many samples that was."""


@dataclass(frozen=True)
class Row:
    """What was measured of one way to load.

    Attributes:
        samples_per_second: Median over rounds.
        cpu_seconds: Processor seconds of a sample, of all threads and processes.
        speedup: Over the usual pipeline without workers.
    """

    samples_per_second: float
    cpu_seconds: float
    speedup: float


@dataclass(frozen=True)
class Target:
    """A figure that must be reached."""

    what: str
    found: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is."""
        low = self.at_least is None or self.found >= self.at_least
        return low and (self.at_most is None or self.found <= self.at_most)


class UsualDataset(Dataset[tuple[torch.Tensor, ...]]):
    """A sample as most training code reads it."""

    def __init__(self, samples: list[Sample], crop: int | None = None) -> None:
        self._samples, self._crop = samples, crop
        colour = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self._view = transforms.Compose([transforms.ToTensor(), colour])
        self._map = {
            channels: transforms.Compose([transforms.ToTensor(), transforms.Normalize(half, half)])
            for channels, half in ((1, (0.5,)), (3, (0.5, 0.5, 0.5)))
        }

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        sample = self._samples[index]
        views = torch.stack([self._view(self._open(path, "RGB")) for path in sample.views])
        maps = [self._map[spec.channels](self._open(sample.maps[name], spec.image_mode)) for name, spec in MAPS.items()]
        return (views, *maps)

    def _open(self, path: Path, mode: str) -> Image.Image:
        with Image.open(path) as image:
            found = image.convert(mode)
        return found if self._crop is None else found.crop((0, 0, self._crop, self._crop))


def make_dataset(root: Path, materials: Path, samples: int, size: int) -> int:
    """Write a dataset: maps resized, views made from the albedo with noise; returns the bytes of its PNGs."""
    folders, names, cameras = find_materials(materials), {}, {}
    rng = np.random.default_rng(0)
    used = dict(list(folders.items())[:samples])
    for material, folder in used.items():
        for name, path in map_files(folder).items():
            with Image.open(path) as image:
                _save(image.convert(MAPS[name].image_mode).resize((size, size)), root / "output" / material / path.name)
    for index in range(samples):
        name, material = f"sample_{index:04d}", list(used)[index % len(used)]
        names[name], cameras[name] = material, _cameras(index)
        with Image.open(root / "output" / material / "albedo.png") as image:
            albedo = np.asarray(image, np.int16)
        for view in range(VIEWS):
            noisy = (albedo * (0.6 + 0.2 * view) + rng.normal(0, 2, albedo.shape)).clip(0, 255).astype(np.uint8)
            _save(Image.fromarray(noisy), root / "input/clean" / name / f"{view}.png")
    (root / "input/render_metadata.json").write_text(json.dumps(names))
    write_cameras(root / "input/cameras.json", cameras)
    return sum(path.stat().st_size for path in root.rglob("*.png"))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)  # quick to write; takes as long to decode as any other


def _cameras(index: int) -> tuple[CameraRecord, ...]:
    found = sample_cameras(torch.Generator().manual_seed(index), VIEWS)
    records = []
    for camera in found:
        plain = {"homography": camera.homography.tolist(), "position": camera.position.tolist()}
        records.append(msgspec.convert(plain, CameraRecord))
    return tuple(records)


def opened(data: Data, *, train: bool = False) -> MaterialDataset:
    """The dataset of a section `data`, packed if that says so; else each image is decoded every time."""
    source, samples = LayoutSource(data), find_samples(data)
    images = open_images(source, samples, data, digest_images(source, samples))
    if isinstance(images, DecodedImages):
        images.cache.limit = 0
    return MaterialDataset(samples, data, images, train=train)


def consume(batches: Iterable[object]) -> int:
    """Take batches one by one, letting go of each before the next; returns their number."""
    count = 0
    for batch in batches:
        count += 1
        del batch
    return count


def usual(samples: list[Sample], crop: int | None = None, workers: int = 0) -> int:
    """Load every sample the usual way."""
    return consume(DataLoader(UsualDataset(samples, crop), batch_size=1, num_workers=workers))


def frames(dataset: MaterialDataset) -> int:
    """Load every sample whole."""
    return consume(val_loader(dataset, 1))


def crops(dataset: MaterialDataset) -> int:
    """Load an epoch of crops."""
    return consume(train_loader(dataset, CROP_BATCH, seed=0, epoch=0)) * CROP_BATCH


class Copies:
    """Plain copies of a dataset's bytes, a sample at a time."""

    def __init__(self, samples: int, nbytes: int) -> None:
        self._source = np.ones((samples, nbytes), np.uint8)
        self._target = np.ones(nbytes, np.uint8)

    def __call__(self) -> int:
        """Copy all of it."""
        for sample in self._source:
            np.copyto(self._target, sample)
        return len(self._source)


def sections(root: Path, size: int, crop: int) -> dict[str, Data]:
    """Section `data` of each of our ways to load."""
    data = Data(root=str(root), image_size=size, output_size=size)
    cropped = replace(data, crop_size=crop, repeats=64)
    return {
        PACKED: data,
        UNPACKED: replace(data, pack="off"),
        CROPS: cropped,
        TURNED: replace(cropped, augment=True),
        ALIGNED: replace(cropped, alignment="recorded"),
    }


def work(name: str, root: Path, size: int, crop: int) -> Work:
    """One way to load, ready to be called."""
    found = sections(root, size, crop)
    samples = find_samples(found[PACKED])
    if name in found:
        dataset = opened(found[name], train=name in (CROPS, TURNED, ALIGNED))
        return partial(crops if dataset.train else frames, dataset)
    if name == COPY:
        return Copies(len(samples), frame_bytes(size))
    return partial(usual, samples, crop if name == USUAL_CROPS else None, cores() if name == WORKERS else 0)


def frame_bytes(size: int) -> int:
    """Bytes of a whole sample."""
    return (VIEWS * 3 + sum(spec.channels for spec in MAPS.values())) * size**2


def measure(root: Path, size: int, crop: int, rounds: int) -> dict[str, Row]:
    """Time all ways in turns."""
    names = (USUAL, COPY, PACKED, CROPS, TURNED, ALIGNED, UNPACKED, USUAL_CROPS, WORKERS)
    ways = {name: work(name, root, size, crop) for name in names}
    slow = {USUAL, UNPACKED, USUAL_CROPS, WORKERS}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names:
        if name not in slow:
            ways[name]()  # maps the files and takes the memory
    for _ in range(rounds):
        for name, way in ways.items():
            found[name] += [_timed(way) for _ in range(1 if name in slow else 5)]
    medians = {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in found.items()}
    return {
        name: Row(1 / seconds, processor, medians[USUAL][0] / seconds) for name, (seconds, processor) in medians.items()
    }


def _timed(way: Work) -> tuple[float, float]:
    """Seconds and processor seconds of a sample."""
    gc.collect()
    start, before = time.perf_counter(), _processor_seconds()
    samples = way()
    return (time.perf_counter() - start) / samples, (_processor_seconds() - before) / samples


def _processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory(name: str, root: Path, size: int, crop: int) -> float:
    """Peak anonymous memory of loading, in batches, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (name, root, size, crop))


def _peak_memory(name: str, root: Path, size: int, crop: int) -> float:
    torch.set_num_threads(1)
    way = work(name, root, size, crop)
    gc.collect()
    before, peak, done = _anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, _anonymous())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        way()
    done.set()
    watcher.join()
    return (peak - before) / largest_batch(way)


def largest_batch(way: Work) -> int:
    """Bytes of the pixels of the largest batch that one of our ways loads."""
    (dataset,) = way.args if isinstance(way, partial) else ()
    loader = train_loader(dataset, CROP_BATCH, seed=0, epoch=0) if dataset.train else val_loader(dataset, 1)
    sizes = (batch.views.nbytes + sum(target.nbytes for target in batch.targets.values()) for batch in loader)
    return max(sizes)


def _anonymous() -> int:
    """Bytes of this process's anonymous pages."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def pack_cost(root: Path, size: int) -> tuple[float, int]:
    """Pack the dataset; returns seconds, and bytes of the pack."""
    data = Data(root=str(root), image_size=size, output_size=size)
    source, samples = LayoutSource(data), find_samples(data)
    start = time.perf_counter()
    digests = digest_images(source, samples)
    report = pack_images(source, samples, data, digests, root / ".pack")
    return time.perf_counter() - start, report.nbytes


def targets(rows: dict[str, Row], memory: dict[str, float]) -> list[Target]:
    """What must be reached."""
    copied = rows[PACKED].samples_per_second / rows[COPY].samples_per_second
    return [
        Target("whole frames, × the usual pipeline", rows[PACKED].speedup, at_least=20),
        Target("whole frames, share of the copy rate", copied, at_least=0.6),
        Target("crops, × the usual pipeline", rows[CROPS].speedup, at_least=250),
        Target("crops with turns, × the usual pipeline", rows[TURNED].speedup, at_least=250),
        *(Target(f"{name}, anonymous memory in batches", found, at_most=2) for name, found in memory.items()),
    ]


def report(rows: dict[str, Row], reached: list[Target], facts: dict[str, float]) -> Iterator[str]:
    """Lines for people."""
    yield f"{'':26}{'samples/s':>11}{'CPU s/sample':>14}{'× usual':>10}"
    for name, row in rows.items():
        yield f"{name:26}{row.samples_per_second:11.2f}{row.cpu_seconds:14.5f}{row.speedup:9.1f}×"
    yield ""
    yield from (f"{name:40}{value:10.3g}" for name, value in facts.items())
    yield ""
    for target in reached:
        limit = f">= {target.at_least:g}" if target.at_least is not None else f"<= {target.at_most:g}"
        yield f"{target.what:44}{target.found:10.3g}   {limit:8}{'ok' if target.met else 'MISSED'}"


def main() -> int:
    """Measure, print, and say whether all targets are met."""
    parser = argparse.ArgumentParser(description="Loading from a pack, relative to decoding PNGs.")
    parser.add_argument("--materials", default="neuropbr:examples/materials", help="folder of material folders")
    parser.add_argument("--samples", type=int, default=4, help="samples in the dataset")
    parser.add_argument("--size", type=int, default=2048, help="side of views and maps, in pixels")
    parser.add_argument("--crop", type=int, default=512, help="side of the crops, in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--quick", action="store_true", help="two samples, one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to this file")
    options = parser.parse_args()
    samples, rounds = (2, 1) if options.quick else (options.samples, options.rounds)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stored = make_dataset(root, resolve(options.materials), samples, options.size)
        seconds, packed = pack_cost(root, options.size)
        rows = measure(root, options.size, options.crop, rounds)
        memory = {name: peak_memory(name, root, options.size, options.crop) for name in (PACKED, CROPS, ALIGNED)}
    facts = {
        "pack, seconds a sample": seconds / samples,
        "pack, in epochs of the usual pipeline": seconds / samples * rows[USUAL].samples_per_second,
        "pack, MB a sample": packed / samples / 1e6,
        "pack, × the PNGs": packed / stored,
        "copy, GB/s": rows[COPY].samples_per_second * frame_bytes(options.size) / 1e9,
    }
    reached = targets(rows, memory)
    print("\n".join(report(rows, reached, facts)))
    if options.json:
        found = {"rows": {name: asdict(row) for name, row in rows.items()}, "facts": facts}
        checks = [{**asdict(target), "met": target.met} for target in reached]
        settings = {"size": options.size, "crop": options.crop, "samples": samples, "cores": cores()}
        options.json.write_text(json.dumps({**settings, **found, "targets": checks}, indent=2) + "\n")
    return int(not all(target.met for target in reached))


if __name__ == "__main__":
    sys.exit(main())
