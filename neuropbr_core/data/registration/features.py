"""A first homography between two photos, from points that both show.

Photos are compared grey, small, and without the light that moves with the phone (`Picture`).
"""

from typing import NamedTuple

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
_BLUR_DEVIATION = 5  # pixels of the smaller picture on which a wide blur is made
_CLIP = 3.0  # local deviations; glints exceed them and would outweigh all texture


class Picture:
    """A photo at working size.

    Attributes:
        grey: sRGB-encoded luma in [0, 1].
    """

    def __init__(self, photo: Stored) -> None:
        """Take uint8 `(3, H, W)`."""
        # Interleaved by OpenCV, in a fifth of NumPy's time.
        interleaved = cv2.merge([np.ascontiguousarray(plane) for plane in photo])
        grey = cv2.cvtColor(interleaved, cv2.COLOR_RGB2GRAY)
        self.grey = _shrink(grey.astype(np.float32), WORKING_SIDE) / np.float32(255)
        self._even: dict[int, Grey] = {}
        self._edges: dict[int, Grey] = {}
        self._features: dict[int, Features] = {}

    @property
    def shorter_side(self) -> int:
        """Shorter side in pixels."""
        return int(min(self.grey.shape))

    def even(self, side: int = WORKING_SIDE) -> Grey:
        """Return deviations from the local mean, in local standard deviations.

        Args:
            side: Largest shorter side of the result in pixels.

        Returns:
            The deviations, computed once for each side; not to be written to.
        """
        if side not in self._even:
            self._even[side] = _even(_shrink(self.grey, side), _LEAST_CONTRAST)
        return self._even[side]

    def edges(self, side: int = WORKING_SIDE) -> Grey:
        """Return the strength of edges whatever their sign, made even.

        A slope that faces one camera and its flash turns away from the next: light and dark change places, but edges
        stay.

        Args:
            side: Largest shorter side of the result in pixels.

        Returns:
            The edges, computed once for each side; not to be written to.
        """
        if side in self._edges:
            return self._edges[side]
        grey = _shrink(self.grey, side)
        across = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
        down = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        # OpenCV's magnitude rounds differently with the address of the pixels in memory. NumPy's square root does not,
        # so the same photos always give the same cameras. The second root tames the strongest edges.
        self._edges[side] = _even(np.sqrt(np.sqrt(across * across + down * down)), _LEAST_STRENGTH)
        return self._edges[side]

    def features(self, side: int = WORKING_SIDE) -> "Features":
        """Return the features that `find_features` finds, found once for each side.

        Args:
            side: Largest shorter side of the picture in which they are looked for, in pixels.
        """
        if side not in self._features:
            self._features[side] = find_features(self, side)
        return self._features[side]


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
    difference = values - _local_mean(values, window)
    variance = _local_mean(difference * difference, window)
    # `least` keeps flat regions flat: without it, their noise would be amplified to the contrast of texture.
    even: Grey = np.clip(difference / np.sqrt(variance + np.float32(least * least)), -_CLIP, _CLIP)
    return even


def _local_mean(values: Grey, deviation: float) -> Grey:
    """Blur with a window of the given standard deviation in pixels."""
    height, width = values.shape
    # A wide blur has no details, so it is made on a smaller picture. What shrinking and enlarging blur beside it adds
    # half a percent to the window.
    factor = max(1, int(deviation / _BLUR_DEVIATION))
    small = cv2.resize(values, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), deviation / factor)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)


_COUNT = 4000  # most features of a photo; matching takes time in proportion to its square
_CONTRAST = 0.02
"""SIFT's contrast threshold, half its default: most materials are fainter than everyday scenes."""
_SIGMAS_TO_GREYS = 40.0
"""Levels of an 8-bit picture for one local standard deviation; three of them to each side of 128 fit in."""
_RATIO = 0.8
"""Largest distance of a match, as a share of the distance to the second best match.

Source: D. Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 60(2), 2004, section 7.1.
"""
_NEAR = 0.35
"""Largest distance between a point's places in the two photos, in shorter sides, when nearby points are wanted."""
_TOLERANCE = 3.0
"""Largest error of a match that agrees, in pixels of the working picture."""
_MODEL_POINTS = 4  # a homography has eight degrees of freedom, and each point gives two equations
LEAST_AGREEING = 10
"""Number of matches that must agree. In unrelated photos, up to 7 agreed by chance."""


class Features(NamedTuple):
    """Points of a photo and descriptions of their surroundings.

    Attributes:
        points: `(N, 2)`, in pixels of the working picture.
        places: `(N, 2)`, from the photo's centre, in shorter sides.
        descriptors: `(N, 128)`, of unit length.
    """

    points: npt.NDArray[np.float32]
    places: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]


class Start(NamedTuple):
    """A homography from matched points.

    Attributes:
        homography: From the first photo to the other, both in [0, 1]²; None when too few matches agree.
        matches: Number of matched points.
        agreeing: Number of matches that one homography explains.
    """

    homography: Matrix | None
    matches: int
    agreeing: int


def find_features(picture: Picture, side: int = WORKING_SIDE) -> Features:
    """Find a photo's features.

    Descriptors are compared by the Hellinger distance.

    Args:
        picture: The photo.
        side: Largest shorter side of the picture in which they are looked for, in pixels. As many are kept as suit its
            area.

    Source: R. Arandjelović and A. Zisserman, Three things everyone should know to improve object retrieval, CVPR 2012.
    """
    even = picture.even(side)
    most = _COUNT * min(side, WORKING_SIDE) ** 2 // WORKING_SIDE**2
    levels = np.clip(even * _SIGMAS_TO_GREYS + 128, 0, 255).astype(np.uint8)  # SIFT takes 8-bit pictures
    keypoints, histograms = cv2.SIFT.create(most, contrastThreshold=_CONTRAST).detectAndCompute(levels, None)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
    if histograms is None:  # OpenCV returns no array for a picture without features
        descriptors = np.zeros((0, 128), np.float32)
    else:
        descriptors = np.asarray(histograms, np.float32)
    # The Euclidean distance of these roots is the Hellinger distance of the histograms.
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    height, width = picture.grey.shape
    # The centre of pixel i is at i + 0.5.
    enlarged = np.array([width / levels.shape[1], height / levels.shape[0]], np.float32)
    points = (points + np.float32(0.5)) * enlarged - np.float32(0.5)
    places = (points - np.array([width / 2, height / 2], np.float32)) / np.float32(min(height, width))
    return Features(points, places, roots)


def match_features(first: Features, other: Features, pictures: tuple[Picture, Picture], *, near: bool) -> Start:
    """Match two photos' features and fit a homography to the matches that agree.

    Args:
        first: Features of the first photo.
        other: Features of another photo.
        pictures: The two photos.
        near: Whether to match only points at nearby places of the two photos. A repeating pattern then does not match
            its neighbour. Photos that were turned need False.

    Returns:
        The fit.

    Source: D. Barath et al., MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020.
    """
    pairs = _match(first, other, near=near)
    if len(pairs) < _MODEL_POINTS:
        return Start(None, len(pairs), 0)
    here = first.points[pairs[:, 0]]
    there = other.points[pairs[:, 1]]
    fit, mask = cv2.findHomography(here, there, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=10_000, confidence=0.9999)
    # OpenCV's types do not tell that both are None when no homography fits.
    agreeing = 0
    if mask is not None:
        agreeing = int(np.count_nonzero(mask))
    if fit is None or agreeing < LEAST_AGREEING:
        return Start(None, len(pairs), agreeing)
    from_first = to_pixels(pictures[0].grey)
    from_other = to_pixels(pictures[1].grey)
    homography: Matrix = np.linalg.inv(from_other) @ np.asarray(fit, np.float64) @ from_first
    return Start(homography, len(pairs), agreeing)


def _match(first: Features, other: Features, *, near: bool) -> npt.NDArray[np.intp]:
    """Return the indices `(N, 2)` of features that are each other's best match, by a clear margin."""
    # The ratio test needs a second best match.
    if min(len(first.points), len(other.points)) < 2:
        return np.zeros((0, 2), np.intp)
    allowed = None
    allowed_back = None
    if near:
        x1, y1 = first.places.T
        x2, y2 = other.places.T
        squared = (x1[:, None] - x2[None, :]) ** 2 + (y1[:, None] - y2[None, :]) ** 2
        allowed = (squared <= _NEAR * _NEAR).astype(np.uint8)
        allowed_back = allowed.T.copy()
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forth = matcher.knnMatch(first.descriptors, other.descriptors, k=2, mask=allowed)
    back = matcher.match(other.descriptors, first.descriptors, mask=allowed_back)
    choice_of_other = {}
    for match in back:
        choice_of_other[match.queryIdx] = match.trainIdx
    pairs = []
    for matches in forth:
        if not matches:  # no feature is near enough
            continue
        best = matches[0]
        # With a single candidate there is no rival, so the ratio test passes.
        clear = len(matches) == 1 or best.distance < _RATIO * matches[1].distance
        if clear and choice_of_other.get(best.trainIdx) == best.queryIdx:
            pairs.append((best.queryIdx, best.trainIdx))
    return np.array(pairs, np.intp).reshape(-1, 2)
