"""What a package holds, without running it: operations, tensors, memory, and doubts about the Neural Engine.

Apple documents none of the Neural Engine's limits. Each limit here was observed by somebody, and names its source. A
package that breaks one still runs, on the GPU or the CPU, and one that breaks none may do so too. Only Xcode's
performance report on a device tells.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from neuropbr_exporters.coreml.evaluator import MilProgram, Operation, Variable

# Bytes of a value; types that are missing here have one.
_BYTES = {"fp16": 2, "fp32": 4, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
_MIB = 2**20

# The numbers of the limits below, which name their sources.
EXTENT = 16_384
CHANNELS = 65_536
KERNEL = 13
RANK = 4
# Smaller numbers are subnormal in FP16.
_NORMAL_HALF = 2.0**-14
_INDEXING = {"gather", "gather_along_axis", "argsort", "topk"}
_CONVOLUTIONS = {"conv", "conv_transpose"}


Violation = Callable[[Operation, MilProgram], str | None]
"""Describes how an operation breaks a limit; None for an operation that does not."""


@dataclass(frozen=True)
class Limit:
    """One limit of the Neural Engine.

    Attributes:
        name: A short one.
        consequence: What likely happens to an operation that breaks it.
        source: Where it was observed; none is official.
        violation: Finds an operation that breaks it.
    """

    name: str
    consequence: str
    source: str
    violation: Violation


@dataclass(frozen=True)
class Finding:
    """An operation that breaks a limit."""

    limit: str
    operation: str
    kind: str
    detail: str


@dataclass(frozen=True)
class StaticReport:
    """Facts about a package.

    Attributes:
        package_mib: Size on disk.
        weights_mib: Constants as they are stored.
        operations: How often each kind of operation occurs.
        ranks: How many tensors have each rank.
        largest: Name and extents of the largest tensor.
        largest_mib: Its size.
        peak_mib: Most memory of values that are alive at once when operations run in the program's order and nothing is
            computed in place, without weights. Core ML may need less by fusing and more by copying.
        findings: Operations that break an unofficial limit of the Neural Engine.
    """

    package_mib: float
    weights_mib: float
    operations: dict[str, int]
    ranks: dict[int, int]
    largest: str
    largest_mib: float
    peak_mib: float
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON, with the consequence and source of each limit that is broken."""
        broken = {finding.limit for finding in self.findings}
        limits = {}
        for entry in LIMITS:
            if entry.name in broken:
                limits[entry.name] = {"consequence": entry.consequence, "seen": entry.source}
        return {**asdict(self), "limits": limits}

    def summary(self) -> dict[str, str]:
        """The report in a few lines of text, by heading."""
        counts = Counter(self.operations).most_common()
        kinds = ", ".join(f"{kind} {number}" for kind, number in counts)
        doubts = Counter(finding.limit for finding in self.findings)
        return {
            "MiB": f"{self.package_mib:.1f}",
            "operations": f"{sum(self.operations.values())} ({kinds})",
            "largest tensor": f"{self.largest}, {self.largest_mib:.1f} MiB",
            "estimated peak of activations": f"{self.peak_mib:.0f} MiB",
            "Neural Engine, unofficial": ", ".join(f"{n} × {name}" for name, n in doubts.items()) or "no doubts",
        }


def examine(path: Path, program: MilProgram) -> StaticReport:
    """Examine a package.

    Args:
        path: Its folder.
        program: Its program.
    """
    variables: list[Variable] = []
    kinds: Counter[str] = Counter()
    for operation in program.operations:
        kinds[operation.kind] += 1
        variables += operation.outputs
    largest = max(variables, key=_size)
    ranks = Counter(len(variable.shape) for variable in variables)
    weights = 0
    for value in program.constants.values():
        # Text, such as the name of a padding, is no weight.
        if isinstance(value, Tensor):
            weights += value.nbytes
    package = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return StaticReport(
        package_mib=package / _MIB,
        weights_mib=weights / _MIB,
        operations=dict(kinds),
        ranks=dict(sorted(ranks.items())),
        largest=f"{largest.name} {'×'.join(map(str, largest.shape))}",
        largest_mib=_size(largest) / _MIB,
        peak_mib=peak_bytes(program) / _MIB,
        findings=tuple(find_violations(program)),
    )


def peak_bytes(program: MilProgram) -> int:
    """Most bytes of values that are alive during one operation; constants do not count.

    Args:
        program: The program; operations are assumed to run in its order.
    """
    alive = {variable.name: _size(variable) for variable in program.inputs}
    peak = sum(alive.values())
    for operation, last_used in zip(program.operations, program.last_uses, strict=True):
        # Those operations expand compressed weights once, when the model is loaded: their results are weights.
        if not operation.kind.startswith("constexpr_"):
            for output in operation.outputs:
                alive[output.name] = _size(output)
        # Before the last-used values are dropped: an operation's inputs and outputs are alive together.
        peak = max(peak, sum(alive.values()))
        for name in last_used:
            alive.pop(name, None)
    return peak


def _size(variable: Variable) -> int:
    return math.prod(variable.shape) * _BYTES.get(variable.dtype, 1)


# Limits of the Neural Engine

LIMITS: list[Limit] = []
"""All limits, in the order of reports."""


def find_violations(program: MilProgram) -> Iterator[Finding]:
    """All operations of a program that break a limit, in the program's order."""
    for operation in program.operations:
        for entry in LIMITS:
            detail = entry.violation(operation, program)
            if detail:
                yield Finding(entry.name, operation.name, operation.kind, detail)


def _constants(operation: Operation, program: MilProgram) -> dict[str, Tensor]:
    """The operation's arguments that are constant tensors, by parameter."""
    constants = {}
    for parameter, name in operation.arguments.items():
        if isinstance(name, str):
            value = program.constants.get(name)
            if isinstance(value, Tensor):
                constants[parameter] = value
    return constants


def _shown(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def limit(name: str, *, consequence: str, source: str) -> Callable[[Violation], Violation]:
    """Enter a function into `LIMITS`.

    Args:
        name: See `Limit`.
        consequence: See `Limit`.
        source: See `Limit`.
    """

    def enter(violation: Violation) -> Violation:
        LIMITS.append(Limit(name, consequence, source, violation))
        return violation

    return enter


@limit(
    "float32",
    consequence="runs on the GPU or the CPU: the Neural Engine computes in FP16",
    source="Hollance, The Neural Engine: what do we know about it?, docs/16-bit.md (github.com/hollance/neural-engine)",
)
def float32(operation: Operation, _: MilProgram) -> str | None:
    """Arithmetic in float32."""
    if "fp32" in operation.dtypes:
        return "fp32"
    return None


@limit(
    "extent",
    consequence=f"is refused: extents up to {EXTENT:,} (channels {CHANNELS:,})",
    source="compiler probes of others (github.com/ncdrone/rustane, issue 13)",
)
def extent(operation: Operation, _: MilProgram) -> str | None:
    """Large tensors."""
    for output in operation.outputs:
        for axis, size in enumerate(output.shape):
            most = EXTENT
            # Channels are the second axis.
            if axis == 1:
                most = CHANNELS
            if size > most:
                return _shown(output.shape)
    return None


@limit(
    "rank",
    consequence=f"is reshaped or runs elsewhere: tensors of rank {RANK}, channels second, suit it",
    source="Apple, Deploying Transformers on the Apple Neural Engine, 2022 (advice, not a limit)",
)
def rank(operation: Operation, _: MilProgram) -> str | None:
    """Tensors of many axes."""
    for output in operation.outputs:
        if len(output.shape) > RANK:
            return _shown(output.shape)
    return None


@limit(
    "kernel",
    consequence=f"is refused: kernels wider than {KERNEL}",
    source="messages of the compiler in public logs; not confirmed",
)
def kernel(operation: Operation, program: MilProgram) -> str | None:
    """Convolutions with wide kernels."""
    weight = _constants(operation, program).get("weight")
    if operation.kind not in _CONVOLUTIONS or weight is None or max(weight.shape[2:], default=0) <= KERNEL:
        return None
    return f"kernel {_shown(tuple(weight.shape[2:]))}"


@limit("dilation", consequence="runs on the GPU", source="Hollance, docs/unsupported-layers.md")
def dilation(operation: Operation, program: MilProgram) -> str | None:
    """Convolutions with gaps between their taps."""
    dilations = _constants(operation, program).get("dilations")
    if operation.kind not in _CONVOLUTIONS or dilations is None or int(dilations.max()) == 1:
        return None
    return f"dilations {dilations.tolist()}"


@limit("indexing", consequence="runs on the CPU", source="Hollance, docs/unsupported-layers.md")
def indexing(operation: Operation, _: MilProgram) -> str | None:
    """Reading and sorting by index."""
    if operation.kind in _INDEXING:
        return "index"
    return None


@limit(
    "subnormal",
    consequence="may take the number for 0",
    source="common to FP16 accelerators; not confirmed for this one",
)
def subnormal(operation: Operation, program: MilProgram) -> str | None:
    """Numbers that are subnormal in FP16."""
    # In float32 they are normal. Tensors are not searched: they are weights, where a number near 0 may become 0.
    if "fp16" not in operation.dtypes:
        return None
    for value in _constants(operation, program).values():
        if value.is_floating_point() and not value.dim() and 0 < abs(value.item()) < _NORMAL_HALF:
            return f"{value.item():.2g}"
    return None
