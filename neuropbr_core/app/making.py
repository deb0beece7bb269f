"""A job's photos become maps and a preview; its maps become a zip file of packages."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from neuropbr_core.app.jobs import Job, JobReporter, JobStopped, Refused, ZipFile, as_refusal, need_space, shown_name
from neuropbr_core.app.limits import Limits
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.files import remove, replacing, write_text
from neuropbr_core.inference.doubts import find_doubts
from neuropbr_core.inference.effort import Effort, predict_maps
from neuropbr_core.inference.ensemble import missing_side
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator
from neuropbr_core.inference.views import read_views, register_views
from neuropbr_core.kinds import KINDS
from neuropbr_core.outputs import Material, choose_targets, material_name, write_packages
from neuropbr_core.recipe.loading import load_entries
from neuropbr_core.registry import default_registry
from neuropbr_core.report import Showcase, Version, showcase_part
from neuropbr_core.report.maps_folder import CONFIDENCE, material_facts
from neuropbr_core.report.pictures import colour_picture
from neuropbr_core.reporting import reporting_to

_ENOUGH_PHOTOS = 5
"""More photos tell little more."""


@dataclass(frozen=True)
class Offer:
    """A package that can be chosen.

    Attributes:
        name: The packager's name.
        summary: A sentence about it.
        problem: Why it cannot be chosen here; empty when it can.
    """

    name: str
    summary: str
    problem: str = ""


def offers() -> list[Offer]:
    """The packagers that are installed, but for blocked ones."""
    registry = default_registry()
    offered = []
    for entry in registry.entries("packager"):
        if registry.blocked_by(entry):
            continue
        problem = ""
        # Whatever is wrong with one packager, of others perhaps, the rest can be chosen.
        try:
            choose_targets(load_entries(KINDS["packager"], {entry.name: entry.name}, []))
        except NeuroPBRError as error:
            problem = str(error)
        offered.append(Offer(entry.name, entry.summary() or "", problem))
    return offered


def start(job: Job, name: str, first: int | None) -> None:
    """Close the collection of photos: the job waits for its turn from now on.

    Args:
        job: A job that collects photos, or failed.
        name: The material's name, as the user gave it.
        first: Number of the photo from straight above; None for the first one that was uploaded.

    Raises:
        Refused: The job has been started, has no photo, or is still receiving some.
    """
    with job.lock:
        if not job.is_open:
            raise Refused(409, "These photos are being worked on already.")
        if any(photo.state == "uploading" for photo in job.photos.values()):
            raise Refused(409, "Some photos are still being read; wait a moment.")
        photos = job.uploaded()
        if not photos:
            raise Refused(409, "There is no photo yet; add photos of one flat material.")
        if first is not None and first not in {photo.number for photo in photos}:
            raise Refused(400, f"There is no photo {first} that could be the first.")
        photos.sort(key=lambda photo: photo.number != first)
        job.attempts += 1
        # Photos are read in the order of their names, and registered to the first. The attempt is in the name, so that
        # no photo replaces one that has not got its new name yet.
        for place, photo in enumerate(photos):
            if photo.path is not None:
                new_path = job.photo_folder / f"photo-{job.attempts}-{place}{photo.path.suffix}"
                job.change(photo, path=photo.path.rename(new_path), state="uploaded", reason="")
        job.change(state="waiting", name=shown_name(name, "material"), first=photos[0].number, lines=[], error="")


def make_maps(job: Job, model: LoadedGenerator | ExportedGenerator, effort: Effort, limits: Limits) -> None:
    """Predict the maps of a job's photos, and write them and their preview into its folder; a fault becomes its error.

    Args:
        job: A job that waits.
        model: The model.
        effort: How the maps are predicted.
        limits: What stays free on the disk.
    """
    try:
        job.go_on()
        need_space(job.folder, limits.free_bytes)
        job.change(state="working")
        with reporting_to(JobReporter(job)):
            _make_maps(job, model, effort)
    except JobStopped:
        pass
    except Exception as error:  # whatever is wrong with one job, others go on
        if not job.stopped:
            job.change(state="failed", step="", bar=None, error=job.shown(str(as_refusal(error))))
    finally:
        # Once more, since the work may have written after the job was removed.
        if job.stopped:
            remove(job.folder)


def _make_maps(job: Job, model: LoadedGenerator | ExportedGenerator, effort: Effort) -> None:
    job.begin("Reading the photos")
    views = read_views(job.photo_folder, size=model.signature.photo_size)
    if model.needs_cameras:
        job.begin("Matching the photos")
        views = register_views(views, partial=True)
    confidence = dict(zip(views.paths, views.confidence or (), strict=False))
    with job.lock:
        for photo in job.uploaded():
            if photo.path in views.paths:
                job.change(photo, state="used", confidence=confidence.get(photo.path))
            elif photo.path is not None:
                reason = job.shown(views.left_out.get(photo.path, "is not used"))
                job.change(photo, state="left out", reason=reason.removeprefix(f"{photo.name}: "))
    job.begin("Predicting the maps")
    inputs = model.prepare(views)
    # An exported file takes a fixed number of photos, the first ones.
    taken = views.paths[: inputs["views"].shape[1]]
    names = []
    with job.lock:
        by_path = {photo.path: photo for photo in job.uploaded()}
        for path in views.paths:
            if path in taken:
                names.append(by_path[path].name)
            else:
                job.change(by_path[path], state="left out", reason=f"the file takes {len(taken)}")
    for doubt in find_doubts(views, inputs, model.signature):
        job.say(doubt, warning=True)
    if "directions" in inputs and 1 < len(taken) < _ENOUGH_PHOTOS:
        job.say(f"another photo would tell most from the {missing_side(inputs['directions'])}")
    predicted = predict_maps(model, views, inputs, effort)
    job.begin("Drawing the preview")
    made_by = {"model": str(model.origin), **model.provenance, **predicted.provenance, "views": ", ".join(names)}
    material = Material(material_name(job.name), predicted.maps, made_by)
    extras = {}
    facts = [("photos", str(len(taken))), *material_facts(material)]
    if predicted.confidence is not None:
        # Grey as colour, because the report's pictures have three channels.
        extras[CONFIDENCE] = colour_picture(predicted.confidence[0].expand(3, -1, -1))
        facts.append(("confidence", f"{float(predicted.confidence.mean()):.2f} on average"))
    facts.append(("sharpness", f"{predicted.sharpness:.2f}"))
    showcase = Showcase(job.name, (Version("maps", material.maps),), "", tuple(inputs["views"][0].cpu()), extras)
    write_text(job.preview_file, showcase_part(showcase))
    with replacing(job.maps_file) as aside:
        save_file({name: value.contiguous() for name, value in material.maps.items()}, aside)
    job.change(facts=tuple(facts), made_by=made_by, step="", bar=None, state="done")


def order_zip(
    job: Job, names: Iterable[str], offered: Iterable[Offer], tileable: bool, limits: Limits
) -> tuple[ZipFile, bool]:
    """Note a zip file that somebody wants; the same choice is made once.

    Args:
        job: A job that is done.
        names: Names of packagers.
        offered: Packagers that can be chosen.
        tileable: Whether the maps are cut so that they tile.
        limits: How many zip files a job may have, and what stays free on the disk.

    Returns:
        The zip file, and whether it has to be made.

    Raises:
        Refused: The job has no maps yet, too many zip files, a name is not offered, or the disk is full.
    """
    usable = {offer.name for offer in offered if not offer.problem}
    targets = tuple(sorted(set(names)))
    unknown = [name for name in targets if name not in usable]
    if unknown or not targets:
        what = ", ".join(unknown) or "none"
        raise Refused(400, f"Choose among the packages {', '.join(sorted(usable))}; found {what}.")
    with job.lock:
        if job.state != "done":
            raise Refused(409, "There are no maps yet.")
        for archive in job.zips.values():
            if (archive.targets, archive.tileable) == (targets, tileable) and archive.state != "failed":
                return archive, False
        if len(job.zips) >= limits.packages:
            raise Refused(409, f"There are {limits.packages} zip files of this material already, which is the most.")
        need_space(job.folder, limits.free_bytes)
        key = f"zip-{len(job.zips)}"
        archive = ZipFile(key, targets, tileable, job.folder / f"{key}.zip")
        job.zips[key] = archive
        job.change()
        return archive, True


def make_zip(job: Job, archive: ZipFile) -> None:
    """Write the packages of a job's maps into one zip file; a fault becomes its error.

    Args:
        job: A job that is done.
        archive: What somebody wants.
    """
    folder = job.folder / archive.key
    try:
        job.go_on()
        job.change(archive, state="working")
        try:
            _write_zip(job, archive, folder)
        finally:
            remove(folder)
        job.change(archive, state="done", bytes=archive.path.stat().st_size)
    except JobStopped:
        pass
    except Exception as error:  # whatever is wrong with one zip file, others go on
        if not job.stopped:
            job.change(archive, state="failed", error=job.shown(str(as_refusal(error))))
    finally:
        if job.stopped:
            remove(job.folder)


def _write_zip(job: Job, archive: ZipFile, folder: Path) -> None:
    """Write the packages into a folder, and from there into the zip file, which is there whole or not at all."""
    with reporting_to(JobReporter(job)):
        # Packagers before maps, because reading and deriving maps takes time.
        entries = load_entries(KINDS["packager"], {name: f"packager {name}" for name in archive.targets}, [])
        targets = choose_targets(entries)
        material = Material(material_name(job.name), load_file(job.maps_file), job.made_by)
        if archive.tileable:
            material = material.tileable()
        write_packages(material, targets, folder)
    # The lowest level: pictures are compressed already, and the texts are small.
    with replacing(archive.path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for path in sorted(folder.rglob("*")):
            job.go_on()
            # In a folder of the material's name, so that two materials can be unpacked at one place.
            file.write(path, f"{material.name}/{path.relative_to(folder).as_posix()}")
