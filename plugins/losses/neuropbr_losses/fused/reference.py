"""The measures in plain PyTorch, one after the other, with gradients by autograd.

This is what the other implementations are compared with, in values and in gradients, and what benchmarks call eager:
SSIM by depthwise convolutions with a full window, and a tensor for each intermediate value.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_losses.fused.measures import C1, C2, Job, Taps, image_shares, to_unit


def evaluate_plainly(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"], job: Job) -> Float[Tensor, " M"]:
    """Compute the measures of a job.

    Args:
        prediction: Maps in the ranges of `neuropbr_core.maps`, in any floating-point type.
        target: The true maps.
        valid: 1 where a pixel counts, 0 where it does not.
        job: What to compute.

    Returns:
        One value for each measure: float64 for maps in float64, else float32.
    """
    values = []
    for index, measure in enumerate(job.measures):
        p = _concealed(prediction[measure.map], valid)
        t = _concealed(target[measure.map], valid)
        match measure.kind:
            case "l1":
                errors = (p - t).abs()
            case "cosine":
                errors = (F.normalize(p, dim=1) - F.normalize(t, dim=1)).square().sum(1, keepdim=True) / 2
            case "angle":
                cross = torch.linalg.cross(p, t, dim=1)
                sine = torch.linalg.vector_norm(cross, dim=1, keepdim=True)
                errors = torch.atan2(sine, (p * t).sum(dim=1, keepdim=True))
            case "ssim":
                factor, offset = to_unit(measure.map)
                errors = 1 - _similarity(factor * p + offset, factor * t + offset, valid, measure.taps)
        sums = torch.where(valid == 0, 0.0, errors).sum(dim=(1, 2, 3)) / errors.shape[1]
        value = (sums * image_shares(valid)).sum()
        if index >= job.learned:
            value = value.detach()
        values.append(value)
    return torch.stack(values)


def _concealed(values: Tensor, valid: Tensor) -> Tensor:
    # Before any arithmetic, because NaN · 0 is NaN. With 1, for which vectors have a direction.
    if values.dtype != torch.float64:
        values = values.float()
    return values.masked_fill(valid == 0, 1.0)


def _similarity(prediction: Tensor, target: Tensor, valid: Tensor, taps: Taps) -> Tensor:
    # Windows of valid pixels reach across invalid ones, which get the target's mean in both images.
    pixels = (valid != 0).sum(dim=(2, 3), keepdim=True).clamp(min=1)
    fill = torch.where(valid == 0, 0.0, target).sum(dim=(2, 3), keepdim=True) / pixels
    prediction = torch.where(valid == 0, fill, prediction)
    target = torch.where(valid == 0, fill, target)

    channels = prediction.shape[1]
    padding = (len(taps) // 2,) * 4
    row = torch.tensor(taps, dtype=prediction.dtype, device=prediction.device)
    window = torch.outer(row, row).expand(channels, 1, -1, -1)
    x = F.pad(prediction, padding, mode="reflect")
    y = F.pad(target, padding, mode="reflect")
    u = F.conv2d(x, window, groups=channels)
    v = F.conv2d(y, window, groups=channels)
    variance_x = F.conv2d(x * x, window, groups=channels) - u * u
    variance_y = F.conv2d(y * y, window, groups=channels) - v * v
    covariance = F.conv2d(x * y, window, groups=channels) - u * v
    luminance = (2 * u * v + C1) / (u * u + v * v + C1)
    return luminance * (2 * covariance + C2) / (variance_x + variance_y + C2)
