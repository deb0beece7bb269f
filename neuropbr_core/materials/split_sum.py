"""Specular light from all around by the split sum: prefiltered light multiplied by an integrated BRDF.

    ∫ L(l) f_spec(l, v) n·l dl  ≈  prefiltered(reflected v, roughness) · (F0 · A + B),   (A, B) of (n·v, roughness)

The approximation is exact for light that is the same from everywhere. Otherwise it filters as if the view were
perpendicular, so highlights do not stretch at grazing angles, and it admits light from below the horizon. Under
procedural environments, metals of roughness 0.3 to 1 viewed within 40° of the normal have an error of 2 to 13 % on
average (a test ensures it). In a room with small bright lamps, the dark parts of a smooth metal viewed at 40° may be a
third too dark.

Source: Karis 2013, "Real Shading in Unreal Engine 4", section "Image-Based Lighting"; facet sampling by Heitz 2018,
"Sampling the GGX Distribution of Visible Normals", listing 1.
"""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.materials.ggx import distribution, schlick, visibility
from neuropbr_core.materials.sphere import convolve, lobe_spectrum

LEVEL_ROUGHNESS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Roughness of the prefiltered levels, evenly spaced; level 0 is the light itself."""
_TABLE_SIZE = 48
# Facets for each entry of the table; a power of two, as the bit reversal of a Hammersley set needs.
_TABLE_SAMPLES = 1024


@cache
def brdf_table() -> Float[Tensor, "2 R C"]:
    """Return the integrated specular BRDF: scale A and bias B of F0, by roughness (rows) and n·v (columns).

    Returns:
        Values in [0, 1], on the CPU, computed once in a process. Both axes run from 0 to 1 with entries at
        (i + 0.5) / size.

    Source: Karis 2013, with the visible facets of Heitz 2018, which leave G2 / G1 as the weight of each facet.
    """
    # n·v, and also roughness: both axes have the same centres.
    n_dot_v = (torch.arange(_TABLE_SIZE, dtype=torch.float64) + 0.5) / _TABLE_SIZE
    view = torch.stack((torch.sqrt(1 - n_dot_v**2), torch.zeros_like(n_dot_v), n_dot_v), dim=-1)
    rows = []
    for roughness in n_dot_v:
        alpha = float(roughness) ** 2
        half = _visible_facets(view, alpha)
        v_dot_h = (view[:, None] * half).sum(-1)
        n_dot_l = 2 * v_dot_h * half[..., 2] - n_dot_v[:, None]
        # G2 / G1 of height-correlated Smith is (1 + Λ(v)) / (1 + Λ(v) + Λ(l)), written with roots that are 1 + 2 Λ.
        root_v = torch.sqrt(1 + alpha**2 * (1 / n_dot_v[:, None] ** 2 - 1))
        root_l = torch.sqrt(1 + alpha**2 * (1 / n_dot_l.clamp_min(1e-9) ** 2 - 1))
        weight = torch.where(n_dot_l > 0, (1 + root_v) / (root_v + root_l), 0.0)
        # Schlick's (1 - v·h)⁵ splits the weight between B, which grazing light fills, and A.
        rise = schlick(v_dot_h.clamp(0, 1))
        rows.append(torch.stack(((weight * (1 - rise)).mean(1), (weight * rise).mean(1))))
    return torch.stack(rows, dim=1).float()


def specular_scale_bias(n_dot_v: Float[Tensor, "1 H W"], roughness: Float[Tensor, "1 H W"]) -> Float[Tensor, "2 H W"]:
    """Look up scale A and bias B: light reflected from a white surround is F0 · A + B.

    Args:
        n_dot_v: Cosine between normal and view, in [0, 1].
        roughness: Perceptual roughness, in [0, 1].

    Returns:
        Scale A and bias B, each in [0, 1].

    Source: Karis 2013, section "Environment BRDF".
    """
    table = brdf_table().to(n_dot_v.device)
    grid = torch.stack((n_dot_v, roughness), dim=-1) * 2 - 1
    return F.grid_sample(table[None], grid, padding_mode="border", align_corners=False)[0]


def prefilter(radiance: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 L H W"]:
    """Blur an equirectangular map (`sphere`) by the GGX lobe of every level, summing over all of its texels.

    The weight of direction l for reflection r is that of the BRDF, D V n·l, with n = v = r, normalised to 1: exact for
    a view along the normal. Karis weights by n·l alone, which dims the wide glow of small bright lamps.

    Args:
        radiance: Linear radiance.

    Returns:
        Linear radiance of the L levels in `LEVEL_ROUGHNESS`; the first is `radiance` itself.

    Source: Karis 2013, section "Pre-Filtered Environment Map", with the weight above.
    """
    height, width = radiance.shape[1:]
    spectrum = torch.fft.rfft(radiance)
    levels = [radiance]
    for roughness in LEVEL_ROUGHNESS[1:]:
        lobe = _lobe(height, width, roughness).to(radiance.device)
        levels.append(convolve(spectrum, lobe, width))
    return torch.stack(levels, dim=1)


@cache
def _lobe(height: int, width: int, roughness: float) -> Tensor:
    """Return the normalised lobe of a level, for `convolve`."""

    def weight(cosine: Tensor) -> Tensor:
        # The half vector bisects the angle between normal (= view) and light.
        n_dot_h = torch.sqrt(((1 + cosine) / 2).clamp_min(0))
        n_dot_l = cosine.clamp_min(1e-6)
        alpha = cosine.new_tensor(roughness**2)
        spread = distribution(n_dot_h, alpha) * visibility(n_dot_l, torch.ones_like(n_dot_l), alpha)
        return spread * cosine.clamp_min(0)

    spectrum = lobe_spectrum(height, width, weight)
    return (spectrum / spectrum[..., :1].real.sum(dim=1, keepdim=True)).to(torch.complex64)


def _visible_facets(view: Float[Tensor, "C 3"], alpha: float) -> Float[Tensor, "C S 3"]:
    """Return facet normals distributed as they are visible from `view`, at the points of a Hammersley set.

    Sources: Heitz 2018, listing 1; Niederreiter 1992, "Random Number Generation and Quasi-Monte Carlo Methods", section
    3.1 (Hammersley sets).
    """
    # The first coordinates of the points are evenly spaced; the second ones are the reversed bits of their numbers,
    # which a power of two has. Half a step keeps the points inside the square: radius 0 and 1 are degenerate facets.
    index = torch.arange(_TABLE_SAMPLES)
    bits = _TABLE_SAMPLES.bit_length() - 1
    reverse = torch.zeros_like(index)
    for bit in range(bits):
        reverse += ((index >> bit) & 1) << (bits - 1 - bit)
    first = (index.double() + 0.5) / _TABLE_SAMPLES
    second = (reverse.double() + 0.5) / _TABLE_SAMPLES
    stretched = F.normalize(view * view.new_tensor([alpha, alpha, 1.0]), dim=-1)
    # The view has y = 0, so the frame around the stretched view is known in closed form.
    side = stretched.new_tensor([0.0, 1.0, 0.0]).expand_as(stretched)
    across = torch.linalg.cross(stretched, side)
    radius = first.sqrt()
    angle = 2 * math.pi * second
    x = radius * angle.cos()
    y = radius * angle.sin()
    # Points of a disc are squeezed onto the part of the hemisphere's projection that the view sees.
    lean = (1 + stretched[:, 2:]) / 2
    y = (1 - lean) * torch.sqrt(1 - x**2) + lean * y
    z = torch.sqrt((1 - x**2 - y**2).clamp_min(0))
    normal = x[None, :, None] * side[:, None] + y[..., None] * across[:, None] + z[..., None] * stretched[:, None]
    return F.normalize(normal * view.new_tensor([alpha, alpha, 1.0]), dim=-1)
