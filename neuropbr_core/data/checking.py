"""A dataset looked at file by file: every image decoded, everything wrong reported at once."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuropbr_core.data.images import read_image, read_map, verify_image
from neuropbr_core.data.layout import Sample, scan_dataset
from neuropbr_core.data.progress import Progress, silent
from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        samples: Samples that the layout completes.
        materials: Materials that they show.
        files: Images decoded.
        problems: One line each, with the fix.
    """

    samples: int
    materials: int
    files: int
    problems: list[str]


def check_dataset(data: Data, progress: Progress = silent) -> CheckReport:
    """Check a dataset's layout and decode every image that its samples use.

    Args:
        data: Section `data` of a recipe.
        progress: Shows how far it is.

    Returns:
        Counts and all problems.

    Raises:
        DataError: The section names no folder.
    """
    scan = scan_dataset(data)
    jobs = list(_jobs(scan.samples))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda job: job(), jobs)
        problems = [problem for problem in progress(results, len(jobs), "checking images") if problem]
    materials = {sample.material for sample in scan.samples}
    return CheckReport(len(scan.samples), len(materials), len(jobs), scan.problems + problems)


def _jobs(samples: Iterable[Sample]) -> Iterator[Callable[[], str | None]]:
    """One check for each file; a file that several samples share is checked once."""
    views = dict.fromkeys(view for sample in samples for view in sample.views)
    maps = {path: MAPS[name] for sample in samples for name, path in sample.maps.items()}
    for path in views:
        yield partial(_problem, path, read_image)
    for path, spec in maps.items():
        yield partial(_problem, path, partial(read_map, spec=spec))


def _problem(path: Path, read: Callable[[Path], object]) -> str | None:
    try:
        verify_image(path)
        read(path)
    except DataError as error:
        return str(error)
    return None
