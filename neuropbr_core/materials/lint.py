"""Plausibility checks of a material's maps: measurements that raise doubts, which a person should settle.

The checks apply to maps from any source, downloaded or predicted. They need NumPy only, so checking files does not load
torch.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS

Level = Literal["error", "warning", "info"]
Values = npt.NDArray[np.float32]
"""Float32 `(C, H, W)`."""

# sRGB albedo of dielectrics, from charcoal to fresh snow.
_DARKEST = 30 / 255
_BRIGHTEST = 240 / 255
# Share of the image beyond that range which calls for a warning: small dark cracks and labels are no mistake.
_IMPLAUSIBLE_SHARE = 0.1
# Metallic within this distance of 0 or 1 counts as binary.
_BINARY_MARGIN = 0.1
# Rust and dirt on metal blend at their edges, not over half of the tile.
_BLEND_SHARE = 0.1
_MOSTLY_BLEND_SHARE = 0.5
# Largest minus smallest value of a constant map: rounding to 8 bits moves a value by one step.
_CONSTANT = 1.5 / 255
# Deviation of a normal's length from 1, and the share of the image that may exceed it.
_UNIT_TOLERANCE = 0.1
_UNIT_SHARE = 0.1
# Share of normals that may point into the surface: steep edges do so after filtering.
_BACKWARDS_SHARE = 0.01

# Factors of the three scales at which the normal convention is measured.
_HALVINGS = (1, 2, 4)
# Blocks along a side over which the evidence is summed.
_BLOCKS = 16
# Shorter sides give too few blocks; a shrunk map needs longer ones, because shrinking leaves correlations of its own.
_SMALLEST_SIDE = 16
_SMALLEST_COARSE_SIDE = 64
# Smallest z that slopes are divided by: nearly horizontal normals would outweigh all the others.
_STEEPEST = 0.1
# Standard deviations at which a scale decides, and at which another scale contradicts it.
_SIGNIFICANT = 5.0
_CONTRADICTING = 3.0
# Correlations that lossy compression and (divided by the side in pixels) shrinking leave in maps without an answer.
_COMPRESSED = 0.02
_ALIASED = 6.0


class MapFinding(NamedTuple):
    """One doubt about a map.

    Attributes:
        level: `error` when the map cannot be right, `warning` when it is probably wrong, `info` when it is unusual.
        code: Kind of the doubt, an identifier that stays the same between versions.
        map_name: Name of the map, a key of `maps.MAPS`.
        message: Measurement and remedy, for a person.
    """

    level: Level
    code: str
    map_name: str
    message: str


class NormalConvention(NamedTuple):
    """Which way the green channel of a normal map points.

    Attributes:
        name: `opengl` (+Y up, as in this project), `directx` (+Y down), or None when the map shows neither.
        correlation: From -1 (the slopes are consistent as DirectX only) to 1 (as OpenGL only); 0 fits both equally.
        significance: The evidence in standard deviations of its chance value, with the sign of `correlation`.
    """

    name: Literal["opengl", "directx"] | None
    correlation: float
    significance: float


def lint_maps(maps: Mapping[str, npt.ArrayLike]) -> list[MapFinding]:
    """Check a material's maps for implausible values.

    Args:
        maps: Maps `(C, H, W)` in the ranges of `maps.MAPS`, any of the four; NumPy arrays or CPU tensors. Albedo is
            sRGB-encoded in [0, 1]. Normals are in [-1, 1] as stored; do not normalize them, because their length is
            checked.

    Returns:
        Findings, those about NaN first, then in the order of `maps.MAPS`; empty for a plausible material.

    Raises:
        DataError: A map is unknown or has a wrong shape.
    """
    findings = []
    sound = {}
    for name, values in maps.items():
        array = _array(name, values)
        if np.isfinite(array).all():
            sound[name] = array
        else:
            # Every other measurement would be NaN, so this finding is the map's only one.
            findings.append(MapFinding("error", "not-finite", name, "holds NaN or infinite values; compute it again"))
    if "albedo" in sound:
        findings += _albedo_findings(sound["albedo"], sound.get("metallic"))
    if "roughness" in sound and _is_constant(sound["roughness"]):
        message = f"is {sound['roughness'].mean():.2f} everywhere; real surfaces vary"
        findings.append(MapFinding("info", "constant-roughness", "roughness", message))
    if "metallic" in sound:
        metallic = sound["metallic"]
        share = float(((metallic > _BINARY_MARGIN) & (metallic < 1 - _BINARY_MARGIN)).mean())
        if share > _BLEND_SHARE:
            level: Level = "warning" if share > _MOSTLY_BLEND_SHARE else "info"
            message = (
                f"is neither 0 nor 1 in {share:.0%} of the image; a material is metal or not, and blends at edges "
                "alone. Is it a metalness map?"
            )
            findings.append(MapFinding(level, "metallic-not-binary", "metallic", message))
    if "normal" in sound:
        findings += _normal_findings(sound["normal"])
    return findings


def normal_convention(normals: npt.ArrayLike) -> NormalConvention:
    """Distinguish OpenGL from DirectX normals by testing which of the two readings can belong to a surface.

    A normal map is made from a height field z, with slopes p = dz/dx and q = dz/dy, and for every height field the
    mixed derivatives agree: dp/dy = dq/dx. Of the two readings of the green channel, only the right one satisfies this,
    apart from noise. With a = dp/dy and b = dq/dx for OpenGL, the two readings leave the residuals (a - b)² and
    (a + b)², so the mean of the product a·b has the sign of the answer. Its significance is judged over blocks of
    the image, whose products would cancel if a and b were unrelated: the sum over blocks, divided by the root of the
    sum of its squares. The finest of three scales may be noise, so the scale with the clearest answer counts, unless
    another scale contradicts it.

    A map that is flat, or that varies along one axis only, has no mixed derivative and gives no answer. A flipped red
    channel looks the same as a flipped green one.

    Args:
        normals: `(3, H, W)` in [-1, 1]: x right, y up for OpenGL; of any length.

    Returns:
        The convention. None for less than five standard deviations, for scales that contradict each other, and for a
        correlation below 0.02 or 6 / side, which lossy compression and shrinking can leave behind.

    Source:
        Horn, Brooks: The Variational Approach to Shape from Shading (1986), the integrability constraint p_y = q_x;
        Frankot, Chellappa: A Method for Enforcing Integrability in Shape from Shading Algorithms (1988), z_xy = z_yx.
    """
    vectors = _array("normal", normals)
    shorter = min(vectors.shape[1:])
    scales = {}
    for step in _HALVINGS:
        smallest = _SMALLEST_SIDE if step == 1 else _SMALLEST_COARSE_SIDE
        if shorter // step >= smallest:
            scales[step] = _evidence(vectors, step)
    if not scales:
        return NormalConvention(None, 0.0, 0.0)
    best = max(scales, key=lambda step: abs(scales[step][1]))
    correlation, significance = scales[best]
    if significance > 0:
        name: Literal["opengl", "directx"] = "opengl"
        sign = 1
    else:
        name = "directx"
        sign = -1
    contradicted = any(other * sign < -_CONTRADICTING for _, other in scales.values())
    # A large image makes even a meaningless correlation significant, so its size must convince too.
    faint = correlation * sign < max(_COMPRESSED, _ALIASED / (shorter // best))
    if abs(significance) < _SIGNIFICANT or faint or contradicted:
        return NormalConvention(None, correlation, significance)
    return NormalConvention(name, correlation, significance)


def _array(name: str, values: npt.ArrayLike) -> Values:
    if name not in MAPS:
        raise DataError(f"{name!r} is no map; the maps are {', '.join(MAPS)}")
    array = np.asarray(values, dtype=np.float32)
    if array.ndim != 3 or array.shape[0] != MAPS[name].channels:
        raise DataError(f"{name}: found shape {array.shape}; one material's map is ({MAPS[name].channels}, H, W)")
    return array


def _albedo_findings(albedo_srgb: Values, metallic: Values | None) -> list[MapFinding]:
    if _is_constant(albedo_srgb):
        return [MapFinding("warning", "constant-albedo", "albedo", "has one colour everywhere; is it the right file?")]
    dark = albedo_srgb.max(axis=0) < _DARKEST
    bright = albedo_srgb.min(axis=0) > _BRIGHTEST
    # Clean metals are brighter than any dielectric, and their base colour has no lower limit either.
    if metallic is not None and metallic.shape[1:] == albedo_srgb.shape[1:]:
        dark &= metallic[0] < 0.5
        bright &= metallic[0] < 0.5
    findings = []
    for code, where, limit in (("dark-albedo", dark, "below 30"), ("bright-albedo", bright, "above 240")):
        share = float(where.mean())
        if share > _IMPLAUSIBLE_SHARE:
            message = (
                f"is {limit} of 255 (sRGB) in {share:.0%} of the image where it is no metal; dielectrics lie within "
                "30 to 240. Is light baked in, or is it stored linear?"
            )
            findings.append(MapFinding("warning", code, "albedo", message))
    return findings


def _normal_findings(normals: Values) -> list[MapFinding]:
    findings = []
    length = np.linalg.norm(normals, axis=0)
    share = float((np.abs(length - 1) > _UNIT_TOLERANCE).mean())
    if share > _UNIT_SHARE:
        message = f"is not of unit length in {share:.0%} of the image; is it a tangent-space normal map, saved linear?"
        findings.append(MapFinding("warning", "normal-not-unit", "normal", message))
    share = float((normals[2] < 0).mean())
    if share > _BACKWARDS_SHARE:
        message = f"points into the surface in {share:.0%} of the image; blue must be above the middle"
        findings.append(MapFinding("warning", "normal-backwards", "normal", message))
    if _is_constant(normals):
        return [*findings, MapFinding("info", "flat-normal", "normal", "is flat; the material has no relief")]
    convention = normal_convention(normals)
    measured = f"correlation {convention.correlation:+.2f}, {abs(convention.significance):.1f} standard deviations"
    if convention.name == "directx":
        message = (
            f"looks like DirectX (+Y down): its slopes belong to no surface as OpenGL ({measured}). "
            "Invert the green channel; `neuropbr data import` does it"
        )
        findings.append(MapFinding("warning", "normal-directx", "normal", message))
    elif convention.name is None:
        message = f"cannot tell OpenGL from DirectX ({measured}): too flat, too noisy, or varying along one axis"
        findings.append(MapFinding("info", "normal-unclear", "normal", message))
    return findings


def _is_constant(values: Values) -> bool:
    """Whether every channel is constant."""
    return float(np.max(np.ptp(values, axis=(1, 2)))) < _CONSTANT


def _evidence(vectors: Values, step: int) -> tuple[float, float]:
    """Compute the correlation of the mixed derivatives as OpenGL normals, and its significance over blocks.

    Rows count downwards, so the OpenGL slope along rows is dz/drow = ny / nz. Derivatives are taken around each cell
    of 2 × 2 pixels, where both belong to the same point.

    Args:
        vectors: Normals of any length.
        step: Side in pixels of the squares that are averaged first.
    """
    height = vectors.shape[1] // step
    width = vectors.shape[2] // step
    squares = vectors[:, : height * step, : width * step].reshape(3, height, step, width, step)
    coarse = squares.mean(axis=(2, 4))
    depth = np.maximum(coarse[2], _STEEPEST)
    across = -coarse[0] / depth
    down = coarse[1] / depth
    first = (across[1:, :-1] + across[1:, 1:] - across[:-1, :-1] - across[:-1, 1:]) / 2
    second = (down[:-1, 1:] + down[1:, 1:] - down[:-1, :-1] - down[1:, :-1]) / 2
    energy = float(((first**2 + second**2) / 2).mean(dtype=np.float64))
    if energy == 0:
        return 0.0, 0.0
    product = first * second
    correlation = float(product.mean(dtype=np.float64)) / energy
    # Neighbouring pixels are not independent, so significance is judged between blocks, at least four pixels wide.
    rows = max(1, min(_BLOCKS, product.shape[0] // 4))
    columns = max(1, min(_BLOCKS, product.shape[1] // 4))
    tall = product.shape[0] // rows
    wide = product.shape[1] // columns
    blocks = product[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
    means = blocks.mean(axis=(1, 3), dtype=np.float64)
    spread = float(np.sqrt((means**2).sum()))
    if spread == 0:
        return correlation, 0.0
    return correlation, float(means.sum()) / spread
