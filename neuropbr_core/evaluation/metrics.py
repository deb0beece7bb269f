"""Errors of predicted maps against the truth, one value per image, over valid pixels only.

Every map is compared in [0, 1]: albedo as it is stored (sRGB-encoded), roughness and metallic as they are, normals
encoded as (n + 1) / 2. So PSNR has a data range of 1 throughout, and a normal's MAE and RMSE are half those of its
components. Normals are also compared by angle.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS, NORMAL, MapSpec

PSNR_CAP = 60.0
"""Largest PSNR, in dB: that of a perfect image, so that means over images stay finite.

Rounding to 8 bits alone costs 58.9 dB (10 log10(12 · 255²)), so more says nothing about maps that are stored in 8 bits.
Higher caps let the images that are exact by nature (metallic 0 everywhere) drown all others in the mean.
"""

SSIM_WINDOW = 11
"""Pixels across the Gaussian window of SSIM; images need a side of at least 6 for its reflected border."""


@dataclass(frozen=True)
class Metric:
    """How a metric is shown and read.

    Attributes:
        name: Its key, the part after `<map>/`.
        label: Heading of its column, with the unit.
        digits: Digits behind the point.
        higher_is_better: Which direction is better.
    """

    name: str
    label: str
    digits: int
    higher_is_better: bool = False


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("angle", "angle °", 2),
        Metric("angle_median", "median °", 2),
        Metric("within_11", "< 11.25°", 3, higher_is_better=True),
        Metric("within_22", "< 22.5°", 3, higher_is_better=True),
        Metric("within_30", "< 30°", 3, higher_is_better=True),
        Metric("psnr", "PSNR dB", 2, higher_is_better=True),
        Metric("mae", "MAE", 4),
        Metric("rmse", "RMSE", 4),
        Metric("ssim", "SSIM", 3, higher_is_better=True),
        Metric("auc", "AUC", 3, higher_is_better=True),
    )
}
"""Every metric, in the order in which tables show them."""

ANGLE_LIMITS = {"within_11": 11.25, "within_22": 22.5, "within_30": 30.0}
"""Degrees below which a normal counts as found, by metric.

Source: D. Fouhey, A. Gupta and M. Hebert, "Data-Driven 3D Primitives for Single Image Understanding", 2013.
"""


def measure(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    """Compare predicted maps with the truth, image by image.

    Args:
        prediction: Maps `(B, channels, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same ranges and sizes; H and W >= 6.
        valid: 1 where a pixel counts, 0 where it does not; values at the other pixels have no influence.

    Returns:
        `<map>/mae`, `/rmse`, `/psnr` (dB, at most `PSNR_CAP`) and `/ssim` for each predicted map; `normal/angle` and
        `normal/angle_median` (degrees) and the shares of pixels below each of `ANGLE_LIMITS`. Each is `(B,)`, float32;
        an image without a valid pixel gives NaN.

    Raises:
        ModelError: A predicted map has no target, or one of another shape.
    """
    mask = valid > 0.5
    values: dict[str, Tensor] = {}
    for name, spec in MAPS.items():
        if name not in prediction:
            continue
        _check_shapes(name, prediction, target)
        errors = unit_errors(encode_unit(spec, prediction[name]), encode_unit(spec, target[name]), mask)
        values |= {f"{name}/{key}": value for key, value in errors.items()}
    if NORMAL.name in prediction:
        angle = normal_angle(prediction[NORMAL.name], target[NORMAL.name])
        values |= {f"{NORMAL.name}/{key}": value for key, value in _angle_statistics(angle, mask).items()}
    return values


def encode_unit(spec: MapSpec, values: Tensor) -> Tensor:
    """Map a PBR map from its range to [0, 1], as float32: the form in which maps are compared."""
    low, high = spec.value_range
    return (values.float() - low) / (high - low)


def normal_angle(a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Angle between two fields of vectors, in degrees, in [0, 180].

    atan2(|a × b|, a · b) is exact for equal vectors and well-conditioned everywhere, where arccos loses half its digits
    near 0. The cross product is spelled out because a fused multiply-add leaves a residue in a × a.

    Args:
        a: Vectors of any length above 0.
        b: Vectors of any length above 0.

    Source: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006, on angles
        between vectors.
    """
    a, b = a.float(), b.float()
    cross = a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]
    sine = torch.linalg.vector_norm(cross, dim=1, keepdim=True)
    return torch.rad2deg(torch.atan2(sine, (a * b).sum(dim=1, keepdim=True)))


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1: -10 log10(mse), at most `PSNR_CAP`."""
    return -10.0 * torch.log10(mse.clamp_min(10.0 ** (-PSNR_CAP / 10.0)))


def _check_shapes(name: str, prediction: Maps, target: Maps) -> None:
    if name not in target:
        raise ModelError(
            f"metrics: map {name!r} is predicted but has no target; targets: {', '.join(target) or 'none'}"
        )
    found, expected = tuple(prediction[name].shape), tuple(target[name].shape)
    if found != expected:
        raise ModelError(f"metrics: map {name!r} is predicted as {found}, its target is {expected}; they must be equal")


def unit_errors(
    a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]
) -> dict[str, Tensor]:
    """Compare images in [0, 1].

    Args:
        a: Images.
        b: What they should be; H and W >= 6.
        mask: Which pixels count.

    Returns:
        `mae`, `rmse`, `psnr` (dB, at most `PSNR_CAP`) and `ssim`, each `(B,)`.
    """
    mse = _masked_mean((a - b).square(), mask)
    return {
        "mae": _masked_mean((a - b).abs(), mask),
        "rmse": mse.sqrt(),
        "psnr": psnr_from_mse(mse),
        "ssim": _ssim(a, b, mask),
    }


def _angle_statistics(angle: Float[Tensor, "B 1 H W"], mask: Bool[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    below = {name: torch.where(angle.isnan(), angle, (angle < limit).float()) for name, limit in ANGLE_LIMITS.items()}
    shares = {name: _masked_mean(values, mask) for name, values in below.items()}
    return {"angle": _masked_mean(angle, mask), "angle_median": _masked_median(angle, mask), **shares}


def _masked_mean(values: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    total = torch.where(mask, values, 0.0).flatten(1).sum(dim=1)
    return total / (mask.flatten(1).sum(dim=1) * values.shape[1])


def _masked_median(values: Float[Tensor, "B 1 H W"], mask: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    return torch.stack([image[inside].median() for image, inside in zip(values, mask, strict=True)])


def _ssim(
    a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, " B"]:
    """Mean structural similarity at valid pixels (11 × 11 Gaussian window, sigma 1.5, data range 1).

    Invalid pixels become the target's mean colour in both images, so that they differ nowhere and add as little
    structure as can be. Where both images agree in a pixel's whole window its SSIM is 1 by definition; that is filled
    in, since in float32 the variance of a bright constant area cancels to noise that would cost 0.001.

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, eq. 13.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    share = mask / mask.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    fill = (torch.where(mask, b, 0.0) * share).sum(dim=(2, 3), keepdim=True)
    a, b = torch.where(mask, a, fill), torch.where(mask, b, fill)
    _, image = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    differs = F.max_pool2d((a != b).float(), SSIM_WINDOW, stride=1, padding=SSIM_WINDOW // 2) > 0
    return _masked_mean(torch.where(differs, image, 1.0), mask)
