"""A white reference: paper or a grey card in the first photo, which tells its exposure and the colour of its light.

Photos alone cannot tell a dark material in bright light from a bright one in dim light. Where something of known
reflectance shows beside the material, exposures and colours become those that models were trained with.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neuropbr_core.data.decoding import describe_image
from neuropbr_core.errors import DataError
from neuropbr_core.inference.flash import BENT, CLIPPED, USUAL_AMBIENT
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.reporting import reporter

PAPER = 0.85
"""Reflectance of white office paper without the blue that its brighteners add under daylight."""

_MOST_CLIPPED = 0.1  # share of the reference's pixels that may be clipped
_DARKEST = 0.05  # linear; noise and reflections weigh too much below
_MOST_UNEVEN = 0.25  # standard deviation over mean of the reference's luminance

# What is taken for paper, in a picture of this many pixels along its longer side.
_SEARCHED_SIDE = 512
_NEUTRAL = 0.4  # most difference between channels, as a share of the brightest; as much as a lamp colours paper
_SMOOTH = 0.05  # most standard deviation over mean within 9 × 9 pixels
_BRIGHTER = 1.2  # least luminance, as a multiple of the photo's median
_AREAS = (0.004, 0.3)  # least and most share of the photo
_RECTANGULAR = 0.88  # least share of its enclosing rectangle; an ellipse, such as a highlight, fills 0.79
_INNER = 0.6  # share of the rectangle's shorter side that a square inside has, however the rectangle is turned


@dataclass(frozen=True)
class WhiteReference:
    """Something white or grey in the first photo.

    Attributes:
        region: Left, top, width and height in pixels of the photo as viewers show it; `auto` looks for white paper.
        reflectance: Share of light that it reflects, the same for red, green and blue, in (0, 1]; 0.18 for a grey card.
    """

    region: tuple[int, int, int, int] | Literal["auto"]
    reflectance: float = PAPER


def calibrate(views: ViewSet, reference: WhiteReference) -> ViewSet:
    """Expose and balance photos so that the reference looks as it should.

    All photos are changed alike: by linear factors of red, green and blue after which a white card at the centre of the
    texture would be recorded as 1 in the first photo. What was clipped stays white.

    Args:
        views: Photos with cameras. With a flash (unless the photos' files deny it), light falls off from the centre.
        reference: The reference in the first photo.

    Returns:
        The photos, of known exposure.

    Raises:
        DataError: The photos have no cameras, or the reference cannot be found or is too bright, too dark or uneven.

    Source: the photometric distance law, as in `neuropbr_core.materials.capture.light`.
    """
    if views.homographies is None or views.positions is None:
        raise DataError(
            f"{views.folder}: a white reference needs to know where the first photo was taken from; give cameras, or a "
            "model that was trained on aligned views, for which photos are registered"
        )
    path = views.paths[0]
    photo = views.images[0]
    if reference.region == "auto":
        box = find_paper(photo, path)
    else:
        box = _scaled(reference.region, photo, path)
    measured = _measure(photo, box, path)
    expected = reference.reflectance * _white_there(views, box)
    gains = measured / expected
    # In pixels of the file, as a user would give it.
    facts = describe_image(path)
    across = facts.width / photo.shape[2]
    down = facts.height / photo.shape[1]
    left, top, width, height = (round(side * scale) for side, scale in zip(box, (across, down) * 2, strict=True))
    # The sign is that of what is done: photos that were too dark are made brighter.
    stops = -float(torch.log2(gains.mean()))
    red, _, blue = (gains[1] / gains).tolist()
    reporter().line(
        f"white reference: {left},{top},{width},{height} of {path.name}; brightness {stops:+.1f} stops, "
        f"red × {red:.2f}, blue × {blue:.2f}"
    )
    images = tuple(_exposed(image, gains) for image in views.images)
    return replace(views, images=images, exposure_known=True)


def find_paper(photo: Tensor, path: Path) -> tuple[int, int, int, int]:
    """Find a sheet of white paper: an even, colourless, bright rectangle.

    Args:
        photo: sRGB-encoded uint8 `(3, h, w)`.
        path: Its file, for errors.

    Returns:
        A square well inside the brightest such rectangle: left, top, width and height in pixels of `photo`.

    Raises:
        DataError: There is none.
    """
    import cv2

    pixels = np.ascontiguousarray(photo.numpy().transpose(1, 2, 0))
    shrink = min(1.0, _SEARCHED_SIDE / max(pixels.shape[:2]))
    if shrink < 1:
        pixels = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    encoded = torch.from_numpy(pixels).float() / 255
    linear = srgb_to_linear(encoded).numpy()
    brightest = linear.max(axis=2)
    luminance = linear.mean(axis=2)
    mean = cv2.blur(luminance, (9, 9))
    deviation = np.sqrt(np.maximum(cv2.blur(luminance**2, (9, 9)) - mean**2, 0))
    is_paper = (
        (brightest - linear.min(axis=2) <= _NEUTRAL * brightest)
        & (deviation <= _SMOOTH * mean)
        & (luminance >= _BRIGHTER * np.median(luminance))
        & (encoded.amax(dim=2).numpy() < CLIPPED)
    )
    # Threads between regions are cut, so that a bright grain beside the paper does not join it.
    kernel = np.ones((5, 5), np.uint8)
    opened = cv2.morphologyEx(is_paper.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, statistics, centres = cv2.connectedComponentsWithStats(opened)
    best = None
    most = 0.0
    for label in range(1, count):
        area = float(statistics[label, cv2.CC_STAT_AREA])
        if not _AREAS[0] <= area / labels.size <= _AREAS[1]:
            continue
        region = labels == label
        outline = cv2.findNonZero(region.astype(np.uint8))
        _, sides, _ = cv2.minAreaRect(outline)
        # Corners of pixels instead of centres.
        if area < _RECTANGULAR * (sides[0] + 1) * (sides[1] + 1):
            continue
        brightness = float(luminance[region].mean())
        if brightness > most:
            most = brightness
            best = (centres[label], _INNER * min(sides))
    if best is None:
        raise DataError(
            f"{path}: no white paper was found, which would be an even, colourless rectangle that is brighter than "
            "the material and not overexposed; give its place: --white LEFT,TOP,WIDTH,HEIGHT"
        )
    (column, row), side = best
    return (
        round((column - side / 2) / shrink),
        round((row - side / 2) / shrink),
        max(1, round(side / shrink)),
        max(1, round(side / shrink)),
    )


def _scaled(region: tuple[int, int, int, int], photo: Tensor, path: Path) -> tuple[int, int, int, int]:
    """The region in pixels of the photo, which may have been shrunk while it was read."""
    facts = describe_image(path)
    left, top, width, height = region
    if left + width > facts.width or top + height > facts.height:
        raise DataError(
            f"{path}: has {facts.width}x{facts.height} pixels, so the white region {left},{top},{width},{height} "
            "(left, top, width, height) leaves it"
        )
    across = photo.shape[2] / facts.width
    down = photo.shape[1] / facts.height
    first = min(int(left * across), photo.shape[2] - 1)
    upper = min(int(top * down), photo.shape[1] - 1)
    return first, upper, max(1, round(width * across)), max(1, round(height * down))


def _measure(photo: Tensor, box: tuple[int, int, int, int], path: Path) -> Tensor:
    """Mean linear red, green and blue of the reference."""
    left, top, width, height = box
    encoded = photo[:, top : top + height, left : left + width].float() / 255
    clipped = float((encoded.amax(dim=0) >= CLIPPED).float().mean())
    if clipped > _MOST_CLIPPED:
        raise DataError(f"{path}: {clipped:.0%} of the white reference are overexposed; expose the photos less")
    linear = srgb_to_linear(encoded)
    mean = linear.mean(dim=(1, 2))
    if float(mean.min()) < _DARKEST:
        raise DataError(f"{path}: the white reference is too dark to measure; is it at this place?")
    luminance = linear.mean(dim=0)
    if float(luminance.std(unbiased=False)) > _MOST_UNEVEN * float(luminance.mean()):
        raise DataError(f"{path}: the white reference is uneven; give a region that shows nothing but it")
    return mean


def _white_there(views: ViewSet, box: tuple[int, int, int, int]) -> float:
    """Radiance of a white card at the reference, where one at the texture's centre has radiance 1."""
    if views.flash_fired is False:
        return 1.0
    assert views.homographies is not None  # noqa: S101 - `calibrate` has looked
    assert views.positions is not None  # noqa: S101
    _, height, width = views.images[0].shape
    left, top, across, down = box
    in_view = torch.tensor([(left + across / 2) / width, (top + down / 2) / height, 1.0], dtype=torch.float64)
    u, v, scale = torch.linalg.solve(views.homographies[0].double(), in_view).tolist()
    place = torch.tensor([u / scale - 0.5, 0.5 - v / scale, 0.0])
    lens = views.positions[0].float()
    # E = flash · cos θ / d² with cos θ = z / d, over its value at the centre.
    falloff = float((lens.norm() / (lens - place).norm()) ** 3)
    return (1 - USUAL_AMBIENT) * falloff + USUAL_AMBIENT


def _exposed(photo: Tensor, gains: Tensor) -> Tensor:
    """A photo divided by the gains of its channels."""
    encoded = torch.arange(256) / 255
    corrected = linear_to_srgb((srgb_to_linear(encoded) / gains[:, None]).clamp(0, 1))
    # The more a value is bent or clipped, the less it says of the light: it is not made darker.
    bent = ((encoded - BENT) / (CLIPPED - BENT)).clamp(0, 1)
    kept = torch.maximum(corrected, torch.lerp(corrected, encoded, bent))
    tables = (kept * 255).round().to(torch.uint8)
    return torch.stack([table[channel.long()] for table, channel in zip(tables, photo, strict=True)])
