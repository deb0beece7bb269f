"""Refinement: predicted maps are fitted to the photos by differentiating the shading.

Under a flash at the lens and even light from all around, a texel's radiance is linear in its base colour. Each step
therefore solves the albedo of every texel exactly, by weighted least squares, and takes the gradient of what remains
with respect to a few numbers that the whole capture shares: the exposure of each photo, the light from around, one
offset of roughness, one of metallic, and one scale of the relief. Noise cannot enter roughness, metallic and normals,
because no texel has a freedom of its own in them. The fit of these numbers needs few texels, so it is fast.

At the end, all texels judge whether the predicted relief is real, or was read into the pattern of a flat material: real
relief is brighter on the side of each lamp, so that photos differ as the predicted slopes say (`_shown_relief`).

Sources: Gao et al. 2019, "Deep Inverse Rendering for High-Resolution SVBRDF Estimation from an Arbitrary Number of
Images" (refinement of a network's prediction by differentiating a renderer); Golub and Pereyra 1973, "The
Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables Separate" (linear unknowns
solved within each step); Woodham 1980, "Photometric Method for Determining Surface Orientation from Multiple Images"
(slopes show in the differences between photos of one place in different light); Barron 2019, "A General and Adaptive
Robust Loss Function" (the Cauchy loss).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import DataError
from neuropbr_core.inference.flash import BENT, CLIPPED, USUAL_AMBIENT, lacks_flash
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.color import linear_to_srgb, srgb_to_linear
from neuropbr_core.materials.ggx import DIELECTRIC_F0, MIN_ROUGHNESS, schlick
from neuropbr_core.materials.live.shading import flash_factors
from neuropbr_core.materials.split_sum import specular_scale_bias
from neuropbr_core.reporting import reporter

REFINE_STEPS = 200
"""Steps that suffice; more change little."""

# The fit of the few shared numbers looks at a grid of at most this many texels a side.
_GRID = 40
# At most this many texels are handled at once, which bounds the memory.
_CHUNK = 1 << 16
# Error of encoded values that is normal for a good fit. It weighs the photos against the priors.
_USUAL_ERROR = 0.02
# Standard deviation of the logarithm of an exposure that a white reference tells.
_KNOWN_EXPOSURE = 0.02
_RATE = 0.08
# Each start gets this share of the steps, before the best of them goes on alone.
_TRIAL_SHARE = 0.3
# Far enough that a metal becomes a non-metal: its logit rarely exceeds 4.
_NO_METAL = -7.0
_START_ROUGHNESS = (0.3, 0.55)
# Between these means of metallic, the fit also tries a non-metal. What mirrors a room is explained badly by even light,
# as a metal or not, so that the photos do not overrule a prediction that is mostly metal.
_SOME_METAL = 0.03
_MOSTLY_METAL = 0.5
# Least z of a normal whose slope is counted, about the steepest slope of 10.
_STEEPEST = 0.1
# Weights of the doubts beside the residual, and the doubt at which the confidence is one half. They were chosen on
# rendered captures of eight materials.
_DOUBT_OF_SLOPE = 0.1
_DOUBT_OF_METAL = 0.3
_USUAL_DOUBT = 0.05
# By how much a less likely explanation has to be better than a more likely one.
_HANDICAP = 1.15
_MIRROR_ROUGHNESS = 0.05
# Each of the two fits of light that tell a mirror gets this share of the steps.
_MIRROR_SHARE = 0.1
# Substances that a material is divided into; few materials have more.
_SUBSTANCES = 4
# Distance of albedo, roughness and metallic at which a texel belongs to two substances, about the network's error.
_SUBSTANCE_SPREAD = 0.05
# Linear albedo, about the encoded value 0.1, that keeps ratios of dark texels from growing without bound.
_LIFT = 0.01
# Differences of photos are averaged down to at most this side before they judge the relief.
_RELIEF_SIDE = 512
# Light that changes over more than this share of the tile is no relief: it is the lamp, the room and the exposure.
_RELIEF_EXTENT = 1 / 8
# Factor that photos show of a relief that is right: noise and steep slopes lower it.
_USUAL_RELIEF = 0.9
# Differences of brightness that photos cannot tell from their own faults: where the slopes make less, the relief stays.
_FAINT = 0.001
# Least weight of a texel that may judge the relief, and least linear brightness, above a photo's noise.
_CLEAR = 0.5
_DARK = 0.003


@dataclass(frozen=True)
class Priors:
    """How far the photos may move each unknown from where it starts.

    Attributes:
        albedo: Weight of the predicted albedo beside a photo, above 0: a texel that no photo shows has nothing else.
        exposure: Usual deviation of the capture's exposure, in natural logarithms. Larger ones cost little more.
        photo_exposure: Usual deviation of a photo's exposure from the capture's, in the same unit.
        ambient: Standard deviation of the logarithm of the light from around.
        relief: Standard deviation of the logarithm of the relief's scale while it is fitted. How much of it the photos
            show at the end has no prior.
        roughness: Standard deviation of the mean offset of roughness, in logits.
        metallic: Standard deviation of the mean offset of metallic, in logits.
        substance: Standard deviation of a substance's offset from the mean one, in logits.
        robust: Error of encoded values beyond which a texel of a photo counts less and less.
        strength: Weight of all priors but the albedo's.
    """

    albedo: float = 0.01
    exposure: float = 0.1
    photo_exposure: float = 0.05
    ambient: float = 0.7
    relief: float = 0.1
    roughness: float = 1.0
    metallic: float = 2.0
    substance: float = 0.5
    robust: float = 0.6
    strength: float = 0.05


class CaptureLight(NamedTuple):
    """The light of a capture, as its photos show it.

    Attributes:
        gains: Exposure of each photo, `(V,)`; 1 where a white card at the tile's centre is recorded as 1.
        flash: Intensity of the flash: radiance of a white card that faces it at a distance of 1, times π.
        ambient: Radiance from all around, linear red, green and blue, `(3,)`.
    """

    gains: Tensor
    flash: float
    ambient: Tensor


class Refinement(NamedTuple):
    """What a refinement gives.

    Attributes:
        maps: The refined maps, in the sizes and ranges of the given ones.
        light: The light that goes with them.
        error_before: RMSE of encoded values between the photos and the given maps under the fitted light, over texels
            that are visible and not clipped.
        error_after: The same of the refined maps.
        residual: Error of the refined maps at each texel of the photos, as an RMSE of encoded values over photos and
            channels, `(1, 1, S, S)`; 1 where no photo shows the texel, because nothing speaks for its maps.
        steps: Steps that were taken.
        interrupted: Whether Ctrl-C ended them early.
        relief: Factor by which the slopes of the given normals were multiplied, the fitted scale times what the photos
            show: 0 where they show no relief, and 1 where they were not asked, as one photo never is.
    """

    maps: Maps
    light: CaptureLight
    error_before: float
    error_after: float
    residual: Tensor
    steps: int
    interrupted: bool = False
    relief: float = 1.0


class _Shared(NamedTuple):
    """The numbers that all texels share. Each is a tensor, so that gradients flow to it."""

    exposure: Tensor
    photo_exposure: Tensor
    ambient: Tensor
    relief: Tensor
    roughness: Tensor
    metallic: Tensor

    @classmethod
    def start(cls, photos: int, substances: int, device: torch.device) -> "_Shared":
        sizes = (1, photos, 3, 1, substances, substances)
        return cls(*(torch.zeros(size, device=device) for size in sizes))

    def copied(self) -> "_Shared":
        return _Shared(*(value.detach().clone() for value in self))


class _Texels(NamedTuple):
    """Photos and predicted values at N texels."""

    encoded: Float[Tensor, "V 3 N"]
    linear: Float[Tensor, "V 3 N"]
    visible: Float[Tensor, "V 1 N"]
    weight: Float[Tensor, "V 1 N"]
    view: Float[Tensor, "V 3 N"]
    squared_distance: Float[Tensor, "V N"]
    base: Float[Tensor, "3 N"]
    roughness_logit: Float[Tensor, " N"]
    metallic_logit: Float[Tensor, " N"]
    slopes: Float[Tensor, "2 N"]
    substances: Float[Tensor, "K N"]

    def at(self, texels: Tensor | slice) -> "_Texels":
        return _Texels(*(value[..., texels] for value in self))


class _Fit(NamedTuple):
    """The solved base colour, and how far the photos are from it."""

    base: Float[Tensor, "3 N"]
    error: Float[Tensor, "V 3 N"]


def refine(  # noqa: PLR0913 - facts of one capture, which callers name
    maps: Maps,
    photos: Float[Tensor, "V 3 S S"],
    positions: Float[Tensor, "V 3"],
    visible: Float[Tensor, "V 1 S S"] | None = None,
    *,
    steps: int = REFINE_STEPS,
    priors: Priors | None = None,
    flash_fired: bool | None = None,
    exposure_known: bool = False,
) -> Refinement:
    """Fit predicted maps to the photos that they were predicted from, and flatten relief that two or more do not show.

    Ctrl-C ends the fit early and keeps the best so far. The result is the same in every call. Where photos do not
    differ as under a flash, or one photo says that no flash fired, a warning says so and the maps are returned as they
    are, with errors of NaN and no step taken.

    Args:
        maps: All four maps of one material, `(1, channels, H, H)`, in the ranges of `neuropbr_core.maps`.
        photos: One or more photos in the texture frame, sRGB-encoded in [0, 1], taken with the flash at the lens.
        positions: Cameras in tile sides, z > 0.
        visible: Weight of each texel of a photo in [0, 1]; 0 where it does not show. Default: all show.
        steps: Steps of the fit; 0 only solves the albedo, under the usual light.
        priors: How far each unknown may move.
        flash_fired: Whether the camera's flash fired, as the files tell; see `lacks_flash`.
        exposure_known: Whether the first photo records a white card at the centre as 1, as a white reference tells.

    Returns:
        The refined maps, on the CPU, and the light.

    Raises:
        DataError: A map is missing, or photos, cameras and visibility do not fit each other.

    Source: see the module.
    """
    _check(maps, photos, positions, visible)
    priors = priors or Priors()
    if not priors.albedo > 0:
        raise DataError(f"refinement needs a weight of the predicted albedo above 0; found {priors.albedo}")
    size = photos.shape[-1]
    device = photos.device
    if visible is None:
        visible = torch.ones_like(photos[:, :1])
    if lacks_flash(photos, visible, positions, flash_fired):
        reporter().warning(
            "the photos look as if they were taken without the flash, which refinement needs; "
            "the maps stay as predicted"
        )
        return _unrefined(maps, photos, positions)
    fitted = {name: _resized(name, value.to(device).float(), size) for name, value in maps.items()}
    texels = _texels(fitted, photos.float(), positions.to(device).float(), visible.float())
    flash = _flash(positions)
    problem = _Problem(texels.at(_grid(size).to(device)), flash, priors, exposure_known=exposure_known)
    shared = problem.start
    taken = 0
    interrupted = False
    if steps:
        search = _Search(problem, steps)
        search.run()
        shared = search.best
        taken = search.taken
        interrupted = search.interrupted
    with torch.no_grad():
        if taken:
            kept = _shown_relief(texels, shared, flash, priors)
            shared = shared._replace(relief=shared.relief + (math.log(kept) if kept else -math.inf))
        chunks = []
        residuals = []
        before = torch.zeros(2, device=device)
        after = torch.zeros(2, device=device)
        for start in range(0, size * size, _CHUNK):
            part = _Problem(texels.at(slice(start, start + _CHUNK)), flash, priors)
            fit = part.solve(shared)
            chunks.append(fit.base)
            residuals.append(part.residual(fit.error))
            after += part.squared_error(fit.error)
            before += part.squared_error(part.unrefined_error(shared))
    base = torch.cat(chunks, dim=-1).view(1, 3, size, size)
    return Refinement(
        _refined_maps(maps, fitted["albedo"], base, shared, texels.substances),
        CaptureLight(
            torch.exp(shared.exposure + shared.photo_exposure).cpu(),
            flash,
            (USUAL_AMBIENT * torch.exp(shared.ambient)).cpu(),
        ),
        float((before[0] / before[1].clamp_min(1e-6)).sqrt()),
        float((after[0] / after[1].clamp_min(1e-6)).sqrt()),
        torch.cat(residuals, dim=-1).view(1, 1, size, size).cpu(),
        taken,
        interrupted,
        float(torch.exp(shared.relief)),
    )


def _unrefined(maps: Maps, photos: Tensor, positions: Tensor) -> Refinement:
    """The given maps, under the usual light, with errors that nobody measured."""
    return Refinement(
        {name: value.cpu() for name, value in maps.items()},
        CaptureLight(torch.ones(len(photos)), _flash(positions), torch.full((3,), USUAL_AMBIENT)),
        math.nan,
        math.nan,
        torch.full((1, 1, *photos.shape[-2:]), math.nan),
        0,
    )


def refined_confidence(refinement: Refinement) -> Float[Tensor, "1 1 H W"]:
    """Tell how far refined maps can be trusted at each texel.

    Three things go with the errors of rendered captures: photos that the maps do not explain, steep relief, and
    metallic between its two usual values. The doubt is the residual + 0.1 × slope + 0.3 × metallic × (1 - metallic).

    Args:
        refinement: The refined maps, of one step or more.

    Returns:
        1 / (1 + doubt / 0.05), in [0, 1], at the size of the maps.
    """
    maps = refinement.maps
    size = maps["albedo"].shape[-1]
    normal = maps["normal"]
    slope = normal[:, :2].norm(dim=1, keepdim=True) / normal[:, 2:].clamp_min(_STEEPEST)
    residual = F.interpolate(refinement.residual, size=(size, size), mode="bilinear")
    metallic = maps["metallic"]
    doubt = residual + _DOUBT_OF_SLOPE * slope + _DOUBT_OF_METAL * metallic * (1 - metallic)
    confidence: Tensor = 1 / (1 + doubt / _USUAL_DOUBT)
    return confidence


def linear_photos(
    maps: Maps, positions: Float[Tensor, "V 3"], ambient: Float[Tensor, "3"] | None = None
) -> Float[Tensor, "V 3 H H"]:
    """Render maps from above their texels, as refinement models photos: with the flash at the lens.

    Args:
        maps: All four maps of one material, `(1, channels, H, H)`, in the ranges of `neuropbr_core.maps`.
        positions: Cameras in tile sides, z > 0.
        ambient: Radiance from all around, linear red, green and blue; default: none.

    Returns:
        Linear radiance in the texture frame, in which the flash makes a white card at the tile's centre look like 0.82
        in the first photo.
    """
    size = maps["albedo"].shape[-1]
    unknown = torch.zeros(len(positions), 3, size, size)
    texels = _texels(maps, unknown, positions.float(), unknown[:, :1])
    problem = _Problem(texels, _flash(positions), Priors())
    if ambient is None:
        ambient = torch.zeros(3)
    # The logarithm of no light is -∞, whose exponential is 0 again.
    factor, offset = problem.linear_in_base(problem.start._replace(ambient=torch.log(ambient / USUAL_AMBIENT)))
    return (factor * texels.base + offset).view(-1, 3, size, size)


def _flash(positions: Tensor) -> float:
    """The lamp that makes a white card at the centre look like 1 in the first photo, beside the usual ambient light."""
    first = positions[0].float()
    return math.pi * (1 - USUAL_AMBIENT) * float(first.norm()) ** 3 / float(first[2])


class _Problem:
    """The objective at some texels, as a function of the shared numbers."""

    def __init__(self, texels: _Texels, flash: float, priors: Priors, *, exposure_known: bool = False) -> None:
        self._texels = texels
        self._flash = flash
        self._priors = priors
        self._exposure_known = exposure_known
        # Residuals of linear light times the slope of the sRGB curve are residuals of encoded values, to first order.
        self._photo_weight = texels.weight * _encoding_slope(texels.linear) ** 2
        self._albedo_weight = priors.albedo * _encoding_slope(texels.base) ** 2

    @property
    def photos(self) -> int:
        """Number of photos."""
        return len(self._texels.encoded)

    @property
    def start(self) -> _Shared:
        """The shared numbers as predicted."""
        return _Shared.start(self.photos, len(self._texels.substances), self._texels.encoded.device)

    @property
    def mean_roughness(self) -> float:
        """Mean of the predicted roughness."""
        return float(torch.sigmoid(self._texels.roughness_logit).mean())

    @property
    def mean_metallic(self) -> float:
        """Mean of the predicted metallic."""
        return float(torch.sigmoid(self._texels.metallic_logit).mean())

    @cached_property
    def _room_for_metal(self) -> float:
        """How freely metallic may grow: less where little was predicted."""
        return min(1.0, max(0.05, (self.mean_metallic - 0.05) / 0.25))

    def solve(self, shared: _Shared) -> _Fit:
        """Solve the base colour of every texel under the given light, roughness, metallic and relief.

        Source: iteratively reweighted least squares, Holland and Welsch 1977, "Robust Regression Using Iteratively
        Reweighted Least-Squares", with Cauchy's weights.
        """
        texels = self._texels
        factor, offset = self.linear_in_base(shared)
        weight = self._photo_weight
        base = texels.base
        for _ in range(3):
            normal = (weight * factor * factor).sum(dim=0) + self._albedo_weight
            right = (weight * factor * (texels.linear - offset)).sum(dim=0) + self._albedo_weight * texels.base
            base = (right / normal).clamp(1e-4, 1)
            error = linear_to_srgb((factor * base + offset).clamp(0, 1)) - texels.encoded
            # Constants of the derivative: a step may move the base colour, not buy a smaller weight.
            outlying = error.detach().square().mean(dim=1, keepdim=True) / self._priors.robust**2
            weight = self._photo_weight / (1 + outlying)
        return _Fit(base, error)

    def unrefined_error(self, shared: _Shared) -> Float[Tensor, "V 3 N"]:
        """Error of the maps as predicted, under the fitted light."""
        light_alone = self.start._replace(
            exposure=shared.exposure, photo_exposure=shared.photo_exposure, ambient=shared.ambient
        )
        factor, offset = self.linear_in_base(light_alone)
        return linear_to_srgb((factor * self._texels.base + offset).clamp(0, 1)) - self._texels.encoded

    def squared_error(self, error: Tensor) -> Tensor:
        """Weighted sum of squared errors, and the sum of their weights."""
        weight = self._texels.weight.expand_as(error)
        return torch.stack(((weight * error.square()).sum(), weight.sum()))

    def residual(self, error: Float[Tensor, "V 3 N"]) -> Float[Tensor, " N"]:
        """RMSE of each texel over the photos that show it; clipped photos count, because a missed highlight does."""
        weight = self._texels.visible
        squared = (weight * error.square().mean(dim=1, keepdim=True)).sum(dim=0)
        shown = weight.sum(dim=0)
        return torch.where(shown > 0, (squared / shown.clamp_min(1e-6)).sqrt(), 1.0)[0]

    def objective(self, shared: _Shared) -> Tensor:
        """Robust error of the photos, distance of the albedo from the prediction, and the priors: a scalar."""
        priors = self._priors
        fit = self.solve(shared)
        squared = fit.error.square().mean(dim=1, keepdim=True)
        robust = priors.robust**2 * torch.log1p(squared / priors.robust**2)
        # A clipped highlight has no colour to solve, but its place and size show the roughness.
        weight = self._texels.visible
        data = (robust * weight).sum() / weight.sum().clamp_min(1e-6)
        moved = linear_to_srgb(fit.base) - linear_to_srgb(self._texels.base)
        data = data + priors.albedo * moved.square().mean()
        # Exposure has heavy tails: captures by this project's renderer deviate little, a phone's as they like.
        distance = torch.log1p((shared.exposure / priors.exposure).square()).sum()
        if self._exposure_known:
            around = torch.log(1 - USUAL_AMBIENT + USUAL_AMBIENT * torch.exp(shared.ambient).mean())
            white = shared.exposure + shared.photo_exposure[0] + around  # logarithm of the white card's radiance
            distance = (white / _KNOWN_EXPOSURE).square().sum()
        distance = distance + torch.log1p((shared.photo_exposure / priors.photo_exposure).square()).sum()
        distance = distance + (shared.ambient / priors.ambient).square().sum()
        distance = distance + (shared.relief / priors.relief).square().sum()
        distance = distance + (shared.roughness.mean() / priors.roughness).square()
        for offsets in (shared.roughness, shared.metallic):
            distance = distance + ((offsets - offsets.mean()) / priors.substance).square().sum()
        # Where little metal was predicted, a rise would only explain what the light from around does not.
        metallic = shared.metallic.mean()
        risen = metallic.clamp_min(0) / (priors.metallic * self._room_for_metal)
        fallen = metallic.clamp_max(0) / priors.metallic
        distance = distance + (risen.square() + fallen.square()).sum()
        return data / _USUAL_ERROR**2 + priors.strength * distance

    def linear_in_base(self, shared: _Shared) -> tuple[Tensor, Tensor]:
        """Return each photo's linear light as a factor of the base colour and the rest, each `(V, 3, N)`."""
        texels = self._texels
        roughness = torch.sigmoid(texels.roughness_logit + shared.roughness @ texels.substances)
        metallic = torch.sigmoid(texels.metallic_logit + shared.metallic @ texels.substances)
        dielectric = 1 - metallic
        slope_x, slope_y = texels.slopes * torch.exp(shared.relief)
        nz = torch.rsqrt(1 + slope_x * slope_x + slope_y * slope_y)
        vx, vy, vz = texels.view.unbind(dim=1)
        n_dot_v = nz * (slope_x * vx + slope_y * vy + vz)
        alpha_squared = roughness.clamp_min(MIN_ROUGHNESS) ** 4
        irradiance = self._flash / texels.squared_distance
        tinted, white, scattered = flash_factors(n_dot_v, n_dot_v, torch.ones_like(n_dot_v), alpha_squared, irradiance)
        facing = n_dot_v.clamp(0, 1)
        scale, bias = specular_scale_bias(facing[None], roughness.expand_as(facing)[None])
        # Light from all around enters as π times its radiance, which cancels the 1 / π at the exit.
        leaving = (1 - schlick(facing)) * (1 - DIELECTRIC_F0)
        around = (USUAL_AMBIENT * torch.exp(shared.ambient)).view(1, 3, 1)
        # F0 is lerp(0.04, base, metallic), so part of the mirrored light multiplies the base colour.
        of_flash = metallic * tinted + dielectric * scattered
        of_around = metallic * scale + dielectric * leaving
        free_of_flash = DIELECTRIC_F0 * dielectric * tinted + white
        free_of_around = DIELECTRIC_F0 * dielectric * scale + bias
        gains = torch.exp(shared.exposure + shared.photo_exposure).view(-1, 1, 1)
        factor = gains * (of_flash[:, None] + around * of_around[:, None])
        offset = gains * (free_of_flash[:, None] + around * free_of_around[:, None])
        return factor, offset


Freedom = Literal["light", "together", "apart"]
"""What a descent may move: the light alone, or the material too, with one offset for all substances or one for each."""


class _Search:
    """The search for the shared numbers: descents from several starts, then from the best of them.

    Args:
        problem: The objective at a grid of texels.
        steps: Steps of all descents together.

    Attributes:
        best: The best numbers so far.
        taken: Steps that were taken.
        interrupted: Whether Ctrl-C ended them early.
    """

    def __init__(self, problem: _Problem, steps: int) -> None:
        self.best = problem.start
        self.taken = 0
        self.interrupted = False
        self._problem = problem
        self._steps = steps
        self._least = math.inf
        self._bar = reporter().bar(steps, "refining")

    def run(self) -> None:
        """Take the steps. Ctrl-C ends them early."""
        problem = self._problem
        try:
            # One photo's light explains anything by the albedo, so it cannot judge roughness, metallic and relief.
            if problem.photos == 1:
                self._descend(problem.start, self._steps, "light")
                return
            starts = self._starts(max(1, int(self._steps * _MIRROR_SHARE)))
            trial = max(1, int(self._steps * _TRIAL_SHARE) // len(starts))
            for start in starts:
                self._descend(start, trial, "together")
            left = self._steps - self.taken
            self._descend(self.best, left - left // 2, "together")
            self._descend(self.best, left // 2, "apart")
        except KeyboardInterrupt:
            self.interrupted = True
            reporter().line(f"refinement stopped after {self.taken} of {self._steps} steps; the best so far is kept")
        finally:
            self._bar.close()

    def _starts(self, steps: int) -> list[_Shared]:
        """List where descents begin: small steps do not lead from a mirror to a rough surface, nor out of metal."""
        problem = self._problem
        predicted = problem.start
        mirror = self._with_roughness(_MIRROR_ROUGHNESS)
        of_prediction = self._descend(predicted, steps, "light")
        without_mirror = (self.best, self._least)
        of_mirror = self._descend(mirror, steps, "light")
        # The narrow highlights of a mirror hardly show, so that a rough surface explains its photos nearly as well.
        # In rendered captures of eight materials, a mirror beat the prediction for the only mirror among them, and
        # always for it.
        if _HANDICAP * of_mirror < of_prediction:
            return [mirror]
        # A mirror that explains the photos a little better is no mirror, and must not be what the search goes on from.
        self.best, self._least = without_mirror
        starts = [predicted]
        of_non_metals = []
        for level in _START_ROUGHNESS:
            start = self._with_roughness(level)
            # A start beside the prediction would only repeat its descent.
            if abs(float(start.roughness.mean())) > 0.5:
                starts.append(start)
                of_non_metals.append(start)
        if _SOME_METAL < problem.mean_metallic < _MOSTLY_METAL:
            for start in of_non_metals or [predicted]:
                starts.append(start._replace(metallic=torch.full_like(start.metallic, _NO_METAL)))
        return starts

    def _with_roughness(self, level: float) -> _Shared:
        """Start from the prediction with another mean roughness."""
        mean = self._problem.mean_roughness
        shift = math.log(level / (1 - level)) - math.log(mean / (1 - mean))
        start = self._problem.start
        return start._replace(roughness=torch.full_like(start.roughness, shift))

    def _descend(self, start: _Shared, steps: int, freedom: Freedom) -> float:
        """Take Adam's steps from a start; returns the least objective on the way.

        Source: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization".
        """
        shared = start.copied()
        free = list(shared)
        if freedom == "light":
            free = [shared.exposure, shared.photo_exposure, shared.ambient]
        for value in free:
            value.requires_grad_()
        optimizer = torch.optim.Adam(free, lr=_RATE, betas=(0.9, 0.99))
        handicap = 1.0
        # Most materials are no metals: a metal has to explain the photos clearly better than a non-metal.
        if float(start.metallic.mean()) > _NO_METAL / 2:
            handicap = _HANDICAP
        # Most materials are one substance, whose texels differ in no more than the prediction says.
        if freedom == "apart":
            handicap *= _HANDICAP
        least = math.inf
        # Few steps do not reach every start; the prediction comes first.
        steps = min(steps, self._steps - self.taken)
        for step in range(steps):
            # A quarter of a cosine down to a twentieth: the last steps settle.
            optimizer.param_groups[0]["lr"] = _RATE * (0.05 + 0.95 * math.cos(math.pi / 2 * step / steps))
            optimizer.zero_grad()
            objective = self._problem.objective(shared)
            torch.autograd.backward(objective)
            if freedom == "together":
                # Equal gradients keep the offsets of all substances equal.
                for offsets in (shared.roughness, shared.metallic):
                    assert offsets.grad is not None  # noqa: S101 - the objective depends on both
                    offsets.grad.fill_(float(offsets.grad.mean()))
            value_now = handicap * float(objective.detach())
            least = min(least, value_now)
            if value_now < self._least:
                self._least = value_now
                self.best = shared.copied()
                self._bar.note(f"objective {value_now:.2f}")
            optimizer.step()
            self.taken += 1
            self._bar.advance()
        return least


def _texels(maps: Maps, photos: Tensor, positions: Tensor, visible: Tensor) -> _Texels:
    """Lay photos, maps and directions out by texel, row by row."""
    size = photos.shape[-1]
    steps = (torch.arange(size, device=photos.device) + 0.5) / size
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack((u - 0.5, 0.5 - v, torch.zeros_like(u))).flatten(1)
    to_lens = positions[:, :, None] - points
    squared = (to_lens * to_lens).sum(dim=1)
    encoded = photos.flatten(2)
    # The brightest channel bends first. A little weight stays, for texels that every photo clips.
    bent = ((encoded.amax(dim=1, keepdim=True) - BENT) / (CLIPPED - BENT)).clamp(0, 1)
    normal = maps["normal"][0].flatten(1)
    return _Texels(
        encoded,
        srgb_to_linear(encoded),
        visible.flatten(2),
        visible.flatten(2) * (1 - bent + 1e-4),
        to_lens * torch.rsqrt(squared)[:, None],
        squared,
        srgb_to_linear(maps["albedo"][0].flatten(1)),
        torch.logit(maps["roughness"][0, 0].flatten(), eps=1e-4),
        torch.logit(maps["metallic"][0, 0].flatten(), eps=1e-4),
        # A normal near the horizon would have an endless slope.
        normal[:2] / normal[2:].clamp_min(0.05),
        _substances(maps),
    )


def _shown_relief(texels: _Texels, shared: _Shared, flash: float, priors: Priors) -> float:
    """Tell how much of the relief the photos show, from 0 to 1; 1 where they cannot tell, as one photo cannot.

    Between two photos of a place, the colour of the surface cancels, and the logarithms of their light differ as the
    slopes say. The share is the slope of the measured differences over the expected ones, by least squares over all
    texels and photos. It is near 0, or negative, where a pattern in the colour was taken for relief.
    """
    if len(texels.encoded) == 1:
        return 1.0
    size = math.isqrt(texels.encoded.shape[-1])
    factor = -(-size // _RELIEF_SIDE)
    side = size // factor
    band = max(1, _CHUNK // (factor * size))
    measured: list[Tensor] = []
    expected: list[Tensor] = []
    clear: list[Tensor] = []
    for first in range(0, side, band):
        rows = min(band, side - first)
        part = texels.at(slice(first * factor * size, (first + rows) * factor * size))
        for pixels, values in zip((measured, expected, clear), _differences(part, shared, flash, priors), strict=True):
            whole = values.view(-1, 1, rows * factor, size)[..., : side * factor]
            pixels.append(F.avg_pool2d(whole, factor))
    weight = torch.cat(clear, dim=2)
    of_photos = _fine(torch.cat(measured, dim=2), weight)
    of_slopes = _fine(torch.cat(expected, dim=2), weight)
    # As much evidence for a relief that is right as faint differences would give, so that these alone decide nothing.
    faint = float(weight.sum()) * _FAINT**2
    agreeing = float((of_slopes * of_photos).sum()) + faint * _USUAL_RELIEF
    variance = float(of_slopes.square().sum()) + faint
    if variance == 0:  # no texel is clear in two photos
        return 1.0
    return min(1.0, max(0.0, agreeing / variance / _USUAL_RELIEF))


class _Differences(NamedTuple):
    """By how much each photo differs from the mean of those that show a texel, beyond what a flat surface explains.

    Attributes:
        measured: Differences of logarithms of brightness in the photos; 0 where a photo shows the texel badly.
        expected: The same as the slopes say.
        clear: 1 where this photo and another one show the texel clearly, else 0.
    """

    measured: Float[Tensor, "V N"]
    expected: Float[Tensor, "V N"]
    clear: Float[Tensor, "V N"]


def _differences(texels: _Texels, shared: _Shared, flash: float, priors: Priors) -> _Differences:
    problem = _Problem(texels, flash, priors)
    base = problem.solve(shared).base

    def brightness(relief: Tensor) -> Tensor:
        factor, offset = problem.linear_in_base(shared._replace(relief=relief))
        return (factor * base + offset).mean(dim=1).clamp_min(_DARK).log()

    light = texels.linear.mean(dim=1)
    flat = brightness(torch.full_like(shared.relief, -math.inf))
    clear = ((texels.weight[:, 0] >= _CLEAR) & (light > _DARK)).float()
    clear = clear * (clear.sum(dim=0) >= 2)

    def beside_the_mean(values: Tensor) -> Tensor:
        mean = (clear * values).sum(dim=0) / clear.sum(dim=0).clamp_min(1)
        return clear * (values - mean)

    measured = light.clamp_min(_DARK).log() - flat
    return _Differences(beside_the_mean(measured), beside_the_mean(brightness(shared.relief) - flat), clear)


def _fine(values: Float[Tensor, "V 1 S S"], weight: Float[Tensor, "V 1 S S"]) -> Float[Tensor, "V 1 S S"]:
    """Take away what changes slowly over the tile; `values` have been multiplied by their weight."""
    reach = max(1, round(values.shape[-1] * _RELIEF_EXTENT / 2))

    def around(pixels: Tensor) -> Tensor:
        # Columns, then rows: a square window at once would take as many operations a pixel as it has pixels.
        columns = F.avg_pool2d(pixels, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
        return F.avg_pool2d(columns, (1, 2 * reach + 1), stride=1, padding=(0, reach))

    # What is not clear, and the padding, adds nothing to either sum.
    mean = around(values) / around(weight).clamp_min(1e-6)
    return values - weight * mean


def _substances(maps: Maps) -> Float[Tensor, "K N"]:
    """Share of each substance in each texel, by k-means of albedo, roughness and metallic.

    Source: Lloyd 1982, "Least Squares Quantization in PCM"; the starts are those of Gonzalez 1985, "Clustering to
    Minimize the Maximum Intercluster Distance".
    """
    features = torch.cat((maps["albedo"], maps["roughness"], maps["metallic"]), dim=1)[0].flatten(1)
    sample = features[:, _grid(maps["albedo"].shape[-1])]
    centres = sample.mean(dim=1, keepdim=True)
    for _ in range(_SUBSTANCES - 1):
        farthest = torch.cdist(sample.T, centres.T).amin(dim=1).argmax()
        centres = torch.cat((centres, sample[:, farthest, None]), dim=1)
    for _ in range(10):
        nearest = F.one_hot(torch.cdist(sample.T, centres.T).argmin(dim=1), _SUBSTANCES).float()
        count = nearest.sum(dim=0)
        centres = torch.where(count > 0, sample @ nearest / count.clamp_min(1), centres)
    return torch.softmax(-torch.cdist(centres.T, features.T).square() / (2 * _SUBSTANCE_SPREAD**2), dim=0)


def _refined_maps(maps: Maps, albedo: Tensor, base: Tensor, shared: _Shared, substances: Tensor) -> Maps:
    """Apply the fit to the given maps, at their own size."""
    size = maps["albedo"].shape[-1]
    if size == base.shape[-1]:
        linear = base
    else:
        # Detail finer than the photos stays the prediction's, as its ratio to what is left of it at their size.
        # The ratio of the fit to the prediction is no help: beside a texel that was wrongly black, all turns white.
        coarse = F.interpolate(torch.stack((base[0], srgb_to_linear(albedo)[0])), size=(size, size), mode="bilinear")
        detail = (srgb_to_linear(maps["albedo"].to(base.device).float()) + _LIFT) / (coarse[1:] + _LIFT)
        linear = coarse[:1] * detail
    offsets = torch.stack((shared.roughness, shared.metallic)) @ substances
    offsets = F.interpolate(offsets.view(1, 2, *base.shape[-2:]), size=(size, size), mode="bilinear")
    roughness = torch.logit(maps["roughness"].to(base.device).float(), eps=1e-4) + offsets[:, :1]
    metallic = torch.logit(maps["metallic"].to(base.device).float(), eps=1e-4) + offsets[:, 1:]
    normal = maps["normal"].to(base.device).float()
    scale = torch.exp(shared.relief)
    return {
        "albedo": linear_to_srgb(linear.clamp(0, 1)).clamp(0, 1).cpu(),
        "roughness": torch.sigmoid(roughness).cpu(),
        "metallic": torch.sigmoid(metallic).cpu(),
        "normal": F.normalize(torch.cat((normal[:, :2] * scale, normal[:, 2:]), dim=1), dim=1).cpu(),
    }


def _resized(name: str, value: Tensor, size: int) -> Tensor:
    """A map at the photos' size, averaged over areas where it is larger."""
    if value.shape[-1] == size:
        return value
    resized = F.interpolate(value, size=(size, size), mode="bilinear", antialias=True)
    if MAPS[name].activation == "slopes":
        return F.normalize(resized, dim=1)
    return resized


def _grid(size: int) -> Tensor:
    """Texels of an even grid."""
    count = min(size, _GRID)
    rows = (torch.arange(count) * size + size // 2) // count
    return (rows[:, None] * size + rows[None, :]).flatten()


def _encoding_slope(linear: Tensor) -> Tensor:
    """Slope of the sRGB curve, bounded near black, where noise is all there is."""
    return 1.055 / 2.4 * linear.clamp_min(0.01) ** (1 / 2.4 - 1)


def _check(maps: Maps, photos: Tensor, positions: Tensor, visible: Tensor | None) -> None:
    missing = [name for name in MAPS if name not in maps]
    if missing:
        raise DataError(f"refinement needs all four maps; {', '.join(missing)} missing")
    if photos.ndim != 4 or photos.shape[1] != 3 or photos.shape[2] != photos.shape[3] or not len(photos):
        raise DataError(f"refinement needs photos (V, 3, S, S) in the texture frame; found {tuple(photos.shape)}")
    if tuple(positions.shape) != (len(photos), 3):
        raise DataError(f"refinement needs the camera of each of {len(photos)} photos; found {tuple(positions.shape)}")
    if not bool((positions[:, 2] > 0).all()):
        raise DataError("refinement needs cameras in front of the material; a position has z <= 0")
    if visible is not None and visible.shape != photos[:, :1].shape:
        raise DataError(
            f"refinement needs visibility {tuple(photos[:, :1].shape)} for these photos; found {tuple(visible.shape)}"
        )
    values = {**{f"the map {name}": maps[name] for name in MAPS}, "the photos": photos, "the cameras": positions}
    if visible is not None:
        values["visibility"] = visible
    for name, value in values.items():
        # Numbers that are not finite would reach the table of reflectance as indices, and end the process.
        if not bool(value.isfinite().all()):
            raise DataError(f"refinement needs finite numbers; {name} has others, as of a model that diverged")
