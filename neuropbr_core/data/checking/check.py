"""Check of a whole dataset: every image is decoded, every map is judged, and everything wrong is reported at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuropbr_core.data.checking.examine import Examined, MaterialFolder, SampleFolder, examine, find_lookalikes
from neuropbr_core.data.layout.findings import LEVELS, Finding, of_level
from neuropbr_core.data.layout.paths import (
    CONDITIONS,
    Paths,
    conditions,
    locate,
    map_files,
    read_metadata,
    sample_folders,
    view_name,
)
from neuropbr_core.data.layout.scan import Scan, scan_dataset
from neuropbr_core.parallel import run_jobs
from neuropbr_core.recipe.sections import Data


@dataclass(frozen=True)
class CheckReport:
    """Result of a check.

    Attributes:
        samples: Samples that can be trained on.
        materials: Materials that these samples show.
        files: Number of images decoded.
        sizes: Number of images by size (`WIDTH×HEIGHT`), for `views` and for `maps`.
        findings: Errors first, then warnings, then infos.
    """

    samples: int
    materials: int
    files: int
    sizes: dict[str, dict[str, int]]
    findings: list[Finding]

    def count(self, level: str) -> int:
        """Count the findings of a level."""
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
    jobs: list[SampleFolder | MaterialFolder] = []
    for condition in conditions(data):
        for path in sample_folders(paths.input / condition):
            views = [path / view_name(view) for view in range(data.views)]
            # The scan has reported missing views; here, those that are there are decoded.
            present = tuple(filter(Path.is_file, views))
            jobs.append(SampleFolder(path, f"{condition}/{path.name}", present))
    jobs += _material_jobs(paths.output)
    examined = run_jobs(examine, jobs, workers, "checking folders")

    findings = list(scan.findings)
    # The examination notices missing maps of every material, the scan those of materials that samples show.
    reported = {(finding.path, finding.code) for finding in scan.findings}
    for folder in examined:
        for finding in folder.findings:
            if (finding.path, finding.code) not in reported:
                findings.append(finding)
    sizes = {}
    for kind in ("views", "maps"):
        counts = Counter[str]()
        for folder in examined:
            if folder.kind == kind:
                counts.update(folder.sizes.values())
        sizes[kind] = dict(counts.most_common())
        findings += _size_findings(examined, kind, counts, size)
    findings += _stray_findings(paths, data, scan)
    findings += _lookalike_findings(examined)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))  # the sort is stable: within a level, by origin

    errors = of_level(findings, "error")
    # An error about a material names no sample, and the reverse. This adds None to the sets, which equals no name.
    bad_samples = set()
    bad_materials = set()
    for error in errors:
        bad_samples.add(error.sample)
        bad_materials.add(error.material)
    usable = 0
    shown_materials = set()
    for sample in scan.samples:
        if sample.id not in bad_samples and sample.material not in bad_materials:
            usable += 1
            shown_materials.add(sample.material)
    return CheckReport(
        samples=usable,
        materials=len(shown_materials),
        files=sum(folder.files for folder in examined),
        sizes=sizes,
        findings=findings,
    )


def _material_jobs(output: Path) -> Iterator[MaterialFolder]:
    """List the folders that hold at least one map, whether a sample shows the material or not."""
    if not output.is_dir():
        return
    for folder in sorted(output.iterdir()):
        hidden = folder.name.startswith(".")  # such as a folder that a killed import was writing
        if not hidden and any(map(Path.is_file, map_files(folder).values())):
            yield MaterialFolder(folder)


def _size_findings(
    examined: Sequence[Examined], kind: str, counts: Counter[str], size: int | None
) -> Iterator[Finding]:
    """Report folders with images of another size than the user asked for, or than most images have."""
    if not counts:
        return
    if size is None:
        # Any dataset has a most frequent size; of equally frequent ones, `most_common` takes the one met first.
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
        for name, size_of_file in folder.sizes.items():
            if size_of_file != wanted:
                others.append(f"{name} {size_of_file}")
        if others:
            message = f"{', '.join(others)} pixels; {wanted} is {reason}. Training resizes it"
            yield Finding("warning", code, str(folder.path), message)


def _stray_findings(paths: Paths, data: Data, scan: Scan) -> Iterator[Finding]:
    """Report files, folders and entries of the dataset that nothing reads."""
    metadata, _ = read_metadata(paths.metadata)  # its own problems are among the scan's findings
    metadata = metadata or {}
    # An entry is used if either condition has the sample, whatever the recipe's curriculum reads.
    folders = set()
    for condition in CONDITIONS:
        for folder in sample_folders(paths.input / condition):
            folders.add(folder.name)
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
    """Report materials that look alike, which would leak from training into validation."""
    looks = {}
    places = {}
    for folder in examined:
        if folder.look is not None:
            looks[folder.path.name] = folder.look
            places[folder.path.name] = str(folder.path)
    alike = find_lookalikes(looks)
    advice = "in a split they belong on one side: name them in one entry of data.groups"
    for names in alike.equal:
        # One finding a group. It names the last member, so that removing what is reported keeps the first.
        message = f"has the same albedo as {', '.join(names[:-1])}; remove all but one, or {advice}"
        yield Finding("warning", "duplicate-material", places[names[-1]], message)
    for first, second, share in alike.near:
        equal = f"{1 - share:.0%} of the perceptual hash is equal"
        yield Finding(
            "info", "look-alike", places[second], f"looks like {first} ({equal}); if they are variants, {advice}"
        )
