"""Imports downloaded materials into a dataset's `output/`, each of them whole or not at all."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from neuropbr_core.data.images import write_map
from neuropbr_core.data.importing.looks import Ignored, describe_ignored
from neuropbr_core.data.importing.maps import Conversion
from neuropbr_core.data.importing.sources import Listing, MaterialSet, SourceFile, find_sets
from neuropbr_core.errors import DataError
from neuropbr_core.files import replacing
from neuropbr_core.maps import MAPS
from neuropbr_core.parallel import run_jobs

Status = Literal["imported", "planned", "exists", "refused"]

_MOST_NAMED = 12  # images that an error names; more would hide its first line


@dataclass(frozen=True)
class Imported:
    """The outcome for one material.

    Attributes:
        name: Its name in the dataset.
        status: `imported`; `planned` in a dry run, when it would be imported; `exists` when the dataset has a material
            of that name, which is left unchanged; `refused` when it cannot be imported.
        size: Side of the maps in pixels; None when there are none.
        files: The file that each map comes from.
        notes: Conversions and assumptions, one line each; for a refused material, the reason.
    """

    name: str
    status: Status
    size: int | None = None
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportReport:
    """The outcome of an import.

    Attributes:
        materials: Outcomes, sorted by name.
        ignored: Images that belong to no material, sorted by path.
    """

    materials: list[Imported]
    ignored: list[Ignored]

    def count(self, status: Status) -> int:
        """Count the materials with a status."""
        return sum(material.status == status for material in self.materials)


@dataclass(frozen=True)
class _Job:
    """One material to import; it is sent to another process, so it must pickle."""

    material: MaterialSet
    target: Path
    size: int | None
    crop: bool
    overwrite: bool
    assume_nonmetal: bool
    dry_run: bool
    neighbours: tuple[SourceFile, ...]

    def __str__(self) -> str:
        """How errors name it."""
        return self.material.name


def import_materials(  # noqa: PLR0913
    source: Path,
    out: Path,
    *,
    size: int | None = None,
    name_template: str = "{name}",
    crop: bool = False,
    overwrite: bool = False,
    assume_nonmetal: bool = False,
    dry_run: bool = False,
    workers: int = 1,
) -> ImportReport:
    """Import the materials of a folder or zip file into a dataset.

    Args:
        source: Zip file, or folder; folders and zip files below it count too.
        out: Dataset folder; materials are written to its `output/`.
        size: Side of the maps in pixels; None keeps the size of each albedo.
        name_template: Names in the dataset, as for `importing.sources.find_sets`.
        crop: Whether to cut a centred square out of images that are not square, instead of refusing them.
        overwrite: Whether to replace materials of the same name.
        assume_nonmetal: Whether materials without a metalness map have no metal, whatever their specular map shows.
        dry_run: Whether to do everything but write: the outcomes are those that an import would have.
        workers: Processes that convert, as for `parallel.run_jobs`.

    Returns:
        The outcome for each material.

    Raises:
        DataError: The source is missing or holds no material, or the template is wrong.
        OSError: The dataset cannot be written.
    """
    listing = find_sets(source, name_template)
    if not listing.sets and not listing.damaged:
        raise DataError(_nothing_found(source, listing))
    # The first material of each name. Some file systems ignore case, so names that differ in capitals only collide.
    first_of_name: dict[str, MaterialSet] = {}
    refused = []
    for material in listing.sets:
        namesake = first_of_name.setdefault(material.name.lower(), material)
        if namesake is not material:
            places = f"{_first_file(material)}: {_first_file(namesake)}"
            reason = f"{places} has that name too; use --name-template {{folder}}_{{name}}"
            refused.append(Imported(material.name, "refused", notes=(reason,)))
    for path, why in listing.damaged.items():
        refused.append(Imported(Path(path).stem, "refused", notes=(f"{path}: {why}",)))
    jobs = []
    for material in first_of_name.values():
        target = out / "output" / material.name
        neighbours = _neighbours(material, listing)
        jobs.append(_Job(material, target, size, crop, overwrite, assume_nonmetal, dry_run, neighbours))
    outcomes = run_jobs(_import_material, jobs, workers, "importing materials")
    outcomes += refused
    with TemporaryDirectory(prefix="neuropbr-import-") as scratch:
        ignored = describe_ignored(listing.ignored, Path(scratch))
    return ImportReport(sorted(outcomes, key=lambda outcome: outcome.name), ignored)


def _nothing_found(source: Path, listing: Listing) -> str:
    """Explain that no file name was understood, and name the files."""
    advice = (
        f"{source}: no materials found among {len(listing.ignored)} images; their names must tell what they show, such "
        "as X_Color, X_NormalGL, X_Roughness, X_Metalness (`docs/data.md` lists the names that are understood)"
    )
    lines = [advice]
    with TemporaryDirectory(prefix="neuropbr-import-") as scratch:
        for image in describe_ignored(listing.ignored[:_MOST_NAMED], Path(scratch)):
            lines.append(f"{image.path}: {image.kind or image.looks}")
    if len(listing.ignored) > _MOST_NAMED:
        lines.append(f"and {len(listing.ignored) - _MOST_NAMED} more")
    return "\n".join(lines)


def _neighbours(material: MaterialSet, listing: Listing) -> tuple[SourceFile, ...]:
    """The images beside a material's files that belong to no material."""
    homes = set()
    for files in material.files.values():
        for file, _ in files:
            homes.add(file.home)
    return tuple(file for file in listing.ignored if file.home in homes)


def _first_file(material: MaterialSet) -> str:
    """Return the path of a material's first file, which tells a person where the material is."""
    return str(next(iter(material.files.values()))[0][0])


def _import_material(job: _Job) -> Imported:
    name = job.material.name
    # Checked before the conversion, which takes seconds for large maps.
    if job.target.exists() and not job.overwrite:
        return Imported(name, "exists", notes=(f"{job.target} is there; --overwrite replaces it",))
    with TemporaryDirectory(prefix="neuropbr-import-") as scratch:
        conversion = Conversion(
            job.material, Path(scratch), job.size, job.crop, job.assume_nonmetal, neighbours=job.neighbours
        )
        try:
            maps = conversion.maps()
        except DataError as error:
            return Imported(name, "refused", notes=(str(error),))
    size = maps["albedo"].shape[1]
    if job.dry_run:
        return Imported(name, "planned", size, conversion.used, tuple(conversion.notes))
    # The folder appears with all four maps or not at all: half a material would fail the check of every sample of it.
    with replacing(job.target) as aside:
        for map_name, stored in maps.items():
            write_map(aside, MAPS[map_name], stored)
    return Imported(name, "imported", size, conversion.used, tuple(conversion.notes))
