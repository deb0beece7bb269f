"""The defects of a capture as numbers: what is recorded beside a dirty capture, apart from the code that draws them."""

from dataclasses import dataclass

from neuropbr_core.materials.sensor import Noise


@dataclass(frozen=True)
class Dirt:
    """All defects of one capture. Lists have an entry for each photo; 0 means that the effect is absent.

    Attributes:
        ambient: The environment's share of the light, 0.25 to 0.5, or 1 without a flash.
        photographer: Whether the person who holds the phone blocks light.
        clutter: Number of other things that block light, 0 to 2.
        haze: Share of the light that grease on the lens spreads, 0 to 0.25; its radius in sides of the photo.
        streak: Share of the light that scratches drag out, 0 to 0.12; its length in sides; its angle in radians.
        defocus: Radius of the circle of confusion of each photo, 0 to 0.005 sides.
        shake: Length of the hand's path in each photo, 0 to 0.01 sides, and its angle in radians.
        vignette: tan² of the corners' angle, 0 to 0.15.
        exposure: Error of each photo's exposure, -0.6 to 0.6 stops.
        warmth: Gain of red over blue in each photo, -0.4 to 0.4 stops.
        tint: Gain of green over red and blue in each photo, -0.12 to 0.12 stops.
        noise: Noise of a sensor pixel at ISO 200 to 3200.
        jpeg: Quality of each photo's JPEG compression, 50 to 95.
    """

    ambient: float
    photographer: bool
    clutter: int
    haze: tuple[float, float]
    streak: tuple[float, float, float]
    defocus: list[float]
    shake: list[tuple[float, float]]
    vignette: float
    exposure: list[float]
    warmth: list[float]
    tint: list[float]
    noise: Noise
    jpeg: list[int]
