"""Materials from elsewhere brought into a dataset's `output/`: whole, or not at all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from neuropbr_core.data.images.fit import Stored
from neuropbr_core.data.images.write import write_map
from neuropbr_core.data.importing.maps import Conversion
from neuropbr_core.data.importing.sources import MaterialSet, find_sets
from neuropbr_core.errors import DataError
from neuropbr_core.files import replacing
from neuropbr_core.maps import MAPS
from neuropbr_core.parallel import run_jobs

Status = Literal["imported", "exists", "refused"]


@dataclass(frozen=True)
class Imported:
    """What became of one material.

    Attributes:
        name: Its name in the dataset.
        status: `imported`; `exists` when there is one of that name, which was left alone; `refused` for a reason.
        size: Side of the maps written, in pixels; None when nothing was.
        files: The file that each map came from.
        notes: What was converted and assumed, one line each; for a refused one, the reason.
    """

    name: str
    status: Status
    size: int | None = None
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        materials: By name.
        ignored: Images that belong to no material.
    """

    materials: list[Imported]
    ignored: list[str]

    def count(self, status: Status) -> int:
        """How many materials have a status."""
        return sum(material.status == status for material in self.materials)


@dataclass(frozen=True)
class _Job:
    material: MaterialSet
    target: Path
    size: int | None
    crop: bool
    overwrite: bool


def import_materials(
    source: Path,
    out: Path,
    *,
    size: int | None = None,
    name_template: str = "{name}",
    crop: bool = False,
    overwrite: bool = False,
    workers: int = 1,
) -> ImportReport:
    """Bring the materials of a folder or zip file into a dataset.

    Args:
        source: Folder (with all below it, zip files too) or zip file.
        out: Dataset folder; materials go to `output/` in it.
        size: Side of the maps, in pixels; None takes each albedo's.
        name_template: Names in the dataset, as for `importing_sources.find_sets`.
        crop: Cut a centred square out of images that are none, instead of refusing them.
        overwrite: Replace materials of the same name.
        workers: Processes that convert, as for `parallel.run_jobs`.

    Returns:
        What became of each material.

    Raises:
        DataError: The source is missing or holds no material, or the template is wrong.
        OSError: The dataset cannot be written to.
    """
    found = find_sets(source, name_template)
    if not found.sets and not found.damaged:
        raise DataError(
            f"{source}: no materials found among {len(found.ignored)} images; their names must say what they are, such "
            "as X_Color, X_NormalGL, X_Roughness, X_Metalness (`docs/data.md` lists what is understood)"
        )
    first, doubles = _apart(found.sets)
    jobs = []
    for material in first:
        jobs.append(_Job(material, out / "output" / material.name, size, crop, overwrite))
    done = run_jobs(_import_one, jobs, workers, "importing materials")
    done += doubles
    done += [Imported(Path(path).stem, "refused", notes=(f"{path}: {why}",)) for path, why in found.damaged.items()]
    return ImportReport(sorted(done, key=lambda one: one.name), found.ignored)


def _apart(sets: Iterable[MaterialSet]) -> tuple[list[MaterialSet], list[Imported]]:
    """Materials of different names, and refusals of those whose name is taken by another one."""
    first: dict[str, MaterialSet] = {}
    doubles = []
    for material in sets:
        key = material.name.lower()  # some file systems ignore case
        if first.setdefault(key, material) is not material:
            reason = (
                f"{_place(material)}: {_place(first[key])} has that name too; use --name-template {{folder}}_{{name}}"
            )
            doubles.append(Imported(material.name, "refused", notes=(reason,)))
    return list(first.values()), doubles


def _place(material: MaterialSet) -> str:
    return str(next(iter(material.files.values()))[0][0])


def _import_one(job: _Job) -> Imported:
    name = job.material.name
    if job.target.exists() and not job.overwrite:
        return Imported(name, "exists", notes=(f"{job.target} is there; --overwrite replaces it",))
    with TemporaryDirectory(prefix="neuropbr-import-") as scratch:
        conversion = Conversion(job.material, Path(scratch), job.size, job.crop)
        try:
            maps = conversion.maps()
        except DataError as error:
            return Imported(name, "refused", notes=(str(error),))
    _write(job.target, maps)
    return Imported(name, "imported", maps["albedo"].shape[1], conversion.used, tuple(conversion.notes))


def _write(target: Path, maps: dict[str, Stored]) -> None:
    """Write a material's folder, whole or not at all."""
    with replacing(target) as aside:
        for name, stored in maps.items():
            write_map(aside, MAPS[name], stored)
