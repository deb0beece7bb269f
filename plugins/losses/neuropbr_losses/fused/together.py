"""Losses that are combinations of measures, and the pass that computes the measures of all of them at once."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuropbr_core.contracts import FusedLosses, FusedResult, Loss, LossInput, LossResult, Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAPS, NORMAL
from neuropbr_losses.fused import tiles
from neuropbr_losses.fused.measures import Job, Measure, gaussian_taps

LOGGED_TAPS = gaussian_taps(11, 1.5)
"""Window of the SSIM in logs, which is that of validation."""


class MeasuredLoss(Loss):
    """A loss that follows from measures alone.

    Its own forward pass computes the same values; a class that changes it must not name `FusedMeasures` as `fused_by`.
    """

    def measures(self) -> tuple[Measure, ...]:
        """What the loss needs."""
        raise NotImplementedError

    def combine(self, values: Mapping[Measure, Tensor]) -> LossResult:
        """Make the loss's result.

        Args:
            values: A scalar for each of `measures()`, and perhaps others.
        """
        raise NotImplementedError


class FusedMeasures(FusedLosses):
    """Computes the measures of several losses, and the errors that are logged, in one pass over the maps.

    On CUDA the pass consists of Triton kernels; elsewhere, and where Triton does not work, of PyTorch's operators on
    tiles.

    Args:
        losses: `MeasuredLoss`es.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        self._losses = cast("Sequence[MeasuredLoss]", losses)
        learned: list[Measure] = []
        for loss in self._losses:
            learned += loss.measures()
        self._learned = tuple(learned)

    def __call__(self, x: LossInput, *, measured: bool = False) -> FusedResult:
        """Compute the results of all losses."""
        # A crop may be smaller than the window of the logs; it is measured elsewhere, then.
        measured = measured and min(x.valid.shape[-2:]) > len(LOGGED_TAPS) // 2
        logged: list[Measure] = []
        if measured:
            logged = logged_measures(x.prediction.maps)
        job = Job.of(self._learned, logged)
        values = evaluate(x.prediction.maps, x.target, x.valid, job)
        by_measure = dict(zip(job.measures, values.unbind(), strict=True))
        results = tuple(loss.combine(by_measure) for loss in self._losses)
        if not measured:
            return FusedResult(results, {})
        # As logs show the measures: maps in [0, 1], angles in degrees, NaN where no pixel is valid.
        errors: dict[str, Tensor] = {}
        for name, spec in MAPS.items():
            if name in x.prediction.maps:
                low, high = spec.value_range
                errors[f"{name}/mae"] = by_measure[Measure("l1", name)] / (high - low)
                errors[f"{name}/ssim"] = 1 - by_measure[Measure("ssim", name, LOGGED_TAPS)]
        if NORMAL.name in x.prediction.maps:
            errors[f"{NORMAL.name}/angle"] = torch.rad2deg(by_measure[Measure("angle", NORMAL.name)])
        anything = (x.valid != 0).any()
        metrics = {name: torch.where(anything, value.detach(), torch.nan) for name, value in errors.items()}
        return FusedResult(results, metrics)


def logged_measures(maps: Collection[str]) -> list[Measure]:
    """The measures of the errors that are logged of these maps."""
    logged: list[Measure] = []
    for name in MAPS:
        if name in maps:
            logged += (Measure("l1", name), Measure("ssim", name, LOGGED_TAPS))
    if NORMAL.name in maps:
        logged.append(Measure("angle", NORMAL.name))
    return logged


def evaluate(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"], job: Job) -> Float[Tensor, " M"]:
    """Compute the measures of a job in one pass, on the device of the maps.

    Args:
        prediction: Maps in the ranges of `neuropbr_core.maps`, in any floating-point type; arithmetic is in float32, or
            in float64 for maps in float64.
        target: The true maps; no gradient flows to them.
        valid: 1 where a pixel counts, 0 where it does not; the content of other pixels has no influence.
        job: What to compute.

    Returns:
        One value for each measure; the first `job.learned` are differentiable once.

    Raises:
        ModelError: A map and its target differ in shape, or a window does not fit into a map.
    """
    for measure in job.measures:
        shape = tuple(prediction[measure.map].shape)
        true_shape = tuple(target[measure.map].shape)
        # Kernels read both by the same indices, so that a difference must not get that far.
        if shape != true_shape:
            raise ModelError(
                f"losses: map {measure.map!r} is predicted as {shape}, but its target is {true_shape}; they must be "
                "equal"
            )
        if len(measure.taps) // 2 >= min(shape[-2:]):
            raise ModelError(
                f"losses: a window of {len(measure.taps)} pixels does not fit into a map of {shape[-1]}×{shape[-2]}; "
                f"maps must have at least {len(measure.taps) // 2 + 1} pixels on a side"
            )
    learned = {measure.map for measure in job.measures[: job.learned]}
    predictions = []
    for name in job.maps:
        values = prediction[name]
        # A gradient of zeros is not none: optimisers would decay the weights of a head that no loss looks at.
        if name not in learned:
            values = values.detach()
        predictions.append(values)
    targets = [target[name].detach() for name in job.maps]
    # Without a gradient there is nothing to keep and less to compute.
    differentiable = torch.is_grad_enabled() and any(values.requires_grad for values in predictions)
    with torch.autocast(valid.device.type, enabled=False):
        result: Tensor = _Evaluate.apply(job, differentiable, valid, *predictions, *targets)
    return result


class _Evaluate(torch.autograd.Function):
    """The measures as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, job: Job, differentiable: bool, valid: Tensor, *maps: Tensor) -> Tensor:
        """Return the values; keep the arguments, and what the implementation wants to have back."""
        count = len(job.maps)
        implementation = _implementation(valid.device)
        values, kept = implementation.forward(maps[:count], maps[count:], valid, job, differentiable=differentiable)
        ctx.save_for_backward(valid, *maps, *kept)
        ctx.job = job
        return cast("Tensor", values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients in the predictions."""
        count = len(ctx.job.maps)
        valid, *tensors = ctx.saved_tensors
        gradients = _implementation(valid.device).backward(
            upstream, tensors[:count], tensors[count : 2 * count], valid, tensors[2 * count :], ctx.job
        )
        return (None, None, None, *gradients, *[None] * count)


def _implementation(device: torch.device) -> ModuleType:
    """The module whose `forward` and `backward` compute a job on a device."""
    if device.type == "cuda" and _kernels_work(device):
        from neuropbr_losses.fused import launching

        return launching
    return tiles


@lru_cache
def _kernels_work(device: torch.device) -> bool:
    """Whether Triton's kernels work on a device; warns once when they do not."""
    try:
        # Triton needs a compiler for its launchers, and a device that is not too old; only a launch tells.
        from neuropbr_losses.fused import launching

        ones = torch.ones(1, 1, 8, 8, device=device)
        job = Job.of([Measure("l1", "roughness"), Measure("ssim", "roughness", gaussian_taps(3, 1.0))])
        values, kept = launching.forward([ones], [ones], ones, job, differentiable=True)
        launching.backward(torch.ones_like(values), [ones], [ones], ones, kept, job)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(
            f"losses run without Triton, and slower, because its kernels do not work here ({type(error).__name__}: "
            f"{reason})",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
