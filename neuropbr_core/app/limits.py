"""How much the app accepts: it works on a person's own machine, whose memory and disk it must leave usable."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much the app accepts.

    Attributes:
        photos: Photos of one job. More than five tell little more; dozens cost memory.
        photo_bytes: Bytes of one photo. Photos of phones have 2 to 20 MB, a 16-bit TIFF of 20 megapixels 120 MB.
        job_bytes: Bytes of all photos of one job.
        pixels: Pixels of one photo. Sensors of phones have up to 200 megapixels.
        jobs: Jobs that are kept at a time.
        packages: Zip files of one job.
        body_bytes: Bytes of a request that holds no photo.
        free_bytes: Bytes that stay free on the disk.
        silence_seconds: How long the next bytes of a request may take.
        kept_seconds: How long a job is kept after it was last looked at or worked on.
    """

    photos: int = 32
    photo_bytes: int = 128 * 2**20
    job_bytes: int = 2**30
    pixels: int = 200_000_000
    jobs: int = 64
    packages: int = 16
    body_bytes: int = 16 * 2**10
    free_bytes: int = 2**29
    silence_seconds: float = 60.0
    kept_seconds: float = 3600.0
