"""What a package is made of, without running it: operations, tensors, memory, doubts about the Neural Engine."""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from neuropbr_exporters.coreml.evaluator import Program, Variable
from neuropbr_exporters.coreml.limits import LIMITS, Finding, find

_BYTES = {"fp16": 2, "fp32": 4, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
_MIB = 2**20


@dataclass(frozen=True)
class StaticReport:
    """Facts about a package.

    Attributes:
        package_mib: Size on disk.
        weights_mib: Constants as they are stored.
        operations: How often each kind of operation occurs.
        ranks: How many tensors have each rank.
        largest: The largest tensor: its name, and `largest_mib`.
        largest_mib: Its size.
        peak_mib: Most that is alive at once when operations run in the program's order and nothing is computed in
            place, weights aside. Core ML may do better by fusing and worse by copying.
        findings: Operations that break what is said of the Neural Engine's limits.
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
        """Plain data for JSON, with each limit's consequence and where it was seen."""
        broken = {finding.limit for finding in self.findings}
        limits = [limit for limit in LIMITS if limit.name in broken]
        named = {limit.name: {"consequence": limit.consequence, "seen": limit.seen} for limit in limits}
        return {**asdict(self), "limits": named}

    def summary(self) -> dict[str, str]:
        """The report in a few lines of text, by heading."""
        kinds = sorted(self.operations.items(), key=lambda item: -item[1])
        doubts = Counter(finding.limit for finding in self.findings)
        return {
            "MiB": f"{self.package_mib:.1f}",
            "operations": f"{sum(self.operations.values())} ({', '.join(f'{kind} {n}' for kind, n in kinds)})",
            "largest tensor": f"{self.largest}, {self.largest_mib:.1f} MiB",
            "estimated peak of activations": f"{self.peak_mib:.0f} MiB",
            "Neural Engine, unofficial": ", ".join(f"{n} × {name}" for name, n in doubts.items()) or "no doubts",
        }


def examine(path: Path, program: Program) -> StaticReport:
    """Examine a package.

    Args:
        path: Its folder.
        program: Its program.
    """
    variables = [output for operation in program.operations for output in operation.outputs]
    largest = max(variables, key=_size)
    weights = sum(value.nbytes for value in program.constants.values() if isinstance(value, Tensor))
    return StaticReport(
        package_mib=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / _MIB,
        weights_mib=weights / _MIB,
        operations=dict(Counter(operation.kind for operation in program.operations)),
        ranks=dict(sorted(Counter(len(variable.shape) for variable in variables).items())),
        largest=f"{largest.name} {'×'.join(map(str, largest.shape))}",
        largest_mib=_size(largest) / _MIB,
        peak_mib=peak_bytes(program) / _MIB,
        findings=tuple(find(program)),
    )


def peak_bytes(program: Program) -> int:
    """Most bytes of values that are alive during one operation; constants do not count.

    Args:
        program: The program; its order is taken as it is.
    """
    alive = {variable.name: _size(variable) for variable in program.inputs}
    peak = sum(alive.values())
    for operation, dying in zip(program.operations, program.last_uses, strict=True):
        if not operation.kind.startswith("constexpr_"):
            alive |= {output.name: _size(output) for output in operation.outputs}
        peak = max(peak, sum(alive.values()))
        for name in dying:
            alive.pop(name, None)
    return peak


def _size(variable: Variable) -> int:
    return math.prod(variable.shape) * _BYTES.get(variable.dtype, 1)
