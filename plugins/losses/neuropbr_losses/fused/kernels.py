"""Triton kernels that compute the measures, and read the maps while they write next to nothing.

- `pixel_errors` and `pixel_slopes` compute all measures of single pixels of a map in one pass.
- `dissimilarity` goes down a strip of columns, row by row. It weights the pixels of a row across, and adds the result
  to as many running sums as the window has rows; the first sum is complete. So each pixel is read from memory once, and
  no moment is written.
- In the backward pass, `dissimilarity` computes the moments again and writes the three slopes of SSIM, and `gather`
  goes down their strips in the same way.

The reflection at the borders is part of the weights: the tables `across` and `down` have weights of their own for the
pixels at the borders. Invalid pixels are never read, so that their content cannot matter.
"""

from typing import no_type_check

import triton
import triton.language as tl

from neuropbr_losses.fused import measures

# Kernels are marked `no_type_check`, because a hook that checks shapes on import would wrap them in Python functions.

_C1 = tl.constexpr(measures.C1)
_C2 = tl.constexpr(measures.C2)
_TINY = tl.constexpr(1e-12)


@no_type_check
@triton.jit
def _load3(pointer, at, pixels, mask, ACCURACY: tl.constexpr):
    """Load the three channels of vectors; (1, 1, 1) where masked, which has a direction."""
    x = tl.load(pointer + at, mask=mask, other=1.0).to(ACCURACY)
    y = tl.load(pointer + at + pixels, mask=mask, other=1.0).to(ACCURACY)
    z = tl.load(pointer + at + 2 * pixels, mask=mask, other=1.0).to(ACCURACY)
    return x, y, z


@no_type_check
@triton.jit
def _length(x, y, z):
    return tl.sqrt(x * x + y * y + z * z)


@no_type_check
@triton.jit
def _product(a, b, c, d):
    """Compute a b - c d without fused multiply-add, which would leave a residue in the cross product a × a."""
    left = a * b
    right = c * d
    return tl.where(left == right, 0.0, left - right)


@no_type_check
@triton.jit
def _atan2(y, x):
    """The angle of a vector with y >= 0, in [0, pi].

    Exact identities reduce the argument to [0, tan(pi/8)]. There, the series of the arctangent in an argument of at
    most 0.42 needs 9 terms for float32 and 22 for float64.
    """
    large = tl.maximum(y, tl.abs(x))
    small = tl.minimum(y, tl.abs(x))
    ratio = small / tl.maximum(large, _TINY)
    # arctan(r) = pi/4 + arctan((r - 1) / (r + 1)).
    is_steep = ratio > 0.41421356237309503
    reduced = tl.where(is_steep, (ratio - 1.0) / (ratio + 1.0), ratio)
    square = reduced * reduced
    series = square * 0.0
    for step in tl.static_range(22):
        # Horner's scheme over (-1)^n / (2 n + 1), from n = 21 down to 0.
        series = series * square + (1.0 - 2.0 * ((21 - step) % 2)) / (2.0 * (21 - step) + 1.0)
    angle = series * reduced
    angle = tl.where(is_steep, angle + 0.7853981633974483, angle)
    angle = tl.where(y > tl.abs(x), 1.5707963267948966 - angle, angle)
    return tl.where(x < 0.0, 3.141592653589793 - angle, angle)


@no_type_check
@triton.jit
def pixel_errors(
    prediction,
    target,
    valid,
    sums,
    pixels,
    images,
    CHANNELS: tl.constexpr,
    L1: tl.constexpr,
    COSINE: tl.constexpr,
    ANGLE: tl.constexpr,
    ACCURACY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add up the errors of the pixels of a block of an image; `sums` is (kinds, images, blocks)."""
    block = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)  # a large batch has more values than int32 counts
    at = block * BLOCK + tl.arange(0, BLOCK)
    counted = tl.load(valid + image * pixels + at, mask=at < pixels, other=0.0) != 0
    first = image * CHANNELS * pixels + at
    out = sums + image * tl.num_programs(0) + block
    kind = tl.cast(images, tl.int64) * tl.num_programs(0)
    if L1:
        total = tl.zeros([BLOCK], ACCURACY)
        for channel in tl.static_range(CHANNELS):
            p = tl.load(prediction + first + channel * pixels, mask=counted, other=0.0).to(ACCURACY)
            t = tl.load(target + first + channel * pixels, mask=counted, other=0.0).to(ACCURACY)
            total += tl.abs(p - t)
        tl.store(out, tl.sum(total, axis=0) / CHANNELS)
    if COSINE or ANGLE:
        px, py, pz = _load3(prediction, first, pixels, counted, ACCURACY)
        tx, ty, tz = _load3(target, first, pixels, counted, ACCURACY)
        if COSINE:
            # |a - b|² / 2 on unit vectors is 1 - a·b without its cancellation.
            p_length = tl.maximum(_length(px, py, pz), _TINY)
            t_length = tl.maximum(_length(tx, ty, tz), _TINY)
            dx = px / p_length - tx / t_length
            dy = py / p_length - ty / t_length
            dz = pz / p_length - tz / t_length
            errors = tl.where(counted, (dx * dx + dy * dy + dz * dz) / 2, 0.0)
            tl.store(out + kind, tl.sum(errors, axis=0))
        if ANGLE:
            sine = _length(_product(py, tz, pz, ty), _product(pz, tx, px, tz), _product(px, ty, py, tx))
            errors = tl.where(counted, _atan2(sine, px * tx + py * ty + pz * tz), 0.0)
            tl.store(out + 2 * kind, tl.sum(errors, axis=0))


@no_type_check
@triton.jit
def pixel_slopes(
    prediction,
    target,
    valid,
    factors,
    other,
    out,
    pixels,
    images,
    CHANNELS: tl.constexpr,
    L1: tl.constexpr,
    COSINE: tl.constexpr,
    ANGLE: tl.constexpr,
    OTHER: tl.constexpr,
    ACCURACY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradient of the pixels of a block; `factors` is (kinds, images), `other` is added if there is one."""
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < pixels
    counted = tl.load(valid + image * pixels + at, mask=inside, other=0.0) != 0
    first = image * CHANNELS * pixels + at
    if COSINE or ANGLE:
        px, py, pz = _load3(prediction, first, pixels, counted, ACCURACY)
        tx, ty, tz = _load3(target, first, pixels, counted, ACCURACY)
        gx = tl.zeros([BLOCK], ACCURACY)
        gy = tl.zeros([BLOCK], ACCURACY)
        gz = tl.zeros([BLOCK], ACCURACY)
        if COSINE:
            factor = tl.load(factors + images + image)
            p_length = tl.maximum(_length(px, py, pz), _TINY)
            t_length = tl.maximum(_length(tx, ty, tz), _TINY)
            ux = px / p_length
            uy = py / p_length
            uz = pz / p_length
            dx = ux - tx / t_length
            dy = uy - ty / t_length
            dz = uz - tz / t_length
            # The part along the vector has no influence, because the vector is normalised.
            along = dx * ux + dy * uy + dz * uz
            factor = factor / p_length
            gx += factor * (dx - along * ux)
            gy += factor * (dy - along * uy)
            gz += factor * (dz - along * uz)
        if ANGLE:
            factor = tl.load(factors + 2 * images + image)
            cx = _product(py, tz, pz, ty)
            cy = _product(pz, tx, px, tz)
            cz = _product(px, ty, py, tx)
            sine = _length(cx, cy, cz)
            cosine = px * tx + py * ty + pz * tz
            scale = factor / tl.maximum(sine * sine + cosine * cosine, _TINY)
            # Of parallel vectors the axis is taken to be 0, and so is the subgradient.
            inverse = 1.0 / tl.maximum(sine, _TINY)
            cx *= inverse
            cy *= inverse
            cz *= inverse
            gx += scale * (cosine * (ty * cz - tz * cy) - sine * tx)
            gy += scale * (cosine * (tz * cx - tx * cz) - sine * ty)
            gz += scale * (cosine * (tx * cy - ty * cx) - sine * tz)
    for channel in tl.static_range(CHANNELS):
        gradient = tl.zeros([BLOCK], ACCURACY)
        if L1:
            p = tl.load(prediction + first + channel * pixels, mask=counted, other=0.0).to(ACCURACY)
            t = tl.load(target + first + channel * pixels, mask=counted, other=0.0).to(ACCURACY)
            factor = tl.load(factors + image)
            gradient += factor * ((p > t).to(ACCURACY) - (p < t).to(ACCURACY))
        if COSINE or ANGLE:
            if channel == 0:
                gradient += gx
            elif channel == 1:
                gradient += gy
            else:
                gradient += gz
        if OTHER:
            gradient += tl.load(other + first + channel * pixels, mask=counted, other=0.0)
        gradient = tl.where(counted, gradient, 0.0)
        tl.store(out + first + channel * pixels, gradient.to(out.dtype.element_ty), mask=inside)


@no_type_check
@triton.jit
def sums_of_valid(values, valid, sums, pixels, CHANNELS: tl.constexpr, ACCURACY: tl.constexpr, BLOCK: tl.constexpr):
    """Add up the valid pixels of a block of a plane; `sums` is (planes, blocks)."""
    block = tl.program_id(0)
    plane = tl.program_id(1).to(tl.int64)
    at = block * BLOCK + tl.arange(0, BLOCK)
    counted = tl.load(valid + plane // CHANNELS * pixels + at, mask=at < pixels, other=0.0) != 0
    value = tl.load(values + plane * pixels + at, mask=counted, other=0.0).to(ACCURACY)
    tl.store(sums + plane * tl.num_programs(0) + block, tl.sum(value, axis=0))


@no_type_check
@triton.jit
def dissimilarity(
    prediction,
    target,
    valid,
    fills,
    across,
    down,
    factors,
    out,
    planes,
    height,
    width,
    factor,
    offset,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPES: tl.constexpr,
    ACCURACY: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Go down a strip of a plane, and compute SSIM where the window is complete.

    Adds 1 - SSIM up into `out` (planes, strips). With SLOPES, it instead writes the derivatives of 1 - SSIM in u, q and
    c, times the image's of `factors`, into `out` (3, planes, height, width).
    """
    HALF: tl.constexpr = TAPS // 2
    plane = tl.program_id(2).to(tl.int64)
    image = plane // CHANNELS
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    top = tl.program_id(1) * ROWS
    bottom = tl.minimum(top + ROWS, height)
    pixels = tl.cast(height, tl.int64) * width
    prediction += plane * pixels
    target += plane * pixels
    valid += image * pixels
    fill = tl.load(fills + plane)
    zero = tl.zeros([COLUMNS], ACCURACY)
    # Running sums of the moments of the rows around the current one; the first is complete next.
    us = (zero,) * TAPS
    vs = (zero,) * TAPS
    qs = (zero,) * TAPS
    cs = (zero,) * TAPS
    total = zero
    for row in range(top - HALF, bottom + HALF):
        u = zero
        v = zero
        q = zero
        c = zero
        for tap in tl.static_range(TAPS):
            column = columns + tap - HALF
            at = row * width + column
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            counted = tl.load(valid + at, mask=inside, other=0.0) != 0
            x = tl.load(prediction + at, mask=counted, other=0.0).to(ACCURACY) * factor + offset
            y = tl.load(target + at, mask=counted, other=0.0).to(ACCURACY) * factor + offset
            # Windows of valid pixels reach across invalid ones, which get the target's mean in both images.
            x = tl.where(counted, x, fill)
            y = tl.where(counted, y, fill)
            weight = tl.load(across + tap * width + columns, mask=columns < width, other=0.0)
            u += weight * x
            v += weight * y
            q += weight * (x * x + y * y)
            c += weight * (x * y)
        next_us = ()
        next_vs = ()
        next_qs = ()
        next_cs = ()
        for tap in tl.static_range(TAPS):
            later = row - HALF + tap
            weight = tl.load(down + (TAPS - 1 - tap) * height + later, mask=(later >= 0) & (later < height), other=0.0)
            next_us = next_us + (us[tap] + weight * u,)
            next_vs = next_vs + (vs[tap] + weight * v,)
            next_qs = next_qs + (qs[tap] + weight * q,)
            next_cs = next_cs + (cs[tap] + weight * c,)
        u = next_us[0]
        v = next_vs[0]
        q = next_qs[0]
        c = next_cs[0]
        us = next_us[1:] + (zero,)
        vs = next_vs[1:] + (zero,)
        qs = next_qs[1:] + (zero,)
        cs = next_cs[1:] + (zero,)

        complete = row - HALF
        inside = (complete >= top) & (columns < width)
        at = complete * width + columns
        counted = tl.load(valid + at, mask=inside, other=0.0) != 0
        squares = u * u + v * v
        luminance = 2 * u * v + _C1
        contrast = 2 * (c - u * v) + _C2
        b1 = squares + _C1
        b2 = q - squares + _C2
        similarity = luminance * contrast / (b1 * b2)
        if SLOPES:
            weight = tl.where(counted, tl.load(factors + image), 0.0)
            of_q = similarity / b2
            of_c = -2 * luminance / (b1 * b2)
            of_u = 2 * v * (luminance - contrast) / (b1 * b2) + 2 * u * (similarity / b1 - of_q)
            place = out + plane * pixels + at
            size = planes * pixels
            tl.store(place, weight * of_u, mask=inside)
            tl.store(place + size, weight * of_q, mask=inside)
            tl.store(place + 2 * size, weight * of_c, mask=inside)
        else:
            total += tl.where(counted, 1 - similarity, 0.0)
    if not SLOPES:
        strip = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        strips = tl.num_programs(0) * tl.num_programs(1)
        tl.store(out + plane * strips + strip, tl.sum(total, axis=0))


@no_type_check
@triton.jit
def gather(
    prediction,
    target,
    valid,
    slopes,
    across,
    down,
    out,
    planes,
    height,
    width,
    factor,
    offset,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    ACCURACY: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Go down a strip of a plane of the slopes, apply the transposed window, and add the gradient to `out`."""
    HALF: tl.constexpr = TAPS // 2
    plane = tl.program_id(2).to(tl.int64)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    top = tl.program_id(1) * ROWS
    bottom = tl.minimum(top + ROWS, height)
    pixels = tl.cast(height, tl.int64) * width
    size = planes * pixels
    prediction += plane * pixels
    target += plane * pixels
    slopes += plane * pixels
    out += plane * pixels
    valid += plane // CHANNELS * pixels
    zero = tl.zeros([COLUMNS], ACCURACY)
    us = (zero,) * TAPS
    qs = (zero,) * TAPS
    cs = (zero,) * TAPS
    for row in range(top - HALF, bottom + HALF):
        u = zero
        q = zero
        c = zero
        for tap in tl.static_range(TAPS):
            column = columns + tap - HALF
            at = row * width + column
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = tl.load(across + tap * width + columns, mask=columns < width, other=0.0)
            u += weight * tl.load(slopes + at, mask=inside, other=0.0)
            q += weight * tl.load(slopes + size + at, mask=inside, other=0.0)
            c += weight * tl.load(slopes + 2 * size + at, mask=inside, other=0.0)
        next_us = ()
        next_qs = ()
        next_cs = ()
        for tap in tl.static_range(TAPS):
            later = row - HALF + tap
            weight = tl.load(down + (TAPS - 1 - tap) * height + later, mask=(later >= 0) & (later < height), other=0.0)
            next_us = next_us + (us[tap] + weight * u,)
            next_qs = next_qs + (qs[tap] + weight * q,)
            next_cs = next_cs + (cs[tap] + weight * c,)
        us = next_us[1:] + (zero,)
        qs = next_qs[1:] + (zero,)
        cs = next_cs[1:] + (zero,)

        complete = row - HALF
        inside = (complete >= top) & (columns < width)
        at = complete * width + columns
        counted = tl.load(valid + at, mask=inside, other=0.0) != 0
        x = tl.load(prediction + at, mask=counted, other=0.0).to(ACCURACY) * factor + offset
        y = tl.load(target + at, mask=counted, other=0.0).to(ACCURACY) * factor + offset
        # The chain rule through q = E[x² + y²] gives 2x, through c = E[xy] gives y.
        gradient = next_us[0] + 2 * x * next_qs[0] + y * next_cs[0]
        before = tl.load(out + at, mask=inside, other=0.0)
        tl.store(out + at, before + tl.where(counted, gradient, 0.0), mask=inside)
