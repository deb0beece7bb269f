"""Prepares photos for comparison: grey, small, and without the light that moves with the phone."""

import cv2
import numpy as np
import numpy.typing as npt

from neuropbr_core.data.images import Stored

Grey = npt.NDArray[np.float32]
"""`(H, W)` float32."""
Matrix = npt.NDArray[np.float64]
"""`(3, 3)` float64, applied to columns (x, y, 1)."""

WORKING_SIDE = 1024
"""Largest shorter side of a working picture, in pixels."""
_NEIGHBOURHOOD = 1 / 24
"""Standard deviation of the window in which brightness and contrast are made even, in shorter sides."""
_LEAST_CONTRAST = 0.01
"""Standard deviation of grey below which a window shows nothing but noise."""
_LEAST_STRENGTH = 0.02
"""The same limit for the root of an edge's strength."""
_CLIP = 3.0  # local deviations; glints exceed them and would outweigh all texture


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
        """Return deviations from the local mean, in local standard deviations.

        Args:
            side: Largest shorter side of the result in pixels.
        """
        return _even(_shrink(self.grey, side), _LEAST_CONTRAST)

    def edges(self, side: int = WORKING_SIDE) -> Grey:
        """Return the strength of edges whatever their sign, made even.

        A slope that faces one camera and its flash turns away from the next: light and dark change places, but edges
        stay.

        Args:
            side: Largest shorter side of the result in pixels.
        """
        grey = _shrink(self.grey, side)
        across = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
        down = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        # OpenCV's magnitude rounds differently with the address of the pixels in memory. NumPy's square root does not,
        # so the same photos always give the same cameras. The second root tames the strongest edges.
        return _even(np.sqrt(np.sqrt(across * across + down * down)), _LEAST_STRENGTH)


def centred_square(photo: Stored) -> Stored:
    """Cut the largest square from the middle of `(3, H, W)`."""
    height, width = photo.shape[1:]
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    return photo[:, top : top + side, left : left + side]


def square_to_photo(width: int, height: int) -> Matrix:
    """Return the matrix from `centred_square` to the photo that it is cut from, both in [0, 1]²."""
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    return np.array([[side / width, 0.0, left / width], [0.0, side / height, top / height], [0.0, 0.0, 1.0]])


def to_pixels(picture: Grey) -> Matrix:
    """Return the matrix from [0, 1]² to pixel indices."""
    height, width = picture.shape
    # The centre of pixel i is at (i + 0.5) / size, hence the half pixel.
    return np.array([[width, 0.0, -0.5], [0.0, height, -0.5], [0.0, 0.0, 1.0]])


def _shrink(grey: Grey, side: int) -> Grey:
    height, width = grey.shape
    shorter = min(height, width)
    if shorter <= side:
        return grey
    height = round(height * side / shorter)
    width = round(width * side / shorter)
    # Areas are averaged, which removes noise and does not alias.
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)


def _even(values: Grey, least: float) -> Grey:
    """Divide deviations from the local mean by the local standard deviation."""
    window = min(values.shape) * _NEIGHBOURHOOD
    difference = values - cv2.GaussianBlur(values, (0, 0), window)
    variance = cv2.GaussianBlur(difference * difference, (0, 0), window)
    # `least` keeps flat regions flat: without it, their noise would be amplified to the contrast of texture.
    even: Grey = np.clip(difference / np.sqrt(variance + np.float32(least * least)), -_CLIP, _CLIP)
    return even
