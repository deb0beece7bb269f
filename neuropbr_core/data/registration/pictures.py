"""Photos as they are compared: grey, small enough, and freed of the light that moves with the phone."""

import cv2
import numpy as np
import numpy.typing as npt

from neuropbr_core.data.images.fit import Stored

Grey = npt.NDArray[np.float32]
"""`(H, W)` float32."""
Matrix = npt.NDArray[np.float64]
"""`(3, 3)` float64, applied to columns (x, y, 1)."""

WORKING_SIDE = 1024
"""Longest that the shorter side of a working picture gets, in pixels."""
_NEIGHBOURHOOD = 1 / 24
"""Deviation of the window in which brightness and contrast are made even, in shorter sides."""
_LEAST_CONTRAST = 0.01
"""Deviation of grey below which there is nothing but noise."""
_LEAST_STRENGTH = 0.02
"""The same for the root of an edge's strength."""
_CLIP = 3.0


class Picture:
    """A photo at working size.

    Attributes:
        grey: sRGB-encoded luma in [0, 1].
    """

    def __init__(self, photo: Stored) -> None:
        """Take uint8 `(3, H, W)`."""
        grey = cv2.cvtColor(np.ascontiguousarray(np.moveaxis(photo, 0, -1)), cv2.COLOR_RGB2GRAY)
        self.grey = _shrink(grey.astype(np.float32) / np.float32(255), WORKING_SIDE)

    @property
    def shorter_side(self) -> int:
        """Shorter side in pixels."""
        return int(min(self.grey.shape))

    def even(self, side: int = WORKING_SIDE) -> Grey:
        """Deviations from the local mean in local deviations, at most `side` pixels along the shorter side."""
        return _even(_shrink(self.grey, side), _LEAST_CONTRAST)

    def edges(self, side: int = WORKING_SIDE) -> Grey:
        """Strength of edges whatever their sign, made even.

        A slope that faces one camera and its flash turns from the next: light and dark change places, edges stay.
        OpenCV's magnitude rounds by where the pixels lie in memory; NumPy's square root is exact wherever they lie, so
        that the same photos always give the same cameras.
        """
        grey = _shrink(self.grey, side)
        across = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
        down = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        return _even(np.sqrt(np.sqrt(across * across + down * down)), _LEAST_STRENGTH)


def centred_square(photo: Stored) -> Stored:
    """Cut the largest square from the middle of `(3, H, W)`."""
    height, width = photo.shape[1:]
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    return photo[:, top : top + side, left : left + side]


def square_to_photo(width: int, height: int) -> Matrix:
    """Matrix from `centred_square` to the photo that it is cut from, both in [0, 1]²."""
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    return np.array([[side / width, 0.0, left / width], [0.0, side / height, top / height], [0.0, 0.0, 1.0]])


def to_pixels(picture: Grey) -> Matrix:
    """Matrix from [0, 1]² to pixel indices; pixel centres lie at (i + 0.5) / size."""
    height, width = picture.shape
    return np.array([[width, 0.0, -0.5], [0.0, height, -0.5], [0.0, 0.0, 1.0]])


def _shrink(grey: Grey, side: int) -> Grey:
    shorter = min(grey.shape)
    if shorter <= side:
        return grey
    height, width = (round(length * side / shorter) for length in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


def _even(values: Grey, least: float) -> Grey:
    window = min(values.shape) * _NEIGHBOURHOOD
    difference = values - cv2.GaussianBlur(values, (0, 0), window)
    variance = cv2.GaussianBlur(difference * difference, (0, 0), window)
    even: Grey = np.clip(difference / np.sqrt(variance + np.float32(least * least)), -_CLIP, _CLIP)
    return even
