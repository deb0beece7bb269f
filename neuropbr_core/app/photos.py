"""An uploaded file becomes a photo of a job, or a line that says why it is none."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

from PIL import Image

from neuropbr_core.app.jobs import Job, Photo, Refused, need_space
from neuropbr_core.app.limits import Limits
from neuropbr_core.data.decoding import describe_image, header_tells_size, suffix_of, why_unread
from neuropbr_core.data.images import read_photo
from neuropbr_core.errors import DataError, NeuroPBRError
from neuropbr_core.files import remove

THUMBNAIL_SIDE = 240


async def store_upload(job: Job, name: str, chunks: AsyncIterator[bytes], limits: Limits) -> tuple[Photo, Path | None]:
    """Store a file under a name of the server's own. A file that cannot be stored becomes a refused photo of the job.

    Args:
        job: The job.
        name: The user's name for the file, which is shown and decides only whether the format is read.
        chunks: The file's content.
        limits: What is accepted.

    Returns:
        The photo, and its file, whose content is not looked at yet; None when it was refused.

    Raises:
        Refused: The job takes no photo any more, has as many as it may, or the disk is full.
        Exception: `chunks` raised it, since the browser is gone; nothing of the file remains.
    """
    with job.lock:
        if not job.is_open:
            raise Refused(409, f"{name}: the photos are complete; begin another material for it")
        if len(job.photos) >= limits.photos:
            raise Refused(409, f"{name}: there are {limits.photos} photos already, which is the most")
        photo = job.new_photo(name)
    unread = why_unread(photo.name)
    if unread is not None:
        return refuse(job, photo, unread), None
    # The suffix is from the table of formats, so that nothing of the user's name gets into a path.
    path = job.photo_folder / f"upload-{photo.number:03d}{suffix_of(photo.name)}"
    received = 0
    problem = ""
    try:
        with path.open("wb") as file:
            async for chunk in chunks:
                need_space(job.folder, limits.free_bytes)
                received += len(chunk)
                with job.lock:
                    job.bytes += len(chunk)
                # Checked while the bytes arrive: what a request announces need not be true.
                if received > limits.photo_bytes:
                    problem = f"is larger than {limits.photo_bytes / 2**20:g} MiB; shrink it, or save it as JPEG"
                elif job.bytes > limits.job_bytes:
                    problem = f"with it, the photos are larger than {limits.job_bytes / 2**20:g} MiB; leave some out"
                if problem:
                    break
                file.write(chunk)
    except BaseException:
        # The browser was closed in the middle, or the disk is full.
        discard(job, path, received)
        with job.lock:
            job.photos.pop(photo.number, None)
            job.change()
        raise
    if problem:
        discard(job, path, received)
        return refuse(job, photo, problem), None
    return photo, path


def examine(job: Job, photo: Photo, path: Path, limits: Limits, side: int) -> None:
    """Decode a stored file as the model's input will be, and make it the photo's; or refuse it.

    Args:
        job: The job.
        photo: The photo.
        path: Its file.
        limits: What is accepted.
        side: Side to which the model fits photos, in pixels.

    Raises:
        Refused: The job takes no photo any more.
    """
    size = path.stat().st_size
    try:
        # By the header, and before anything is decoded: a small file may hold billions of equal pixels.
        if not header_tells_size(path):
            raise DataError("is a TIFF file of a rare kind; convert it to PNG or JPEG")
        facts = describe_image(path)
        if facts.width * facts.height > limits.pixels:
            most = f"{limits.pixels / 10**6:g} million"
            raise DataError(f"has {facts.size} pixels, and at most {most} are accepted; shrink it")
        # In the same way as for the model: a file that the model could not read is found while the user is looking.
        decoded = read_photo(path, side)
    except (NeuroPBRError, OSError) as error:
        discard(job, path, size)
        refuse(job, photo, str(error).removeprefix(f"{path}: ").replace(str(path), photo.name))
        return
    picture = Image.fromarray(decoded.pixels.transpose(1, 2, 0))
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=85)
    with job.lock:
        # Somebody may have started the work, removed the photo or the job, or given up waiting, in the meantime.
        if job.stopped or not job.is_open or photo.number not in job.photos or photo.state != "uploading":
            discard(job, path, size)
            job.photos.pop(photo.number, None)
            raise Refused(409, f"{photo.name}: the photos are complete; begin another material for it")
        thumbnail = encoded.getvalue()
        job.change(photo, path=path, thumbnail=thumbnail, size=facts.size, reason=decoded.note, state="uploaded")


def discard(job: Job, path: Path, size: int) -> None:
    """Remove a file of a job, whose bytes then count no more; nothing happens when it is gone."""
    with job.lock:
        if path.exists():
            remove(path)
            job.bytes -= size


def refuse(job: Job, photo: Photo, reason: str) -> Photo:
    """Keep a photo as a line that says why it is none."""
    job.change(photo, state="refused", reason=reason)
    return photo
