"""From radiance in the texture frame to aligned 8-bit views: lens, exposure, white balance, sensor and registration."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.color import linear_to_srgb, luminance
from neuropbr_core.materials.live.crop_grid import MARGIN, CropGrid
from neuropbr_core.materials.live.framing import Array, Viewpoints, project
from neuropbr_core.materials.live.options import Photos
from neuropbr_core.materials.sensor import GREY, SENSOR_SIDE, Noise, balance, tone_curve

_DARKEST = 1e-3  # mean luminance below which automatic exposure gains no more


class Errors(NamedTuple):
    """What cameras and registration do to the photos of one visit. Arrays have an entry for each photo.

    Attributes:
        automatic: Whether each photo is exposed for its own mean luminance.
        stops: Exposure beside that, in stops `(V,)`.
        warmth: Red over blue in stops `(V,)`.
        tint: Green over red and blue in stops `(V,)`.
        lens: Deviation of the blur in linear light along u and v, in input pixels `(V, 2)`; 0 for a lens in focus and
            a still hand.
        blur: Deviation of the blur of encoded values along u and v, in input pixels `(V, 2)`: what shrinking and
            aligning a photo leave.
        shift: Misalignment along u and v, in input pixels `(V, 2)`.
        noise: Of one sensor pixel; None for none.
        haze: Share of the light that grease on the lens spreads, and how far, in sides of the frame.
        vignette: tan² of the corners' angle.
    """

    automatic: bool
    stops: Array
    warmth: Array
    tint: Array
    lens: Array
    blur: Array
    shift: Array
    noise: Noise | None
    haze: tuple[float, float] = (0.0, 0.1)
    vignette: float = 0.0


def draw_errors(rng: np.random.Generator, views: int, photos: Photos, *, dirty: bool) -> Errors:
    """Draw what goes wrong in the photos of a visit.

    Args:
        rng: Source of the draw.
        views: Number of photos.
        photos: The distributions.
        dirty: Whether the visit is a careless one; its additional errors are those of `materials.dirt`.
    """
    mode = rng.random()
    automatic = bool(mode < photos.automatic)
    # Exposure is locked for all photos, unless each is metered for itself.
    stops = np.full(views, rng.uniform(-photos.stops, photos.stops))
    if automatic:
        stops = rng.uniform(-photos.stops, photos.stops, views)
    elif mode < photos.automatic + photos.free:
        stops = stops + rng.uniform(-photos.free_stops, photos.free_stops)
    warmth = np.full(views, rng.uniform(-photos.warmth, photos.warmth))
    tint = np.full(views, rng.uniform(-photos.tint, photos.tint))
    blur = rng.uniform(*photos.blur, (views, 2))
    shift = rng.uniform(-photos.registration, photos.registration, (views, 2))
    shift[0] = 0  # the first photo is the one that the others are registered to
    # A phone raises sensitivity in dim light; a flash keeps it low.
    doublings = rng.uniform(*photos.iso_doublings)
    lens = rng.uniform(*photos.lens, (views, 2))
    haze = (0.0, 0.1)
    vignette = 0.0
    if dirty:
        stops = stops + rng.uniform(-0.4, 0.4) + rng.uniform(-0.2, 0.2, views)
        warmth = warmth + rng.uniform(-0.3, 0.3) + rng.uniform(-0.1, 0.1, views)
        tint = tint + rng.uniform(-0.08, 0.08) + rng.uniform(-0.04, 0.04, views)
        # Shake and defocus of a third of the photos, up to 0.005 sides of 256 pixels.
        lens = lens + (rng.random((views, 1)) < 0.3) * rng.uniform(0, 1.0, (views, 2))
        doublings = rng.uniform(2.0, 6.0)
        if rng.random() < 0.5:
            haze = (rng.uniform(0.03, 0.25), rng.uniform(0.03, 0.2))
        # Phones correct most of the 0.24 that an uncorrected wide lens has in the corners.
        vignette = rng.uniform(0.0, 0.15)
    noise = Noise(1.5e-4 * 2**doublings, 5e-4 * 2 ** (doublings / 2))
    return Errors(automatic, stops, warmth, tint, lens, blur, shift, noise, haze, vignette)


def exposure_gains(errors: Errors, overview: Tensor, visible: Tensor) -> Tensor:
    """Factors of linear red, green and blue of each photo, `(V, 3, 1, 1)`.

    Args:
        errors: What is wrong with exposure and white balance.
        overview: Radiance of the whole frame, `(V, 3, o, o)`.
        visible: Share of each of its pixels that the photo shows, `(V, 1, o, o)`.
    """
    gains = torch.from_numpy(2.0**errors.stops).float().view(-1, 1, 1, 1)
    if errors.automatic:
        # What outshines white counts as white, as in `sensor.meter`.
        shown = (luminance(overview).clamp_max(1) * visible).sum((1, 2, 3), keepdim=True)
        mean = shown / visible.sum((1, 2, 3), keepdim=True).clamp_min(1)
        gains = gains * (GREY / mean.clamp_min(_DARKEST))
    # Balancing a white photo gives the gains themselves.
    white = torch.ones(len(errors.stops), 3, 1, 1)
    return balance(white, list(errors.warmth), list(errors.tint)) * gains


def resampling(
    blur: npt.NDArray[np.float64], shift: npt.NDArray[np.float64], side: int, scale: int, margin: int = MARGIN
) -> Tensor:
    """Matrices that blur, shift and average one axis of crops, from shaded points to pixels.

    Args:
        blur: Deviation of the Gaussian of each photo, in pixels `(V,)`.
        shift: Shift of each photo, in pixels `(V,)`.
        side: Pixels of the crop along the axis.
        scale: Points for each pixel.
        margin: Pixels of points at each end.

    Returns:
        `(V, 1, side, (side + 2 · margin) · scale)`; rows sum to 1.
    """
    points = (np.arange((side + 2 * margin) * scale) + 0.5) / scale - margin
    centres = (np.arange(side) + 0.5)[None, :, None] + shift[:, None, None]
    distance = np.abs(points - centres).astype(np.float32)
    # The box of a pixel joins the Gaussian where points are finer than pixels; its deviation is 1 / √12.
    box = 0.0
    if scale > 1:
        box = 1 / 12
    deviation = np.sqrt(blur * blur + box)[:, None, None].astype(np.float32)
    weights = np.exp(-0.5 * (distance / np.maximum(deviation, 1e-3)) ** 2)
    # A kernel much narrower than the points' spacing would miss them all: it takes the nearest ones, interpolated.
    nearest = (1 - distance * scale).clip(0)
    weights = np.where(deviation < 0.2 / scale, nearest, weights)
    # Far ends of the Gaussian are denormal numbers in float32, with which a product takes a hundred times as long.
    weights[weights < 1e-5] = 0
    return torch.from_numpy(weights / weights.sum(2, keepdims=True))[:, None]


def develop_crop(
    rng: np.random.Generator, crop: Tensor, overview: Tensor, viewpoints: Viewpoints, errors: Errors, grid: CropGrid
) -> Tensor:
    """Record a crop as 8-bit photos would show it after alignment.

    Highlights are clipped before the photo is shrunk and aligned, so that blur works on encoded values; a lens that is
    out of focus works on light.

    Args:
        rng: Source of the noise.
        crop: Radiance times exposure of the shaded points, `(V, 3, n, n)`, with their margin.
        overview: The same of the whole frame, `(V, 3, o, o)`.
        viewpoints: The cameras.
        errors: What goes wrong.
        grid: The crop.

    Returns:
        Views `(V, 3, side, side)` uint8, sRGB-encoded.
    """
    light = crop
    still = np.zeros(len(crop))
    if errors.lens.any():
        fine = crop.shape[-1]
        down = resampling(errors.lens[:, 1] * grid.scale, still, fine, 1, margin=0)
        across = resampling(errors.lens[:, 0] * grid.scale, still, fine, 1, margin=0)
        light = down @ light @ across.transpose(-1, -2)
    share, radius = errors.haze
    if share:
        # Grease spreads the whole frame over the crop: widely blurred, and interpolated at the shaded points.
        steps = (torch.arange(overview.shape[-1]) + 0.5) / overview.shape[-1]
        kernel = torch.exp((-((steps[:, None] - steps[None]) ** 2) / (2 * radius * radius)).clamp_min(-30))
        kernel = kernel / kernel.sum(1, keepdim=True)
        spread = kernel @ overview @ kernel.T
        side = crop.shape[-1]
        points = torch.from_numpy(grid.shaded().astype(np.float32)).view(1, side, side, 2)
        places = (points * 2 - 1).expand(len(overview), -1, -1, -1)
        veil = F.grid_sample(spread, places, padding_mode="border", align_corners=False)
        light = torch.lerp(light, veil, share)
    if errors.vignette:
        at, _ = project(viewpoints.homographies, grid.shaded())
        squared = ((at - 0.5) ** 2).sum(1).reshape(len(crop), 1, *crop.shape[-2:])
        light = light / (1 + errors.vignette * 2 * torch.from_numpy(squared).float()) ** 2
    if errors.noise is not None:
        # A photo's pixel averages the sensor pixels that it covers.
        averaged = min(1.0, (grid.photo / SENSOR_SIDE) ** 2)
        variance = (errors.noise.shot * light.clamp(0, 1) + errors.noise.read**2) * averaged
        # torch draws normal numbers three times as fast as numpy.
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        light = light + torch.randn(light.shape, generator=generator) * variance.sqrt()
    encoded = linear_to_srgb(tone_curve(light))
    down = resampling(errors.blur[:, 1], errors.shift[:, 1], grid.side, grid.scale)
    across = resampling(errors.blur[:, 0], errors.shift[:, 0], grid.side, grid.scale)
    aligned = down @ encoded @ across.transpose(-1, -2)
    return (aligned * 255).round().to(torch.uint8)
