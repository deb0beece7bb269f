"""Which operations of a package compute in FP16."""

from collections.abc import Callable
from typing import Any

_NORMALISING = frozenset({"add", "sub", "mul", "real_div", "concat", "expand_dims", "reshape"})
"""What turns photos to what the network reads: arithmetic of single pixels, and joining."""
_COARSENING = frozenset({"conv", "max_pool", "avg_pool"})
_FINE = 8
"""Features are fine while their side is at least the photo's over this."""


def compute_precision(ct: Any, precision: str, side: int) -> Any:
    """The argument of coremltools' converter for a precision.

    For `fp16`, all operations but those that normalise the photos: they stay in float32, as Core ML's own scaling of
    images does, and their result is rounded once. FP16 would move mean and deviation by up to 1 in 4,000 of themselves,
    which tints every pixel of every photo alike, and a network passes a tint on where it averages noise.

    For `mixed`, the encoder's first layers stay in float32 too, until features are coarser than an eighth of the
    photo: what is rounded there is what the later layers amplify.

    Args:
        ct: coremltools.
        precision: `fp16`, `mixed` or `fp32`.
        side: The photos' side in pixels.
    """
    if precision == "fp32":
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(op_selector=Front(is_fine(side) if precision == "mixed" else normalises))


class Front:
    """Selects what computes in FP16, given a program's operations in order: all but its front.

    The front are operations that read nothing but inputs, constants, and operations of the front.

    Args:
        belongs: Whether an operation may be in the front, by itself.
    """

    def __init__(self, belongs: Callable[[Any], bool]) -> None:
        self._belongs = belongs
        self._front: set[Any] = set()

    def __call__(self, operation: Any) -> bool:
        """Whether `operation` computes in FP16."""
        if operation.op_type == "const" or not (
            self._belongs(operation) and all(map(self._is_in_front, _values(operation)))
        ):
            return True
        self._front.add(operation)
        return False

    def _is_in_front(self, value: Any) -> bool:
        if value.op is None or value.op.op_type == "const":
            return True
        if value.op.op_type == "cast":  # nobody asks whether one computes in FP16
            return self._is_in_front(value.op.x)
        return value.op in self._front


def normalises(operation: Any) -> bool:
    """Whether an operation is one of those that normalise photos."""
    return operation.op_type in _NORMALISING


def is_fine(side: int) -> Callable[[Any], bool]:
    """Whether an operation leaves features fine: it neither makes them coarse nor comes back from coarse ones."""

    def check(operation: Any) -> bool:
        extent = operation.outputs[0].shape[-1] if operation.outputs[0].shape else 1
        coarse = operation.op_type in _COARSENING and 1 < extent < side / _FINE
        return not coarse and not operation.op_type.startswith("upsample")

    return check


def _values(operation: Any) -> list[Any]:
    """All that it reads, lists spread out."""
    spread = ((value,) if not isinstance(value, (list, tuple)) else value for value in operation.inputs.values())
    return [value for values in spread for value in values if value is not None]
