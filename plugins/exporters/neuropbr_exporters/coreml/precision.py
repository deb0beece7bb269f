"""Which operations of a package compute in FP16."""

from typing import Any

_FRONT = frozenset({"add", "sub", "mul", "real_div", "concat", "expand_dims", "reshape"})
"""What turns photos to what the network reads: arithmetic of single pixels, and joining."""


def compute_precision(ct: Any, precision: str) -> Any:
    """The argument of coremltools' converter for a precision.

    For FP16, all operations but those that normalise the photos: they stay in float32, as Core ML's own scaling of
    images does, and their result is rounded once. FP16 would move mean and deviation by up to 1 in 4,000 of themselves,
    which tints every pixel of every photo alike, and a network passes a tint on where it averages noise.

    Args:
        ct: coremltools.
        precision: `fp16` or `fp32`.
    """
    if precision == "fp32":
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(op_selector=lambda operation: not is_front(operation))


def is_front(operation: Any) -> bool:
    """Whether an operation reads nothing but the program's inputs, constants, and other operations of the front."""
    return operation.op_type in _FRONT and all(map(_is_front_value, _values(operation)))


def _values(operation: Any) -> list[Any]:
    """All that it reads, lists spread out."""
    spread = ((value,) if not isinstance(value, (list, tuple)) else value for value in operation.inputs.values())
    return [value for values in spread for value in values if value is not None]


def _is_front_value(value: Any) -> bool:
    return value.op is None or value.op.op_type == "const" or is_front(value.op)
