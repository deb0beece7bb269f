"""`input/cameras.json`: where each view of each sample was taken from.

    {"sample_0000": [{"homography": [[a, b, c], [d, e, f], [g, h, i]], "position": [x, y, z]}, … one for each view]}

`homography` maps texture coordinates (u, v, 1) to homogeneous view coordinates, both in [0, 1] with v down. `position`
is the camera in the world of `materials.cameras`: the texture is the unit square in z = 0 around the origin.
"""

import itertools
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from neuropbr_core import samples
from neuropbr_core.errors import DataError
from neuropbr_core.files import write_json

CameraRecord = samples.CameraRecord


def read_cameras(path: Path) -> dict[str, tuple[CameraRecord, ...]]:
    """Read and check a cameras file.

    Args:
        path: The JSON file.

    Returns:
        Cameras by sample name, in the order of the views.

    Raises:
        DataError: The file is missing, malformed, or holds cameras that cannot be; all of these at once.
    """
    try:
        # Typed decoding checks that every matrix is 3×3 and every position has three numbers.
        cameras = msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[CameraRecord, ...]])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; recorded alignment needs the cameras of every sample") from None
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path}: {error}; see the format in `neuropbr_core.data.layout.cameras_file`") from error
    problems = []
    # Types cannot tell whether a camera is possible; an impossible one would give infinite or mirrored directions.
    for name, records in cameras.items():
        for view, record in enumerate(records):
            if problem := _problem(record):
                problems.append(f"{path}: {name}, view {view}: {problem}")
    if problems:
        raise DataError("\n".join(problems))
    return cameras


def write_cameras(path: Path, cameras: dict[str, tuple[CameraRecord, ...]]) -> None:
    """Write a cameras file, sorted by sample, in one step."""
    write_json(path, dict(sorted(cameras.items())))


def record_camera(homography: ArrayLike, position: ArrayLike) -> CameraRecord:
    """Return the record of a camera from its 3×3 matrix and its three coordinates."""
    # `convert` checks the numbers of rows and columns, which the constructor of a struct does not.
    return msgspec.convert(
        {"homography": np.asarray(homography, float).tolist(), "position": np.asarray(position).tolist()}, CameraRecord
    )


def _problem(record: CameraRecord) -> str | None:
    """Describe what is impossible about a camera; None for a possible camera."""
    matrix = np.array(record.homography)
    if record.position[2] <= 0:
        return f"position z is {record.position[2]:g}; the camera is in front of the texture, z > 0"
    # A homography is defined up to its scale, so its largest entry is made 1 before the determinant is judged.
    if abs(np.linalg.det(matrix / max(np.abs(matrix).max(), 1e-12))) < 1e-9:
        return "the homography cannot be inverted"
    # w is linear in (u, v): if it is positive at the corners, it is positive over the whole texture.
    depths = []
    for u, v in itertools.product((0, 1), repeat=2):
        depths.append(float(matrix[2] @ (u, v, 1.0)))
    if min(depths) <= 0:
        return "the homography puts a corner of the texture behind the camera (w <= 0); negate it if all are negative"
    return None
