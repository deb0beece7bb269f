"""Cells of materials, and edits that take a material into one.

Corners that matter (mirror-like metals, black polished stone, perfectly flat surfaces) are rare among materials as
they come and stay rare under random edits. So the cell is drawn first, by weights, and then a material is moved there.
"""

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuropbr_core.materials.live.options import Brightness, Cells, Materials, Smoothness
from neuropbr_core.materials.live.textures import LUMA, SurfaceValues, Traits, Values

FLAT_SLOPE = math.tan(math.radians(3))
"""Mean slope below which a material counts as flat."""
METAL = 0.5
"""Mean of metallic above which a material counts as metal."""
_PURE = 0.03  # leaves room for dust and for the seams of 8-bit masks
"""How far the mean of metallic may be from 0 or 1 in a material that is all dielectric or all metal."""
_ROUGHEST = 1.0
_SMOOTHEST = 0.02  # what 8 bits still tell from 0, and glass and chrome have
_DIELECTRIC_ALBEDO = (30 / 255, 240 / 255)
"""Charcoal to fresh snow, sRGB-encoded."""
_METAL_ALBEDO = (0.25, 1.0)
# sRGB-encoded reflectances of clean metals, from the linear ones of Akenine-Möller et al. 2018, "Real-Time Rendering",
# 4th edition, table 9.2: aluminium, brass, chromium, copper, gold, iron, nickel, silver, titanium, zinc.
_METAL_COLOURS = np.array(
    [
        (0.960, 0.964, 0.965), (0.959, 0.895, 0.683), (0.767, 0.771, 0.770), (0.980, 0.821, 0.760),
        (1.000, 0.897, 0.622), (0.775, 0.777, 0.785), (0.831, 0.803, 0.742), (0.988, 0.982, 0.961),
        (0.762, 0.733, 0.702), (0.833, 0.917, 0.930),
    ],
    np.float32,
)  # fmt: skip


class RoughnessClass(IntEnum):
    """Classes of mean roughness, as highlights show them."""

    MIRROR = 0
    POLISHED = 1
    SATIN = 2
    ROUGH = 3


class BrightnessClass(IntEnum):
    """Classes of mean albedo."""

    DARK = 0
    MID = 1
    BRIGHT = 2


ROUGHNESS_RANGES = ((0.02, 0.12), (0.12, 0.3), (0.3, 0.55), (0.55, 1.0))
"""Mean roughness of each class."""
DIELECTRIC_RANGES = ((0.12, 0.35), (0.35, 0.65), (0.65, 0.93))
"""Luma of the mean albedo of each class of dielectrics."""
METAL_RANGES = ((0.3, 0.6), (0.6, 0.8), (0.8, 0.98))
"""Luma of the mean albedo of each class of metals."""


class Cell(NamedTuple):
    """A kind of material.

    Attributes:
        metal: Whether it is metal.
        flat: Whether its mean slope is below `FLAT_SLOPE`.
        roughness: Class of its mean roughness.
        brightness: Class of its mean albedo.
    """

    metal: bool
    flat: bool
    roughness: RoughnessClass
    brightness: BrightnessClass


class Edit(NamedTuple):
    """What changes about a material. Means are those of the whole tile, so that a crop and its frame change alike.

    Attributes:
        metallic: Value everywhere; None leaves the map.
        albedo_before: Mean albedo that is taken away, `(3,)`.
        albedo_after: Mean albedo that takes its place, `(3,)`.
        detail: 3×3 matrix of albedo's deviation from its mean: contrast, hue and saturation.
        albedo_range: What albedo is clipped to.
        roughness_before: Mean roughness that is taken away.
        roughness_after: Mean roughness that takes its place.
        roughness_gain: Factor of roughness's deviation from its mean.
        roughness_by_luma: Roughness added for each unit of luma above its mean.
        relief: Factor of the slopes.
    """

    metallic: float | None
    albedo_before: Values
    albedo_after: Values
    detail: npt.NDArray[np.float32]
    albedo_range: tuple[float, float]
    roughness_before: float
    roughness_after: float
    roughness_gain: float
    roughness_by_luma: float
    relief: float

    def apply(self, values: SurfaceValues) -> SurfaceValues:
        """Change a material at any of its points."""
        deviation = values.albedo - self.albedo_before[:, None]
        albedo = self.albedo_after[:, None] + self.detail @ deviation
        roughness = self.roughness_after + (values.roughness - self.roughness_before) * np.float32(self.roughness_gain)
        if self.roughness_by_luma:
            roughness = roughness + np.float32(self.roughness_by_luma) * (LUMA @ deviation)
        metallic = values.metallic
        if self.metallic is not None:
            metallic = np.full_like(metallic, self.metallic)
        return SurfaceValues(
            albedo=albedo.clip(*self.albedo_range).astype(np.float32, copy=False),
            roughness=roughness.clip(_SMOOTHEST, _ROUGHEST).astype(np.float32, copy=False),
            metallic=metallic,
            slopes=values.slopes * np.float32(self.relief),
            spread=values.spread * np.float32(self.relief),
        )


def draw_cell(rng: np.random.Generator, cells: Cells) -> Cell:
    """Draw a kind of material by the weights of the recipe."""
    metal = bool(rng.random() < cells.metal)
    flat = bool(rng.random() < cells.flat)
    smoothness = cells.dielectric_roughness
    if metal:
        smoothness = cells.metal_roughness
    roughness = RoughnessClass(_draw_class(rng, smoothness))
    brightness = BrightnessClass(_draw_class(rng, cells.brightness))
    if not metal and roughness <= RoughnessClass.POLISHED:
        # Both numbers are always drawn, so that the share of dark ones changes nothing in the draws that follow.
        dark = rng.random() < cells.dark_when_smooth
        mid = rng.random() < 0.5
        if dark:
            brightness = BrightnessClass.DARK
        elif mid:
            brightness = BrightnessClass.MID
        else:
            brightness = BrightnessClass.BRIGHT
    return Cell(metal, flat, roughness, brightness)


def cell_of(traits: Traits) -> Cell:
    """Find the cell that a material is in; a brightness between those of metals and dielectrics is that of its kind."""
    metal = traits.metallic > METAL
    ranges = _brightness_ranges(metal=metal)
    roughness = sum(traits.roughness >= low for low, _ in ROUGHNESS_RANGES[1:])
    brightness = sum(traits.luma >= low for low, _ in ranges[1:])
    return Cell(metal, traits.slope < FLAT_SLOPE, RoughnessClass(roughness), BrightnessClass(brightness))


def is_pure(traits: Traits) -> bool:
    """Whether a material is all dielectric or all metal, so that it can be exchanged."""
    return min(traits.metallic, 1 - traits.metallic) < _PURE


def draw_edit(rng: np.random.Generator, cell: Cell, traits: Traits, cells: Cells, materials: Materials) -> Edit:
    """Draw an edit that takes a material into a cell.

    Args:
        rng: Source of the draw.
        cell: Where to.
        traits: Means of the material.
        cells: Share of perfectly flat materials.
        materials: How strongly materials may be changed.

    Returns:
        The edit. Relief is reduced as far as the cell asks, but multiplied only as `materials.relief` allows, since
        what amplifies a nearly flat normal map amplifies the steps of its 8 bits.
    """
    exchanged = (traits.metallic > METAL) != cell.metal
    level = rng.uniform(*_brightness_ranges(metal=cell.metal)[cell.brightness])
    contrast = rng.uniform(0.3, 1.5)
    if exchanged:
        # The new substance has a colour of its own; of the old one only the pattern of light and dark is left.
        if cell.metal:
            clean = _METAL_COLOURS[rng.integers(len(_METAL_COLOURS))].astype(np.float64)
            tint = _random_colour(rng, rng.uniform(0, 0.5))
            # One metal in four is anodised or tinted by heat.
            colour = clean if rng.random() < 0.75 else tint
        else:
            # Squared, because most things are greyish; 0.8, because hardly any dielectric is one pure colour.
            colour = _random_colour(rng, 0.8 * float(rng.random()) ** 2)
        detail = np.outer(np.ones(3), LUMA) * contrast
        metallic: float | None = float(cell.metal)
    else:
        # Metals come in few hues, dielectrics in all.
        furthest_hue = math.pi
        most_saturated = 1.6
        if cell.metal:
            furthest_hue = 0.3
            most_saturated = 1.3
        turn = np.eye(3)
        if rng.random() < materials.recolour:
            turn = _hue_rotation(rng.uniform(-furthest_hue, furthest_hue))
        saturation = rng.uniform(0.2, most_saturated)
        # Saturation scales the distance to grey of the same luma.
        grey = np.outer(np.ones(3), LUMA)
        recolouring = (grey + (np.eye(3) - grey) * saturation) @ turn
        colour = (recolouring @ traits.albedo).clip(0.02, None)
        detail = recolouring * contrast
        metallic = None
        if is_pure(traits):
            metallic = float(cell.metal)
    bounds = _DIELECTRIC_ALBEDO
    if cell.metal:
        bounds = _METAL_ALBEDO
    # 0.02 keeps black from being multiplied into noise.
    albedo_after = colour * (level / max(float(colour @ LUMA), 0.02))
    # Detail follows the brightness of its ground, as it does under other light; far brighter ground gains less.
    detail = detail * min(1.5, level / max(traits.luma, 0.05))
    mean_roughness = rng.uniform(*ROUGHNESS_RANGES[cell.roughness])
    # Deviations stay below half the mean, or clipping at 0.02 would move a mirror's mean out of its class.
    gain = min(rng.uniform(0.2, 1.6), 0.5 * mean_roughness / max(traits.roughness_deviation, 1e-3))
    # In a fifth of the materials dark parts are smoother or rougher than light ones: wet, worn or painted.
    by_luma = 0.0
    if rng.random() < 0.2:
        by_luma = rng.uniform(-1.0, 1.0) * mean_roughness
    share = rng.random()
    position = rng.random()
    if cell.flat:
        relief = 0.0
        if share >= cells.perfectly_flat:
            relief = min(1.0, position * FLAT_SLOPE / max(traits.slope, 1e-6))
    else:
        # A texture that is barely bumpy is raised until it counts as bumpy, within the same limit.
        low, high = materials.relief
        raised = min(high, FLAT_SLOPE / max(traits.slope, 1e-6))
        relief = max(math.exp(math.log(low) + position * math.log(high / low)), raised)
    return Edit(
        metallic=metallic,
        albedo_before=traits.albedo,
        albedo_after=albedo_after.clip(*bounds).astype(np.float32),
        detail=detail.astype(np.float32),
        albedo_range=bounds,
        roughness_before=traits.roughness,
        roughness_after=mean_roughness,
        roughness_gain=gain,
        roughness_by_luma=by_luma,
        relief=relief,
    )


def _brightness_ranges(*, metal: bool) -> tuple[tuple[float, float], ...]:
    """Ranges of the mean albedo's luma by `BrightnessClass`."""
    if metal:
        return METAL_RANGES
    return DIELECTRIC_RANGES


def _draw_class(rng: np.random.Generator, weights: Smoothness | Brightness) -> int:
    # `vars` keeps the order of the fields, which is that of the classes.
    shares = np.array(list(vars(weights).values()), float)
    return int(np.searchsorted(np.cumsum(shares) / shares.sum(), rng.random(), side="right"))


def _random_colour(rng: np.random.Generator, saturation: float) -> npt.NDArray[np.float64]:
    """A colour of any hue whose largest channel is 1."""
    # Cosines a third of a turn apart run through all hues; the largest and the smallest are 1.5 to 1.73 apart.
    waves = np.cos(rng.uniform(0, 2 * math.pi) + np.array([0, 2, 4]) * (math.pi / 3))
    colour: npt.NDArray[np.float64] = 1 + saturation * (waves - waves.max()) / 1.5
    return colour


def _hue_rotation(angle: float) -> npt.NDArray[np.float64]:
    """Rotation about the grey axis. Source: Rodrigues' formula with axis (1, 1, 1) / √3."""
    cosine = math.cos(angle)
    sine = math.sin(angle)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    rotation: npt.NDArray[np.float64] = cosine * np.eye(3) + (1 - cosine) / 3 + sine * cross
    return rotation
