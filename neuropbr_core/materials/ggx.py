"""The reflectance model: microfacet specular with a GGX distribution over a diffuse base, metallic workflow.

    f(l, v) = D(n·h) · V(n·l, n·v) · F(v·h)  +  diffuse(n·l, n·v)

- D: GGX (Trowbridge-Reitz), alpha = roughness² (Burley 2012, section 5.4).
- V = G2 / (4 n·l n·v), height-correlated Smith masking and shadowing.
- F: Schlick's Fresnel from F0 = lerp(0.04, base, metallic) to 1 at grazing.
- diffuse: a Lambertian base under a dielectric interface, coupled so that diffuse and specular never return more than
  they receive: what the interface reflects at entry and exit is taken away, and what it reflects back inside is given
  back by a constant. It is reciprocal, reads as 1.008 · base / π at normal incidence, and a smooth white dielectric
  reflects exactly all light. Plain `base / π` beside the specular lobe would return up to twice what it receives.

Only single scattering between facets is modelled: rough metals lose energy, up to 69 % at roughness 1 from above.
Three-component vectors and colours have their components in dimension -3; cosines have 1 there.

Sources: Walter et al. 2007, "Microfacet Models for Refraction through Rough Surfaces", equation 33; Heitz 2014,
"Understanding the Masking-Shadowing Function", equation 99; Schlick 1994, "An Inexpensive BRDF Model"; Shirley et al.
1997, "A Practitioners' Assessment of Light Reflection Models" (the coupled diffuse term).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.materials.vectors import unit

DIELECTRIC_F0 = 0.04
"""Reflectance of a dielectric at normal incidence (index of refraction 1.5)."""
MIN_ROUGHNESS = 0.07
"""Floor of roughness, alpha 0.0049: point lights cannot shade a mirror, whose distribution is a delta function. At this
floor D peaks at 1.3e4, which float32 still resolves to a percent, and a highlight is about as wide as a real lamp's."""
COUPLING = 21 / 20
"""Makes the coupled diffuse term return all that enters: 1 / (2 ∫ c (1 - (1 - c)⁵) dc) over c from 0 to 1."""
# Keeps the visibility term finite at grazing angles.
_MIN_COSINE = 1e-4


class Reflectance(NamedTuple):
    """Parameters of the reflectance model at points of a material.

    Attributes:
        base_linear: Base colour, linear light, `(*batch, 3, H, W)`.
        f0: Specular reflectance at normal incidence, linear, `(*batch, 3, H, W)`.
        roughness: Perceptual roughness, at least `MIN_ROUGHNESS`, `(*batch, 1, H, W)`.
        diffuse: Base colour of the diffuse part, `(1 - metallic) · base`, linear, `(*batch, 3, H, W)`.
    """

    base_linear: Tensor
    f0: Tensor
    roughness: Tensor
    diffuse: Tensor


def reflectance(
    base_linear: Float[Tensor, "*batch 3 H W"],
    roughness: Float[Tensor, "*batch 1 H W"],
    metallic: Float[Tensor, "*batch 1 H W"],
) -> Reflectance:
    """Convert map values to the model's parameters.

    Args:
        base_linear: Base colour in linear light, in [0, 1].
        roughness: Perceptual roughness in [0, 1].
        metallic: 0 for a dielectric, 1 for a metal; values between blend both.

    Returns:
        The parameters; roughness is raised to `MIN_ROUGHNESS`.

    Source: Burley 2012, "Physically-Based Shading at Disney", section 5 (metallic workflow).
    """
    return Reflectance(
        base_linear,
        torch.lerp(torch.full_like(base_linear, DIELECTRIC_F0), base_linear, metallic),
        roughness.clamp_min(MIN_ROUGHNESS),
        base_linear * (1 - metallic),
    )


def dot(a: Float[Tensor, "*#batch 3 #H #W"], b: Float[Tensor, "*#batch 3 #H #W"]) -> Float[Tensor, "... 1 _ _"]:
    """Compute dot products.

    Args:
        a: Vectors, with components in dimension -3.
        b: Vectors, with components in dimension -3; broadcast with `a`.

    Returns:
        Dot products, with a dimension of 1 in place of the components.
    """
    return (a * b).sum(dim=-3, keepdim=True)


def distribution(n_dot_h: Float[Tensor, "*#shape"], alpha: Float[Tensor, "*#shape"]) -> Float[Tensor, "..."]:
    """Compute the GGX density of facet normals.

    Args:
        n_dot_h: Cosine between normal and half vector, in [0, 1].
        alpha: Squared roughness, > 0.

    Returns:
        Density in 1/sr, at most 1 / (π · alpha²).

    Source: Walter et al. 2007, equation 33, with tan² written through cos².
    """
    squared = alpha * alpha
    denominator = n_dot_h * n_dot_h * (squared - 1) + 1
    return squared / (math.pi * denominator * denominator)


def visibility(
    n_dot_l: Float[Tensor, "*#shape"], n_dot_v: Float[Tensor, "*#shape"], alpha: Float[Tensor, "*#shape"]
) -> Float[Tensor, "..."]:
    """Compute height-correlated Smith masking and shadowing G2, divided by 4 n·l n·v.

    Args:
        n_dot_l: Cosine between normal and light, > 0.
        n_dot_v: Cosine between normal and view, > 0.
        alpha: Squared roughness, > 0.

    Returns:
        The visibility term V, at least 0.

    Source: Heitz 2014, equation 99.
    """
    squared = alpha * alpha
    # Multiplied through, the cosines of G2's numerator and of the divisor cancel, so no term grows without bound.
    masking = n_dot_l * torch.sqrt(n_dot_v * n_dot_v * (1 - squared) + squared)
    shadowing = n_dot_v * torch.sqrt(n_dot_l * n_dot_l * (1 - squared) + squared)
    return 0.5 / (masking + shadowing)


def schlick(cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compute Schlick's weight (1 - cos)⁵ of the rise from F0 to 1.

    Args:
        cosine: Cosine between half vector and view, in [0, 1].

    Returns:
        The weight, 0 at normal incidence and 1 at grazing incidence.

    Source: Schlick 1994, equation 15.
    """
    gap = 1 - cosine
    # Three products are faster than `pow`, and this runs several times for every sample.
    squared = gap * gap
    return squared * squared * gap


def diffuse_transmission(cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compute how much light passes the dielectric interface at an angle, relative to normal incidence.

    Args:
        cosine: Cosine between normal and direction, in [0, 1].

    Returns:
        1 - (1 - cos)⁵, from 0 at grazing incidence to 1 at normal incidence.

    Source: Shirley et al. 1997, the factors of the coupled diffuse term.
    """
    return 1 - schlick(cosine)


def brdf(
    material: Reflectance,
    normal: Float[Tensor, "*#batch 3 #H #W"],
    view: Float[Tensor, "*#batch 3 #H #W"],
    light: Float[Tensor, "*#batch 3 #H #W"],
) -> Float[Tensor, "... 3 _ _"]:
    """Evaluate the BRDF: reflected radiance per irradiance from one direction, in 1/sr.

    Args:
        material: Parameters from `reflectance`.
        normal: Unit normals.
        view: Unit vectors to the camera.
        light: Unit vectors to the light.

    Returns:
        The BRDF, linear; 0 where the light or the camera is below the surface. Multiply by n·l for radiance.

    Source: the formula at the top of this module, with its references.
    """
    n_dot_l = dot(normal, light)
    n_dot_v = dot(normal, view)
    above = (n_dot_l > 0) & (n_dot_v > 0)
    # Rounding may take a cosine of unit vectors above 1, which Schlick's weight would answer with a negative number.
    n_dot_l = n_dot_l.clamp(_MIN_COSINE, 1)
    n_dot_v = n_dot_v.clamp(_MIN_COSINE, 1)
    half = unit(view + light)
    n_dot_h = dot(normal, half).clamp(0, 1)
    v_dot_h = dot(view, half).clamp(0, 1)
    alpha = material.roughness * material.roughness  # Burley's remapping: equal steps of roughness look equal
    lobe = distribution(n_dot_h, alpha) * visibility(n_dot_l, n_dot_v, alpha)
    specular = torch.lerp(material.f0, torch.ones_like(material.f0), schlick(v_dot_h)) * lobe
    coupled = diffuse_transmission(n_dot_l) * diffuse_transmission(n_dot_v)
    diffuse = material.diffuse * (coupled * (COUPLING * (1 - DIELECTRIC_F0) / math.pi))
    return torch.where(above, specular + diffuse, 0.0)
