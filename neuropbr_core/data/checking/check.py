"""Check of a whole dataset: every image is decoded, every map is judged, and everything wrong is reported at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
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
    """Result of a check.

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
    """Check a dataset: its layout, every image in it, and whether the maps are plausible.

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
    scan = scan_dataset(data, ends=False)  # decoding finds truncated files better than a look at their ends
    jobs: list[SampleFolder | MaterialFolder] = [*_sample_jobs(paths, data), *_material_jobs(paths.output)]
    examined = run_jobs(examine, jobs, workers, "checking folders")

    findings = list(scan.findings)
    reported = {(finding.path, finding.code) for finding in scan.findings}
    for folder in examined:
        for finding in folder.findings:
            if (finding.path, finding.code) not in reported:
                findings.append(finding)
    sizes = {kind: _count_sizes(examined, kind) for kind in ("views", "maps")}
    for kind, counts in sizes.items():
        findings += _size_findings(examined, kind, counts, size)
    findings += _stray_findings(paths, data, scan)
    findings += _lookalike_findings(examined)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))  # the sort is stable: within a level, by origin

    errors = of_level(findings, "error")
    spoilt_samples = {error.sample for error in errors}
    spoilt_materials = {error.material for error in errors}
    usable = [
        sample for sample in scan.samples if sample.id not in spoilt_samples and sample.material not in spoilt_materials
    ]
    return CheckReport(
        samples=len(usable),
        materials=len({sample.material for sample in usable}),
        files=sum(folder.files for folder in examined),
        sizes={kind: dict(counts.most_common()) for kind, counts in sizes.items()},
        findings=findings,
    )


def _sample_jobs(paths: Paths, data: Data) -> Iterator[SampleFolder]:
    for condition in conditions(data):
        for folder in sample_folders(paths.input / condition):
            views = [folder / view_name(view) for view in range(data.views)]
            present = tuple(view for view in views if view.is_file())
            yield SampleFolder(folder, f"{condition}/{folder.name}", present)


def _material_jobs(output: Path) -> Iterator[MaterialFolder]:
    """Folders that hold at least one map, whether a sample shows the material or not."""
    if not output.is_dir():
        return
    for folder in sorted(output.iterdir()):
        hidden = folder.name.startswith(".")  # such as a folder that a killed import was writing
        if not hidden and any(path.is_file() for path in map_files(folder).values()):
            yield MaterialFolder(folder)


def _count_sizes(examined: Sequence[Examined], kind: str) -> Counter[str]:
    """How many images of a kind there are of each size."""
    counts = Counter[str]()
    for folder in examined:
        if folder.kind == kind:
            counts.update(folder.sizes.values())
    return counts


def _size_findings(
    examined: Sequence[Examined], kind: str, counts: Counter[str], size: int | None
) -> Iterator[Finding]:
    """Folders with images of another size than the user asked for, or than most images have."""
    if not counts:
        return
    if size is None:
        wanted = counts.most_common(1)[0][0]
        code = "mixed-size"
        reason = f"the most frequent of the {kind}"
    else:
        wanted = f"{size}×{size}"
        code = "wrong-size"
        reason = "asked for"
    for folder in examined:
        if folder.kind != kind:
            continue
        others = []
        for name, found in folder.sizes.items():
            if found != wanted:
                others.append(f"{name} {found}")
        if others:
            message = f"{', '.join(others)} pixels; {wanted} is {reason}. Training resizes it"
            yield Finding("warning", code, str(folder.path), message)


def _stray_findings(paths: Paths, data: Data, scan: Scan) -> Iterator[Finding]:
    """Files, folders and entries of the dataset that nothing reads."""
    metadata, _ = read_metadata(paths.metadata)  # its own problems are among the scan's findings
    metadata = metadata or {}
    folders = {path.name for name in ("clean", "dirty") for path in sample_folders(paths.input / name)}
    for name in sorted(metadata.keys() - folders):
        yield Finding("warning", "stray-metadata", str(paths.metadata), f"{name}: there is no such sample; remove it")
    for condition in conditions(data):
        for folder in sorted((paths.input / condition).glob("*/")):
            if not folder.name.startswith(("sample_", ".")):
                message = "is not read; the folder of a sample is called sample_0000, sample_0001, …"
                yield Finding("warning", "not-a-sample", str(folder), message)
    if not scan.samples:
        return  # then every material is unused, which the missing samples explain
    shown = set(metadata.values())
    for material in _material_jobs(paths.output):
        if material.path.name not in shown:
            message = "no sample shows it; render some with `neuropbr data synthesize`, or photograph it"
            yield Finding("warning", "unused-material", str(material.path), message)


def _lookalike_findings(examined: Sequence[Examined]) -> Iterator[Finding]:
    """Materials that would leak from training into validation."""
    looks = {}
    places = {}
    for folder in examined:
        if folder.look is not None:
            looks[folder.path.name] = folder.look
            places[folder.path.name] = str(folder.path)
    alike = find_lookalikes(looks)
    advice = "in a split they belong on one side: name them in one entry of data.groups"
    for names in alike.equal:
        message = f"has the same albedo as {', '.join(names[:-1])}; remove all but one, or {advice}"
        yield Finding("warning", "duplicate-material", places[names[-1]], message)
    for first, second, share in alike.near:
        equal = f"{1 - share:.0%} of the perceptual hash is equal"
        yield Finding(
            "info", "look-alike", places[second], f"looks like {first} ({equal}); if they are variants, {advice}"
        )
