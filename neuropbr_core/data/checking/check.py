"""A dataset looked at file by file: every image decoded, every map judged, everything wrong reported at once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.checking.examine import Examined, MaterialFolder, SampleFolder, examine
from neuropbr_core.data.checking.lookalikes import find_lookalikes
from neuropbr_core.data.layout.findings import LEVELS, Finding, of_level
from neuropbr_core.data.layout.metadata import read_metadata
from neuropbr_core.data.layout.paths import Paths, conditions, locate, map_files, sample_folders, view_name
from neuropbr_core.data.layout.scan import Scan, scan_dataset
from neuropbr_core.parallel import run_jobs
from neuropbr_core.recipe.sections import Data


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        samples: Samples that can be trained on.
        materials: Materials that they show.
        files: Images decoded.
        sizes: How many images of each size there are, for `views` and for `maps`.
        findings: Errors first, then warnings, then what is good to know.
    """

    samples: int
    materials: int
    files: int
    sizes: dict[str, dict[str, int]]
    findings: list[Finding]

    def count(self, level: str) -> int:
        """How many findings there are of a level."""
        return sum(finding.level == level for finding in self.findings)


def check_dataset(data: Data, *, size: int | None = None, workers: int = 1) -> CheckReport:
    """Check a dataset: its layout, every image in it, and what the maps say of themselves.

    Args:
        data: Section `data` of a recipe.
        size: Side that images must have, in pixels; by default they must all have the most frequent one.
        workers: Processes that decode, as for `parallel.run_jobs`.

    Returns:
        Counts and all findings.

    Raises:
        DataError: The section names no folder.
    """
    paths = locate(data)
    scan = scan_dataset(data, ends=False)
    jobs: list[SampleFolder | MaterialFolder] = [*_samples(paths, data), *_materials(paths.output)]
    seen = run_jobs(examine, jobs, workers, "checking folders")
    known = {(finding.path, finding.code) for finding in scan.findings}
    findings = [
        *scan.findings,
        *(finding for one in seen for finding in one.findings if (finding.path, finding.code) not in known),
        *(finding for kind in ("views", "maps") for finding in _size_findings(seen, kind, size)),
        *_stray_findings(paths, data, scan),
        *_lookalike_findings(seen),
    ]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    usable = _usable(scan, findings)
    return CheckReport(
        samples=len(usable),
        materials=len({material for _, material in usable}),
        files=sum(one.files for one in seen),
        sizes={kind: dict(_sizes(seen, kind).most_common()) for kind in ("views", "maps")},
        findings=findings,
    )


def _samples(paths: Paths, data: Data) -> Iterator[SampleFolder]:
    for source in conditions(data):
        for folder in sample_folders(paths.input / source):
            views = (folder / view_name(view) for view in range(data.views))
            yield SampleFolder(folder, f"{source}/{folder.name}", tuple(view for view in views if view.is_file()))


def _materials(output: Path) -> Iterator[MaterialFolder]:
    """Folders that hold a map at least, used or not."""
    for folder in sorted(output.iterdir()) if output.is_dir() else ():
        if not folder.name.startswith(".") and any(path.is_file() for path in map_files(folder).values()):
            yield MaterialFolder(folder)


def _usable(scan: Scan, findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Samples that no error spoils, and their materials."""
    errors = of_level(findings, "error")
    samples, materials = {error.sample for error in errors}, {error.material for error in errors}
    return [
        (sample.id, sample.material)
        for sample in scan.samples
        if sample.id not in samples and sample.material not in materials
    ]


def _sizes(seen: Iterable[Examined], kind: str) -> Counter[str]:
    return Counter(size for one in seen if one.kind == kind for size in one.sizes.values())


def _size_findings(seen: Sequence[Examined], kind: str, size: int | None) -> Iterator[Finding]:
    """Folders with images of another size than asked for, or than most have."""
    counts = _sizes(seen, kind)
    if not counts:
        return
    wanted = f"{size}×{size}" if size else counts.most_common(1)[0][0]
    code, why = ("wrong-size", "asked for") if size else ("mixed-size", f"the most frequent of the {kind}")
    for one in seen:
        others = {name: found for name, found in one.sizes.items() if found != wanted}
        if one.kind == kind and others:
            listed = ", ".join(f"{name} {found}" for name, found in others.items())
            message = f"{listed} pixels; {wanted} is {why}. Training resizes it"
            yield Finding("warning", code, str(one.path), message)


def _stray_findings(paths: Paths, data: Data, scan: Scan) -> Iterator[Finding]:
    """What lies in the dataset and is not read."""
    metadata, _ = read_metadata(paths.metadata)
    folders = {folder.name for source in ("clean", "dirty") for folder in sample_folders(paths.input / source)}
    for name in sorted(set(metadata or ()) - folders):
        yield Finding("warning", "stray-metadata", str(paths.metadata), f"{name}: there is no such sample; remove it")
    for source in conditions(data):
        for folder in sorted((paths.input / source).glob("*/")):
            if not folder.name.startswith(("sample_", ".")):
                message = "is not read; the folder of a sample is called sample_0000, sample_0001, …"
                yield Finding("warning", "not-a-sample", str(folder), message)
    used = set((metadata or {}).values())
    for material in _materials(paths.output) if scan.samples else ():
        if material.path.name not in used:
            message = "no sample shows it; render some with `neuropbr data synthesize`, or photograph it"
            yield Finding("warning", "unused-material", str(material.path), message)


def _lookalike_findings(seen: Iterable[Examined]) -> Iterator[Finding]:
    """Materials that would leak from training into validation."""
    found = {one.path.name: one for one in seen if one.look is not None}
    alike = find_lookalikes({name: one.look for name, one in found.items() if one.look is not None})
    advice = "in a split they belong on one side: name them in one entry of data.groups"
    for names in alike.equal:
        message = f"has the same albedo as {', '.join(names[:-1])}; remove all but one, or {advice}"
        yield Finding("warning", "duplicate-material", str(found[names[-1]].path), message)
    for first, second, share in alike.near:
        message = (
            f"looks like {first} ({1 - share:.0%} of the perceptual hash is equal); if they are variants, {advice}"
        )
        yield Finding("info", "look-alike", str(found[second].path), message)
