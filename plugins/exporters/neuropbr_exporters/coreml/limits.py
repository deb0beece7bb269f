"""What is said of the Neural Engine's limits.

Apple documents none of them. Each is what somebody saw, and where; a package that breaks one still runs, on the GPU or
the CPU, and one that breaks none may do so too. Only Xcode's performance report on a device tells.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from neuropbr_exporters.coreml.evaluator import Operation, Program, Variable

EXTENT = 16_384
CHANNELS = 65_536
KERNEL = 13
RANK = 4
STREAMED_MIB = 2
_NORMAL_HALF = 2.0**-14
_INDEXING = {"gather", "gather_along_axis", "argsort", "topk"}
_CONVOLUTIONS = {"conv", "conv_transpose"}

Shapes = Mapping[str, Variable]


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        name: A short one.
        consequence: What likely happens to an operation that breaks it.
        seen: Where it was seen; none is official.
        broken: Says how an operation breaks it, or nothing.
    """

    name: str
    consequence: str
    seen: str
    broken: Callable[[Operation, Program], str | None]


@dataclass(frozen=True)
class Finding:
    """An operation that breaks a limit."""

    limit: str
    operation: str
    kind: str
    detail: str


def find(program: Program) -> Iterator[Finding]:
    """All operations of a program that break a limit, in the program's order."""
    for operation in program.operations:
        for limit in LIMITS:
            if detail := limit.broken(operation, program):
                yield Finding(limit.name, operation.name, operation.kind, detail)


def _constants(operation: Operation, program: Program) -> dict[str, Tensor]:
    found = {
        name: program.constants.get(value) for name, value in operation.arguments.items() if isinstance(value, str)
    }
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _shown(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _extent(operation: Operation, _: Program) -> str | None:
    shapes = [output.shape for output in operation.outputs]
    over = [s for s in shapes if any(n > (CHANNELS if axis == 1 else EXTENT) for axis, n in enumerate(s))]
    return _shown(over[0]) if over else None


def _rank(operation: Operation, _: Program) -> str | None:
    over = [output.shape for output in operation.outputs if len(output.shape) > RANK]
    return _shown(over[0]) if over else None


def _float32(operation: Operation, _: Program) -> str | None:
    return "fp32" if any(output.dtype == "fp32" for output in operation.outputs) else None


def _kernel(operation: Operation, program: Program) -> str | None:
    weight = _constants(operation, program).get("weight")
    if operation.kind not in _CONVOLUTIONS or weight is None or max(weight.shape[2:], default=0) <= KERNEL:
        return None
    return f"kernel {_shown(tuple(weight.shape[2:]))}"


def _dilated(operation: Operation, program: Program) -> str | None:
    dilations = _constants(operation, program).get("dilations")
    if operation.kind not in _CONVOLUTIONS or dilations is None or int(dilations.max()) == 1:
        return None
    return f"dilations {dilations.tolist()}"


def _indexing(operation: Operation, _: Program) -> str | None:
    return "index" if operation.kind in _INDEXING else None


def _subnormal(operation: Operation, program: Program) -> str | None:
    half = any(output.dtype == "fp16" for output in operation.outputs)
    scalars = [
        value for value in _constants(operation, program).values() if value.is_floating_point() and not value.dim()
    ]
    small = [value.item() for value in scalars if 0 < abs(value.item()) < _NORMAL_HALF]
    return f"{small[0]:.2g}" if half and small else None


LIMITS: tuple[Limit, ...] = (
    Limit(
        "float32",
        "runs on the GPU or the CPU: the Neural Engine computes in FP16",
        "Hollance, The Neural Engine: what do we know about it?, docs/16-bit.md (github.com/hollance/neural-engine)",
        _float32,
    ),
    Limit(
        "extent",
        f"is refused: extents up to {EXTENT:,} (channels {CHANNELS:,})",
        "compiler probes of others (github.com/ncdrone/rustane, issue 13)",
        _extent,
    ),
    Limit(
        "rank",
        f"is reshaped or runs elsewhere: tensors of rank {RANK}, channels second, suit it",
        "Apple, Deploying Transformers on the Apple Neural Engine, 2022 (advice, not a limit)",
        _rank,
    ),
    Limit(
        "kernel",
        f"is refused: kernels wider than {KERNEL}",
        "messages of the compiler in public logs; not confirmed",
        _kernel,
    ),
    Limit("dilation", "runs on the GPU", "Hollance, docs/unsupported-layers.md", _dilated),
    Limit("indexing", "runs on the CPU", "Hollance, docs/unsupported-layers.md", _indexing),
    Limit(
        "subnormal",
        "may take the number for 0",
        "common to FP16 accelerators; not confirmed for this one",
        _subnormal,
    ),
)
