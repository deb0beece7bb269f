"""What live captures are drawn from: each distribution with its unit, range and default. Imports no torch.

A pair is a range from which a number is drawn evenly, unless its description says otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0)]
Roughness = Annotated[float, Meta(ge=0, le=1)]
Degrees = Annotated[float, Meta(ge=0, le=80)]
# From nearer, some tilted cameras cannot frame the tile as asked.
Sides = Annotated[float, Meta(ge=0.7, le=10)]
Fill = Annotated[float, Meta(ge=0.3, le=2)]
Stops = Annotated[float, Meta(ge=0, le=3)]
# Crops are shaded with a margin that holds three deviations of such blurs.
Pixels = Annotated[float, Meta(ge=0, le=1)]
Zoom = Annotated[float, Meta(ge=0.1, le=8)]


@dataclass(frozen=True)
class Smoothness:
    """Weights of the four classes of roughness (of a material's mean)."""

    mirror: Annotated[Weight, Meta(description="Weight of roughness 0.02 to 0.12.")] = 1.0
    polished: Annotated[Weight, Meta(description="Weight of roughness 0.12 to 0.3.")] = 1.0
    satin: Annotated[Weight, Meta(description="Weight of roughness 0.3 to 0.55.")] = 1.0
    rough: Annotated[Weight, Meta(description="Weight of roughness 0.55 to 1.")] = 1.0


@dataclass(frozen=True)
class Brightness:
    """Weights of the three classes of a material's mean albedo (sRGB-encoded luma, of dielectrics / of metals)."""

    dark: Annotated[Weight, Meta(description="Weight of 0.12 to 0.35 / 0.3 to 0.6.")] = 1.0
    mid: Annotated[Weight, Meta(description="Weight of 0.35 to 0.65 / 0.6 to 0.8.")] = 1.0
    bright: Annotated[Weight, Meta(description="Weight of 0.65 to 0.93 / 0.8 to 0.98.")] = 1.0


@dataclass(frozen=True)
class Cells:
    """How often each kind of material is drawn. A cell is drawn first, then a material is edited into it."""

    metal: Annotated[Share, Meta(description="Share of metals.")] = 0.4
    flat: Annotated[Share, Meta(description="Share of flat materials (mean slope below 3°), the others are bumpy.")] = (
        0.4
    )
    perfectly_flat: Annotated[Share, Meta(description="Share of the flat materials that have no relief at all.")] = 0.2
    # Smooth dielectrics are as frequent as smooth metals: .6 × 2 / 5 is about .4 × 2.5 / 4.5.
    dielectric_roughness: Smoothness = field(default_factory=lambda: Smoothness(1.0, 1.0, 1.5, 1.5))
    metal_roughness: Smoothness = field(default_factory=lambda: Smoothness(1.25, 1.25, 1.0, 1.0))
    brightness: Brightness = field(default_factory=Brightness)
    dark_when_smooth: Annotated[
        Share,
        Meta(
            description="Share of dark ones among mirror-like and polished dielectrics, whatever `brightness` says: "
            "black tiles are what networks take for metal."
        ),
    ] = 0.5


@dataclass(frozen=True)
class Materials:
    """How materials are chosen, changed and combined."""

    real: Annotated[Share, Meta(description="Share of materials from folders; the others are procedural.")] = 0.6
    natural: Annotated[Share, Meta(description="Share of materials that are left as they are, but for placement.")] = (
        0.3
    )
    exchange: Annotated[
        Share, Meta(description="Share of edited materials that may come from the other side, metal or dielectric.")
    ] = 0.35
    recolour: Annotated[Share, Meta(description="Share of edited materials whose hue is turned.")] = 0.5
    mix: Annotated[Share, Meta(description="Share of visits that show two materials through a random mask.")] = 0.3
    zoom: Annotated[
        tuple[Zoom, Zoom], Meta(description="Tiles of the material along the frame's side, even in its logarithm.")
    ] = (0.6, 1.8)
    zoomed: Annotated[Share, Meta(description="Share of materials that are zoomed; the others show one tile.")] = 0.6
    turned: Annotated[
        Share, Meta(description="Share of materials turned by any angle; all are turned by quarter-turns and flipped.")
    ] = 0.25
    relief: Annotated[
        tuple[Zoom, Zoom], Meta(description="Factor of a bumpy material's slopes, even in its logarithm.")
    ] = (0.5, 2.0)


@dataclass(frozen=True)
class Cameras:
    """Where photos are taken from. Lengths are in sides of the texture tile."""

    distance: Annotated[
        tuple[Sides, Sides],
        Meta(description="Distance of the first camera as long as it looks straight down, even in its logarithm."),
    ] = (0.9, 3.0)
    first_tilt: Annotated[tuple[Degrees, Degrees], Meta(description="Tilt of the first camera, in degrees.")] = (
        0.0,
        8.0,
    )
    tilt: Annotated[tuple[Degrees, Degrees], Meta(description="Tilt of the other cameras, in degrees.")] = (15.0, 50.0)
    roll: Annotated[Degrees, Meta(description="Largest turn about the optical axis, in degrees.")] = 5.0
    first_fill: Annotated[
        tuple[Fill, Fill], Meta(description="Share of the first photo's side that the tile fills.")
    ] = (
        0.85,
        1.0,
    )
    fill: Annotated[
        tuple[Fill, Fill], Meta(description="The same of the other photos; above 1 the tile's ends are cut off.")
    ] = (0.85, 1.1)


@dataclass(frozen=True)
class Light:
    """Flash and surroundings. Their shares add up to 1 at the tile's centre."""

    usual_ambient: Annotated[
        tuple[Share, Share], Meta(description="Share of the surroundings in half of the visits with a flash.")
    ] = (0.13, 0.23)
    ambient: Annotated[
        tuple[Share, Share], Meta(description="Share of the surroundings in the other half of these visits.")
    ] = (0.0, 0.5)
    flashless: Annotated[Share, Meta(description="Share of visits without a flash.")] = 0.05
    offset: Annotated[Share, Meta(description="Share of visits whose flash is not at the lens.")] = 0.3
    offset_length: Annotated[
        tuple[Share, Share], Meta(description="Distance of such a flash from the lens, in tile sides.")
    ] = (0.01, 0.12)
    environments: Annotated[
        str | None,
        Meta(description="Folder of equirectangular Radiance maps (.hdr) for half of the visits; default: none."),
    ] = None
    drawn_environments: Annotated[int, Meta(ge=1, le=4096, description="Surroundings drawn for the bank.")] = 128


@dataclass(frozen=True)
class Photos:
    """What camera and registration do to the light."""

    automatic: Annotated[
        Share, Meta(description="Share of visits in which each photo is exposed for its own mean luminance.")
    ] = 0.2
    free: Annotated[Share, Meta(description="Share of visits with an exposure that is off by up to `free_stops`.")] = (
        0.1
    )
    free_stops: Annotated[Stops, Meta(description="Largest such error, in stops, the same for all photos.")] = 1.0
    stops: Annotated[
        Stops, Meta(description="Largest error of exposure in all visits, in stops; for each photo if automatic.")
    ] = 0.15
    warmth: Annotated[Stops, Meta(description="Largest error of red over blue, in stops, shared by all photos.")] = 0.05
    tint: Annotated[Stops, Meta(description="Largest error of green over red and blue, in stops.")] = 0.02
    lens: Annotated[
        tuple[Pixels, Pixels], Meta(description="Deviation of the lens's blur along each axis, in input pixels.")
    ] = (0.25, 0.6)
    blur: Annotated[
        tuple[Pixels, Pixels],
        Meta(description="Deviation of the blur that shrinking and alignment leave along each axis, in input pixels."),
    ] = (0.3, 0.7)
    registration: Annotated[
        Pixels, Meta(description="Largest shift of each photo but the first along each axis, in input pixels.")
    ] = 0.15
    iso_doublings: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=8)], Annotated[float, Meta(ge=0, le=8)]],
        Meta(description="Sensitivity in doublings of ISO 50."),
    ] = (0.0, 2.0)
    dirty: Annotated[
        Share,
        Meta(
            description="Share of careless visits: a lit room with its taker in the light, a greasy, shaken or "
            "defocused lens, drifting exposure and white balance, ISO 200 to 3200."
        ),
    ] = 0.15


def unordered(options: Any, path: str = "") -> Iterator[str]:
    """Find the ranges of options whose ends are in the wrong order, weights that are all zero, and shares above 1.

    Args:
        options: A dataclass of this module, or one that contains some.
        path: What to write in front of names.

    Yields:
        A line for each mistake.
    """
    if isinstance(options, Smoothness | Brightness) and not any(vars(options).values()):
        yield f"{path.removesuffix('.')}: all weights are 0; one must be above"
    if isinstance(options, Photos) and options.automatic + options.free > 1:
        yield f"{path}free: is {options.free:g}, with `automatic` more than 1; both are shares of the same visits"
    for option in fields(options):
        value = getattr(options, option.name)
        if is_dataclass(value):
            yield from unordered(value, f"{path}{option.name}.")
        elif isinstance(value, tuple) and len(value) == 2 and value[0] > value[1]:
            yield f"{path}{option.name}: the range begins at {value[0]:g} and ends at {value[1]:g}; swap them"
