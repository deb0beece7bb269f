"""The measures by Triton kernels: how `kernels` are launched over the maps."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropbr_losses.fused import kernels
from neuropbr_losses.fused.measures import Job, Measure, Taps, image_shares, to_unit

PIXELS = 1024
"""Pixels that a program of `pixel_errors`, `pixel_slopes` and `sums_of_valid` takes."""

COLUMNS = 128
"""Columns of a strip: one for each thread of four warps, whose registers hold the running sums."""

ROWS = 64
"""Rows of a strip; a strip also reads the rows of half a window above and below."""

KINDS = ("l1", "cosine", "angle")
"""Measures of single pixels, in the order in which kernels have them."""

ACCURACIES = {torch.float32: tl.float32, torch.float64: tl.float64}
"""Types of arithmetic, as kernels name them."""


def forward(
    predictions: Sequence[Tensor], targets: Sequence[Tensor], valid: Tensor, job: Job, *, differentiable: bool
) -> tuple[Tensor, list[Tensor]]:
    """Compute the measures of a job; arguments and results are those of `tiles.forward`, except for what is kept.

    Nothing is kept: the backward pass computes again what it needs.
    """
    del differentiable
    batch = len(valid)
    dtype = _accuracy(predictions)
    valid = valid.contiguous()
    sums = torch.empty(len(job.measures), batch, dtype=dtype, device=valid.device)
    with _on_device_of(valid):
        for name, given, truth in zip(job.maps, predictions, targets, strict=True):
            # Maps of networks that run in channels-last are laid out like that, too.
            prediction = given.contiguous()
            target = truth.contiguous()
            channels = prediction.shape[1]
            pixels = prediction[0, 0].numel()
            pointwise: dict[str, int] = {}
            for index, measure in job.of_map(name):
                if measure.kind != "ssim":
                    pointwise[measure.kind] = index
            if pointwise:
                blocks = triton.cdiv(pixels, PIXELS)
                parts = torch.empty(len(KINDS), batch, blocks, dtype=dtype, device=valid.device)
                kernels.pixel_errors[(blocks, batch)](
                    prediction,
                    target,
                    valid,
                    parts,
                    pixels,
                    batch,
                    channels,
                    *_flags(pointwise),
                    ACCURACIES[dtype],
                    PIXELS,
                )
                for kind, index in pointwise.items():
                    torch.sum(parts[KINDS.index(kind)], dim=1, out=sums[index])
            for index, measure in job.of_map(name):
                if measure.kind == "ssim":
                    fills = _fills(target, valid, name, dtype)
                    grid = _strips(prediction)
                    parts = torch.empty(batch, channels * grid[0] * grid[1], dtype=dtype, device=valid.device)
                    _dissimilarity(prediction, target, valid, fills, measure, None, parts)
                    torch.sum(parts, dim=1, out=sums[index]).div_(channels)
    return sums @ image_shares(valid).to(dtype), []


def backward(
    upstream: Tensor,
    predictions: Sequence[Tensor],
    targets: Sequence[Tensor],
    valid: Tensor,
    kept: Sequence[Tensor],
    job: Job,
) -> list[Tensor]:
    """Compute the gradient in the predictions, as `tiles.backward` does."""
    del kept
    batch = len(valid)
    dtype = _accuracy(predictions)
    valid = valid.contiguous()
    shares = image_shares(valid).to(dtype)
    gradients = []
    with _on_device_of(valid):
        for name, given, truth in zip(job.maps, predictions, targets, strict=True):
            prediction = given.contiguous()
            target = truth.contiguous()
            channels = prediction.shape[1]
            pixels = prediction[0, 0].numel()
            other = None
            factors = torch.zeros(len(KINDS), batch, dtype=dtype, device=valid.device)
            pointwise: dict[str, int] = {}
            for index, measure in job.of_map(name):
                if index >= job.learned:
                    continue
                if measure.kind != "ssim":
                    pointwise[measure.kind] = index
                    torch.mul(shares, upstream[index], out=factors[KINDS.index(measure.kind)])
                    continue
                if other is None:
                    other = torch.zeros(prediction.shape, dtype=dtype, device=valid.device)
                weights = shares * upstream[index] * (to_unit(name)[0] / channels)
                slopes = torch.empty(3, *prediction.shape, dtype=dtype, device=valid.device)
                _dissimilarity(prediction, target, valid, _fills(target, valid, name, dtype), measure, weights, slopes)
                _gather(prediction, target, valid, slopes, measure, other)
            factors[0] /= channels
            gradient = torch.empty_like(prediction)
            kernels.pixel_slopes[(triton.cdiv(pixels, PIXELS), batch)](
                prediction,
                target,
                valid,
                factors,
                other,
                gradient,
                pixels,
                batch,
                channels,
                *_flags(pointwise),
                other is not None,
                ACCURACIES[dtype],
                PIXELS,
            )
            gradients.append(gradient)
    return gradients


def _accuracy(maps: Sequence[Tensor]) -> torch.dtype:
    if any(values.dtype == torch.float64 for values in maps):
        return torch.float64
    return torch.float32


def _flags(kinds: Mapping[str, int]) -> tuple[bool, ...]:
    return tuple(kind in kinds for kind in KINDS)


def _on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    # Triton launches on the current device, which need not be the tensor's.
    if tensor.is_cuda:
        return torch.cuda.device(tensor.device)
    return nullcontext()  # Triton's interpreter


def _strips(values: Tensor) -> tuple[int, int, int]:
    """The grid of programs over maps `(B, C, H, W)`: strips across, strips down, planes."""
    batch, channels, height, width = values.shape
    return triton.cdiv(width, COLUMNS), triton.cdiv(height, ROWS), batch * channels


def _fills(target: Tensor, valid: Tensor, name: str, dtype: torch.dtype) -> Tensor:
    """Mean over the valid pixels of each plane, in [0, 1]."""
    batch, channels = target.shape[:2]
    pixels = target[0, 0].numel()
    blocks = triton.cdiv(pixels, PIXELS)
    parts = torch.empty(batch, channels, blocks, dtype=dtype, device=target.device)
    kernels.sums_of_valid[(blocks, batch * channels)](target, valid, parts, pixels, channels, ACCURACIES[dtype], PIXELS)
    counts = (valid != 0).sum(dim=(1, 2, 3)).clamp(min=1)
    factor, offset = to_unit(name)
    return parts.sum(dim=2) / counts.unsqueeze(1) * factor + offset


def _dissimilarity(
    prediction: Tensor,
    target: Tensor,
    valid: Tensor,
    fills: Tensor,
    measure: Measure,
    weights: Tensor | None,
    out: Tensor,
) -> None:
    """Run `kernels.dissimilarity` over all planes; with `weights` of the images it writes slopes."""
    batch, channels, height, width = prediction.shape
    kernels.dissimilarity[_strips(prediction)](
        prediction,
        target,
        valid,
        fills,
        _table(width, measure.taps, out.dtype, out.device),
        _table(height, measure.taps, out.dtype, out.device),
        weights,
        out,
        batch * channels,
        height,
        width,
        *to_unit(measure.map),
        channels,
        len(measure.taps),
        weights is not None,
        ACCURACIES[out.dtype],
        COLUMNS,
        ROWS,
    )


def _gather(prediction: Tensor, target: Tensor, valid: Tensor, slopes: Tensor, measure: Measure, out: Tensor) -> None:
    """Run `kernels.gather` over all planes."""
    batch, channels, height, width = prediction.shape
    kernels.gather[_strips(prediction)](
        prediction,
        target,
        valid,
        slopes,
        _table(width, measure.taps, out.dtype, out.device, transposed=True),
        _table(height, measure.taps, out.dtype, out.device, transposed=True),
        out,
        batch * channels,
        height,
        width,
        *to_unit(measure.map),
        channels,
        len(measure.taps),
        ACCURACIES[out.dtype],
        COLUMNS,
        ROWS,
    )


@lru_cache(maxsize=64)
def _table(size: int, taps: Taps, dtype: torch.dtype, device: torch.device, *, transposed: bool = False) -> Tensor:
    """Weights `(taps, size)` of the positions around each position of an axis, those reflected at the borders included.

    Position i reads position i + k - half with the weight [k, i], which is 0 outside the axis.
    """
    half = len(taps) // 2
    table = torch.zeros(len(taps), size, dtype=torch.float64)
    for place in range(size):
        for offset, tap in enumerate(taps):
            position = abs(place + offset - half)
            if position >= size:
                position = 2 * (size - 1) - position
            if transposed:
                table[place - position + half, position] += tap
            else:
                table[position - place + half, place] += tap
    return table.to(device, dtype)
