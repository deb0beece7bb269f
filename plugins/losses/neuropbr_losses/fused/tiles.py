"""The measures by PyTorch's operators on tiles that stay in a processor's cache, with gradients written out.

Three choices make this fast and small on a CPU:

- A window is a product with a banded matrix on either side of a tile, `R X Cᵀ`, which includes the reflection at the
  borders. Small matrix products are faster than convolutions of one channel, and the transposed window that the
  gradient needs is the product with the transposed matrices.
- The gradient of SSIM is computed in the forward pass, while the tile's moments are in the cache. As the measure is a
  number, its gradient is known but for one factor. It is all that is kept, one tensor of the map's size.
- All other gradients are cheap and are computed again in the backward pass.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_losses.fused.measures import C1, C2, Job, Measure, Taps, image_shares, to_unit

TILE = 64
"""Side of a tile in pixels. Matrix products take `TILE + window` multiplications a pixel and axis, and smaller tiles
read relatively more of their neighbours' pixels."""

CACHED = 1 << 16
"""Elements of a map that are worked on together: a dozen tensors of that size fit into a processor's second cache."""

TINY = 1e-12
"""Length below which a vector counts as having this length, as in `torch.nn.functional.normalize`."""


def forward(
    predictions: Sequence[Tensor], targets: Sequence[Tensor], valid: Tensor, job: Job, *, differentiable: bool
) -> tuple[Tensor, list[Tensor]]:
    """Compute the measures of a job.

    Args:
        predictions: Maps `(B, channels, H, W)` in the order of `job.maps`.
        targets: The true maps, likewise.
        valid: 1 where a pixel counts, `(B, 1, H, W)`.
        job: What to compute.
        differentiable: Whether the gradient will be asked for.

    Returns:
        The values, and what `backward` needs beside the arguments: the gradients of the learned SSIM measures.
    """
    dtype = _working_dtype(predictions)
    sums = torch.zeros(len(job.measures), len(valid), dtype=dtype, device=valid.device)
    shares = image_shares(valid).to(dtype)
    kept = []
    for name, prediction, target in zip(job.maps, predictions, targets, strict=True):
        channels = prediction.shape[1]
        pointwise = []
        for index, measure in job.of_map(name):
            if measure.kind != "ssim":
                pointwise.append((index, measure.kind))
                continue
            gradient = None
            if differentiable and index < job.learned:
                gradient = torch.zeros(prediction.shape, dtype=dtype, device=prediction.device)
                kept.append(gradient)
            _add_dissimilarity(sums[index], prediction, target, valid, measure, shares, gradient)
        for images, rows in _chunks(prediction):
            p = prediction[images, :, rows].to(dtype)
            t = target[images, :, rows].to(dtype)
            invalid = valid[images, :, rows] == 0
            for index, kind in pointwise:
                errors = _errors(kind, p, t).masked_fill_(invalid, 0.0)
                sums[index, images] += errors.sum(dim=(1, 2, 3)) / errors.shape[1]
        for index, measure in job.of_map(name):
            if measure.kind == "ssim":
                sums[index] /= channels
    return sums @ shares, kept


def backward(
    upstream: Float[Tensor, " M"],
    predictions: Sequence[Tensor],
    targets: Sequence[Tensor],
    valid: Tensor,
    kept: Sequence[Tensor],
    job: Job,
) -> list[Tensor]:
    """Compute the gradient in the predictions.

    Args:
        upstream: Gradient in the values.
        predictions: As in `forward`.
        targets: As in `forward`.
        valid: As in `forward`.
        kept: What `forward` returned.
        job: As in `forward`.

    Returns:
        One gradient for each prediction, of its type.
    """
    dtype = _working_dtype(predictions)
    shares = image_shares(valid).to(dtype)
    remaining = iter(kept)
    gradients = []
    for name, prediction, target in zip(job.maps, predictions, targets, strict=True):
        gradient = torch.zeros(prediction.shape, dtype=dtype, device=prediction.device)
        pointwise = []
        for index, measure in job.of_map(name):
            if index >= job.learned:
                continue
            if measure.kind == "ssim":
                gradient.addcmul_(next(remaining), upstream[index].to(dtype))
            else:
                pointwise.append((index, measure.kind))
        for images, rows in _chunks(prediction):
            p = prediction[images, :, rows].to(dtype)
            t = target[images, :, rows].to(dtype)
            invalid = valid[images, :, rows] == 0
            for index, kind in pointwise:
                slopes = _slopes(kind, p, t).masked_fill_(invalid, 0.0)
                factors = shares[images] * upstream[index]
                if kind == "l1":
                    factors = factors / prediction.shape[1]
                gradient[images, :, rows].addcmul_(slopes, factors.view(-1, 1, 1, 1))
        gradients.append(gradient.to(prediction.dtype))
    return gradients


def _working_dtype(maps: Sequence[Tensor]) -> torch.dtype:
    # Variances are small differences of large moments, of which half precision leaves nothing.
    if any(values.dtype == torch.float64 for values in maps):
        return torch.float64
    return torch.float32


def _chunks(values: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut maps `(B, C, H, W)` into images and rows of about `CACHED` elements."""
    batch, channels, height, width = values.shape
    rows = max(1, min(height, CACHED // (channels * width)))
    images = max(1, CACHED // (channels * width * rows))
    for first in range(0, batch, images):
        for top in range(0, height, rows):
            yield slice(first, first + images), slice(top, top + rows)


def _errors(kind: str, p: Tensor, t: Tensor) -> Tensor:
    """Errors of pixels; their sum over channels is divided by the number of channels of the result."""
    if kind == "l1":
        return (p - t).abs_()
    if kind == "cosine":
        # |a - b|² / 2 on unit vectors is 1 - a·b without its cancellation.
        difference = _direction(p)[0].sub_(_direction(t)[0])
        return difference.square_().sum(dim=1, keepdim=True).div_(2)
    cross, sine = _cross(p, t)
    del cross
    return torch.atan2(sine, (p * t).sum(dim=1, keepdim=True))


def _slopes(kind: str, p: Tensor, t: Tensor) -> Tensor:
    """Derivatives of `_errors` in the prediction."""
    if kind == "l1":
        return (p - t).sign_()
    if kind == "cosine":
        direction, length = _direction(p)
        difference = direction - _direction(t)[0]
        # The part along the vector has no influence, because the vector is normalised.
        along = (difference * direction).sum(dim=1, keepdim=True)
        return difference.addcmul_(direction, along, value=-1).div_(length)
    cross, sine = _cross(p, t)
    cosine = (p * t).sum(dim=1, keepdim=True)
    # Of parallel vectors the axis is taken to be 0, and so is the subgradient.
    axis = cross / sine.clamp_min(TINY)
    scale = 1 / (sine.square() + cosine.square()).clamp_min(TINY)
    return _cross(t, axis)[0].mul_(cosine * scale).addcmul_(t, sine * scale, value=-1)


def _direction(vectors: Tensor) -> tuple[Tensor, Tensor]:
    length = vectors.square().sum(dim=1, keepdim=True).sqrt_().clamp_min_(TINY)
    return vectors / length, length


def _cross(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The cross product and its length."""
    ax, ay, az = a.unbind(dim=1)
    bx, by, bz = b.unbind(dim=1)
    # Products and a difference, and no fused multiply-add, which would leave a residue in a × a.
    cross = torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), dim=1)
    return cross, cross.square().sum(dim=1, keepdim=True).sqrt_()


class _Band(NamedTuple):
    """A stretch of an axis, and the window over it.

    Attributes:
        out: The stretch.
        read: What its windows read.
        matrix: Weights `(out, read)`; those of reflected positions are added to the positions that they reflect.
    """

    out: slice
    read: slice
    matrix: Tensor


@lru_cache(maxsize=64)
def _bands(size: int, taps: Taps, dtype: torch.dtype, device: torch.device) -> tuple[_Band, ...]:
    """Cut an axis into stretches of `TILE` pixels."""
    half = len(taps) // 2
    # A short rest would cost as much as a whole tile, so that the stretches are of about equal length.
    count = max(1, round(size / TILE))
    edges = [size * index // count for index in range(count + 1)]
    bands = []
    for start, stop in pairwise(edges):
        first = max(0, start - half)
        last = min(size, stop + half)
        matrix = torch.zeros(stop - start, last - first, dtype=torch.float64)
        for row in range(start, stop):
            for offset, tap in enumerate(taps):
                position = abs(row + offset - half)
                if position >= size:
                    position = 2 * (size - 1) - position
                matrix[row - start, position - first] += tap
        bands.append(_Band(slice(start, stop), slice(first, last), matrix.to(device, dtype)))
    return tuple(bands)


def _add_dissimilarity(
    sums: Float[Tensor, " B"],
    prediction: Tensor,
    target: Tensor,
    valid: Tensor,
    measure: Measure,
    shares: Float[Tensor, " B"],
    gradient: Tensor | None,
) -> None:
    """Add 1 - SSIM, summed over valid pixels and channels, to `sums`, and its gradient to `gradient`.

    With local moments u = E[x], v = E[y], q = E[x² + y²], c = E[xy]:
    S = (2uv + C1)(2(c - uv) + C2) / ((u² + v² + C1)(q - u² - v² + C2)).
    Only the sum of the two variances occurs, so q needs one window instead of two.

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, equation
    13.
    """
    batch, channels, height, width = prediction.shape
    dtype = sums.dtype
    factor, offset = to_unit(measure.map)
    fill = _means_of_valid(target, valid, dtype).mul_(factor).add_(offset)
    row_bands = _bands(height, measure.taps, dtype, prediction.device)
    column_bands = _bands(width, measure.taps, dtype, prediction.device)
    step = max(1, CACHED // (channels * min(TILE, height) * min(TILE, width)))
    for first in range(0, batch, step):
        images = slice(first, first + step)
        for rows in row_bands:
            for columns in column_bands:
                invalid = valid[images, :, rows.read, columns.read] == 0
                x = prediction[images, :, rows.read, columns.read].to(dtype)
                y = target[images, :, rows.read, columns.read].to(dtype)
                moments = torch.empty(4, *x.shape, dtype=dtype, device=x.device)
                # Windows of valid pixels reach across invalid ones, which get the target's mean in both images.
                torch.where(invalid, fill[images], torch.add(offset, x, alpha=factor), out=moments[0])
                torch.where(invalid, fill[images], torch.add(offset, y, alpha=factor), out=moments[1])
                x = moments[0]
                y = moments[1]
                torch.mul(x, x, out=moments[2]).addcmul_(y, y)
                torch.mul(x, y, out=moments[3])
                u, v, q, c = torch.matmul(rows.matrix, torch.matmul(moments, columns.matrix.T))

                uv = u * v
                squares = (u * u).addcmul_(v, v)
                # S = luminance · contrast / (b1 · b2), with the names of the paper's factors for their numerators.
                luminance = (2 * uv).add_(C1)
                contrast = c.sub_(uv).mul_(2).add_(C2)
                b1 = squares + C1
                b2 = q.sub_(squares).add_(C2)
                scale = (b1 * b2).reciprocal_()
                similarity = (luminance * contrast).mul_(scale)
                outside = valid[images, :, rows.out, columns.out] == 0
                sums[images] += (1 - similarity).masked_fill_(outside, 0.0).sum(dim=(1, 2, 3))
                if gradient is None:
                    continue

                # The derivatives of 1 - S in q, c and u, which occurs in all four factors: in luminance and contrast
                # through uv, in b1 and b2 through u².
                slopes = torch.empty(3, *u.shape, dtype=dtype, device=u.device)
                torch.div(similarity, b2, out=slopes[1])
                torch.mul(luminance, scale, out=slopes[2]).mul_(-2)
                torch.sub(luminance, contrast, out=slopes[0]).mul_(scale).mul_(v)
                slopes[0].addcmul_(u, (similarity / b1).sub_(slopes[1])).mul_(2)
                weights = (shares[images] * (factor / channels)).view(-1, 1, 1, 1).expand(outside.shape)
                slopes.mul_(weights.masked_fill(outside, 0.0))
                # The chain rule through q = E[x² + y²] gives 2x, through c = E[xy] gives y.
                through_u, through_q, through_c = torch.matmul(rows.matrix.T, torch.matmul(slopes, columns.matrix))
                through_u.addcmul_(x, through_q, value=2).addcmul_(y, through_c)
                # Tiles overlap: a pixel is in the windows of its neighbours' tiles too.
                gradient[images, :, rows.read, columns.read] += through_u.masked_fill_(invalid, 0.0)


def _means_of_valid(values: Tensor, valid: Tensor, dtype: torch.dtype) -> Float[Tensor, "B C 1 1"]:
    """Mean over the valid pixels of each channel; 0 where none is valid."""
    sums = torch.zeros(*values.shape[:2], 1, 1, dtype=dtype, device=values.device)
    for images, rows in _chunks(values):
        invalid = valid[images, :, rows] == 0
        part = values[images, :, rows].to(dtype).masked_fill(invalid, 0.0)
        sums[images] += part.sum(dim=(2, 3), keepdim=True)
    return sums / (valid != 0).sum(dim=(2, 3), keepdim=True).clamp(min=1)
