"""What looks wrong about a material's maps: doubts that a person should settle, found by measuring.

Made for maps from anywhere, downloaded or predicted. It needs numpy alone, so a check of files loads no torch.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MAPS

Level = Literal["error", "warning", "info"]
Values = npt.NDArray[np.float32]
"""Float32 `(C, H, W)`."""

_DARKEST, _BRIGHTEST = 30 / 255, 240 / 255  # sRGB albedo of dielectrics from charcoal to fresh snow
_IMPLAUSIBLE_SHARE = 0.1
_BINARY_MARGIN = 0.1
_BLEND_SHARE, _MOSTLY_BLEND_SHARE = 0.1, 0.5  # rust and dirt on metal blend at their edges, not over half of the tile
_CONSTANT = 1.5 / 255  # largest less smallest value
_UNIT_TOLERANCE, _UNIT_SHARE = 0.1, 0.1
_BACKWARDS_SHARE = 0.01

_HALVINGS = (1, 2, 4)
_BLOCKS = 16  # along a side
_SMALLEST_SIDE, _SMALLEST_COARSE_SIDE = 16, 64
_STEEPEST = 0.1  # smallest z that slopes are divided by
_SIGNIFICANT, _CONTRADICTING = 5.0, 3.0  # standard deviations
_COMPRESSED, _ALIASED = 0.02, 6.0  # correlations that lossy files and (over the side in pixels) shrinking leave behind


class MapFinding(NamedTuple):
    """One thing about a map.

    Attributes:
        level: `error` when the map cannot be right, `warning` when it hardly is, `info` when it is unusual.
        code: What it is, in a word that stays the same between versions.
        map_name: Which map, a key of `maps.MAPS`.
        message: What was found and what to do, for a person.
    """

    level: Level
    code: str
    map_name: str
    message: str


class NormalConvention(NamedTuple):
    """Which way the green channel of a normal map points.

    Attributes:
        name: `opengl` (+Y up, as here), `directx` (+Y down), or None when the map does not say.
        correlation: From -1 (the slopes fit together as DirectX only) to 1 (as OpenGL only); 0 fits both equally.
        significance: The evidence in standard deviations of its chance value, with the sign of `correlation`.
    """

    name: Literal["opengl", "directx"] | None
    correlation: float
    significance: float


def lint_maps(maps: Mapping[str, npt.ArrayLike]) -> list[MapFinding]:
    """Look for what is implausible in a material.

    Args:
        maps: Maps `(C, H, W)` in the ranges of `maps.MAPS`, any of the four; numpy arrays or CPU tensors. Albedo is
            sRGB-encoded in [0, 1]. Normals are in [-1, 1] as stored: make them unit and their length tells nothing.

    Returns:
        Findings in the order of `maps.MAPS`; empty for a sound material.

    Raises:
        DataError: An unknown map, or one of another shape.
    """
    arrays = {name: _array(name, values) for name, values in maps.items()}
    findings = [
        MapFinding("error", "not-finite", name, "holds NaN or infinite values; compute it again")
        for name, values in arrays.items()
        if not np.isfinite(values).all()
    ]
    sound = {name: arrays[name] for name in MAPS if name in arrays and name not in {f.map_name for f in findings}}
    if "albedo" in sound:
        findings += _albedo_findings(sound["albedo"], sound.get("metallic"))
    if "roughness" in sound and _is_constant(sound["roughness"]):
        message = f"is {sound['roughness'].mean():.2f} everywhere; real surfaces vary"
        findings.append(MapFinding("info", "constant-roughness", "roughness", message))
    if "metallic" in sound:
        findings += _metallic_findings(sound["metallic"])
    if "normal" in sound:
        findings += _normal_findings(sound["normal"])
    return findings


def normal_convention(normals: npt.ArrayLike) -> NormalConvention:
    """Tell OpenGL from DirectX normals by which of them can belong to a surface.

    A normal map is made from a height field z, with slopes p = dz/dx and q = dz/dy, and for every height field the
    mixed derivatives agree: dp/dy = dq/dx. Of the two readings of the green channel only the right one satisfies this,
    apart from noise. With a = dp/dy and b = dq/dx for OpenGL, the two readings leave the residuals (a - b)² and
    (a + b)², so the mean of the product a·b has the sign of the answer. Its significance is judged over blocks of
    the image, whose products would cancel if a and b were unrelated: the sum over blocks, divided by the root of the
    sum of its squares. The finest of three scales may be noise, so the scale with the clearest answer counts, unless
    another one contradicts it.

    A map that is flat, or that varies along one axis alone, has no mixed derivative and says nothing. A flipped red
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
    sides = {step: min(vectors.shape[1:]) // step for step in _HALVINGS}
    usable = [step for step, side in sides.items() if side >= (_SMALLEST_SIDE if step == 1 else _SMALLEST_COARSE_SIDE)]
    scales = {step: _evidence(_halved(vectors, step)) for step in usable}
    if not scales:
        return NormalConvention(None, 0.0, 0.0)
    best = max(scales, key=lambda step: abs(scales[step][1]))
    correlation, significance = scales[best]
    sign = 1 if significance > 0 else -1
    contradicted = any(other * sign < -_CONTRADICTING for _, other in scales.values())
    faint = correlation * sign < max(_COMPRESSED, _ALIASED / sides[best])
    if abs(significance) < _SIGNIFICANT or faint or contradicted:
        return NormalConvention(None, correlation, significance)
    return NormalConvention("opengl" if sign > 0 else "directx", correlation, significance)


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
    dark, bright = albedo_srgb.max(axis=0) < _DARKEST, albedo_srgb.min(axis=0) > _BRIGHTEST
    if metallic is not None and metallic.shape[1:] == albedo_srgb.shape[1:]:
        dark, bright = dark & (metallic[0] < 0.5), bright & (metallic[0] < 0.5)
    findings = []
    for code, where, limit in (("dark-albedo", dark, "below 30"), ("bright-albedo", bright, "above 240")):
        if (share := float(where.mean())) > _IMPLAUSIBLE_SHARE:
            message = (
                f"is {limit} of 255 (sRGB) in {share:.0%} of the image where it is no metal; dielectrics lie within "
                "30 to 240. Is light baked in, or is it stored linear?"
            )
            findings.append(MapFinding("warning", code, "albedo", message))
    return findings


def _metallic_findings(metallic: Values) -> list[MapFinding]:
    share = float(((metallic > _BINARY_MARGIN) & (metallic < 1 - _BINARY_MARGIN)).mean())
    if share <= _BLEND_SHARE:
        return []
    level: Level = "warning" if share > _MOSTLY_BLEND_SHARE else "info"
    message = (
        f"is neither 0 nor 1 in {share:.0%} of the image; a material is metal or not, and blends at edges alone. "
        "Is it a metalness map?"
    )
    return [MapFinding(level, "metallic-not-binary", "metallic", message)]


def _normal_findings(normals: Values) -> list[MapFinding]:
    findings = []
    length = np.linalg.norm(normals, axis=0)
    if (share := float((np.abs(length - 1) > _UNIT_TOLERANCE).mean())) > _UNIT_SHARE:
        message = f"is not of unit length in {share:.0%} of the image; is it a tangent-space normal map, saved linear?"
        findings.append(MapFinding("warning", "normal-not-unit", "normal", message))
    if (share := float((normals[2] < 0).mean())) > _BACKWARDS_SHARE:
        message = f"points into the surface in {share:.0%} of the image; blue must be above the middle"
        findings.append(MapFinding("warning", "normal-backwards", "normal", message))
    if all(_is_constant(channel[None]) for channel in normals):
        return [*findings, MapFinding("info", "flat-normal", "normal", "is flat; the material has no relief")]
    return [*findings, *_convention_findings(normal_convention(normals))]


def _convention_findings(found: NormalConvention) -> list[MapFinding]:
    measured = f"correlation {found.correlation:+.2f}, {abs(found.significance):.1f} standard deviations"
    if found.name == "directx":
        message = (
            f"looks like DirectX (+Y down): its slopes belong to no surface as OpenGL ({measured}). "
            "Invert the green channel; `neuropbr data import` does it"
        )
        return [MapFinding("warning", "normal-directx", "normal", message)]
    if found.name is None:
        message = f"cannot tell OpenGL from DirectX ({measured}): too flat, too noisy, or varying along one axis"
        return [MapFinding("info", "normal-unclear", "normal", message)]
    return []


def _is_constant(values: Values) -> bool:
    return float(np.ptp(values, axis=(1, 2)).max()) < _CONSTANT


def _halved(vectors: Values, step: int) -> Values:
    """Average blocks of `step` × `step`."""
    height, width = (side // step * step for side in vectors.shape[1:])
    blocks = vectors[:, :height, :width].reshape(3, height // step, step, width // step, step)
    averaged: Values = blocks.mean(axis=(2, 4))
    return averaged


def _evidence(vectors: Values) -> tuple[float, float]:
    """Correlation of the mixed derivatives as OpenGL has them, and its significance over blocks.

    Rows count downwards, so the OpenGL slope along rows is dz/drow = ny / nz. Derivatives are taken around each cell
    of 2 × 2 pixels, where both belong to the same point.
    """
    depth = np.maximum(vectors[2], _STEEPEST)
    across, down = -vectors[0] / depth, vectors[1] / depth
    first = (across[1:, :-1] + across[1:, 1:] - across[:-1, :-1] - across[:-1, 1:]) / 2
    second = (down[:-1, 1:] + down[1:, 1:] - down[:-1, :-1] - down[1:, :-1]) / 2
    energy = float(((first**2 + second**2) / 2).mean(dtype=np.float64))
    if energy == 0:
        return 0.0, 0.0
    product = first * second
    blocks = _block_means(product)
    spread = float(np.sqrt((blocks**2).sum()))
    correlation = float(product.mean(dtype=np.float64)) / energy
    return correlation, float(blocks.sum()) / spread if spread else 0.0


def _block_means(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Means over a grid of blocks, at least four pixels wide each."""
    rows, columns = (max(1, min(_BLOCKS, side // 4)) for side in values.shape)
    height, width = values.shape[0] // rows, values.shape[1] // columns
    cut = values[: rows * height, : columns * width].reshape(rows, height, columns, width)
    means: npt.NDArray[np.float64] = cut.mean(axis=(1, 3), dtype=np.float64)
    return means
