"""Compares a package with its model, operation by operation."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Interpreter

from neuropbr_core.contracts import ExportSpec
from neuropbr_exporters.coreml.evaluator import Evaluator, Operation, Program
from neuropbr_exporters.coreml.graph import export_graph
from neuropbr_exporters.coreml.interface import LEVELS
from neuropbr_exporters.coreml.runtime import Package

CONVERSION_DB = {"fp32": 60.0, "fp16": 30.0, "constexpr": 20.0}
"""Least signal-to-noise ratio against the model, by how weights are stored; arithmetic is float32 here."""
ROUNDING_DB = 30.0
"""Least signal-to-noise ratio of FP16 arithmetic against float32 arithmetic of the same program."""
EXACT_DB = 200.0
_FP16_SUFFIX = "_cast_fp16"


@dataclass(frozen=True)
class TraceLine:
    """One operation.

    Attributes:
        name: Its name.
        kind: What it does.
        shape: Extents of its first output.
        conversion_db: Signal-to-noise ratio of the program in float32 against the model's node of that name; None where
            it has none.
        rounding_db: Signal-to-noise ratio of the program as it is against the program in float32.
        note: Why it differs; empty when it does not.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    conversion_db: float | None
    rounding_db: float
    note: str = ""


@dataclass(frozen=True)
class TraceReport:
    """All operations in order.

    Attributes:
        rows: One line each.
    """

    rows: tuple[TraceLine, ...]

    @property
    def first(self) -> TraceLine | None:
        """The first operation that differs."""
        return next((row for row in self.rows if row.note), None)

    def lines(self) -> list[str]:
        """A table for people, with what differs first at its end."""
        head = f"{'operation':50} {'kind':20} {'shape':18} {'conversion':>10} {'rounding':>9}"
        first = self.first
        end = f"first difference: {first.name} ({first.kind}): {first.note}" if first else "no operation differs"
        return [head, *map(_format, self.rows), end]


def _format(row: TraceLine) -> str:
    conversion = "-" if row.conversion_db is None else f"{row.conversion_db:.0f} dB"
    shape = "×".join(map(str, row.shape))
    return f"{row.name:50} {row.kind:20} {shape:18} {conversion:>10} {row.rounding_db:6.0f} dB  {row.note}".rstrip()


def trace(generator: nn.Module, inputs: Mapping[str, Tensor], package: Package) -> TraceReport:
    """Run model and package on the same inputs and compare what they make on the way.

    The program runs twice, with the types that it declares and in float32; the difference is what rounding costs. The
    float32 run is compared with the model's node that an operation was made from, where names and shapes still tell;
    that difference is a fault of conversion, or of weights. A difference that all its readers cancel (such as beside a
    threshold, where the next factor is 0) is not one.

    Args:
        generator: The model that the package was made from.
        inputs: The spec's inputs.
        package: The package.

    Raises:
        ExportError: Inputs do not fit, or the evaluator does not know an operation.
    """
    encoded = package.encode(inputs)
    program = package.program()
    names = {_node_name(operation.name) for operation in program.operations}
    levels = {name: value / LEVELS if name.startswith("view") else value for name, value in encoded.items()}
    spec = ExportSpec(dict(inputs), tuple(package.interface.outputs))
    graph = export_graph(generator, spec, images=package.interface.images, half=_is_half(package))
    nodes = _Nodes(graph, tuple(levels.values()), names)
    limit = CONVERSION_DB[_weights(package)]
    rounded, plain = Evaluator(program).steps(encoded), Evaluator(program, rounding=False).steps(encoded)
    rows = []
    for step, exact in zip(rounded, plain, strict=True):
        row = TraceLine(
            step.operation.name,
            step.operation.kind,
            step.operation.outputs[0].shape,
            _conversion(nodes, step.operation.name, exact.outputs[0]),
            signal_to_noise(step.outputs[0], exact.outputs[0]),
        )
        rows.append(replace(row, note=_note(row, limit, overflowed=step.overflowed)))
    return TraceReport(_lasting(rows, program))


def signal_to_noise(found: Tensor, expected: Tensor) -> float:
    """10 log10 of the power of what is expected over that of the difference, in dB; at most 200.

    Values that are infinite in both alike do not count.
    """
    found, expected = found.double(), expected.double()
    same = found == expected
    noise = torch.where(same, 0.0, found - expected).square().mean().item()
    signal = torch.where(same & expected.isinf(), 0.0, expected).square().mean().item()
    if noise == 0:
        return EXACT_DB
    return min(10 * math.log10(signal / noise), EXACT_DB) if signal > 0 and math.isfinite(noise) else -math.inf


def _conversion(nodes: "_Nodes", name: str, found: Tensor) -> float | None:
    expected = nodes.take(_node_name(name))
    if expected is None or expected.shape != found.shape or expected.dtype != found.dtype:
        return None
    return signal_to_noise(found, expected)


def _note(row: TraceLine, limit: float, *, overflowed: bool) -> str:
    if overflowed:
        return "a finite value became infinite in FP16"
    if row.conversion_db is not None and row.conversion_db < limit:
        return f"differs from the model by more than {limit:.0f} dB allows"
    if row.rounding_db < ROUNDING_DB:
        return f"rounding costs more than {ROUNDING_DB:.0f} dB allows"
    return ""


def _lasting(rows: list[TraceLine], program: Program) -> tuple[TraceLine, ...]:
    """Take the note from operations none of whose readers differs, unless they make an output."""
    readers: dict[str, list[TraceLine]] = {name: [] for name in program.outputs}
    for operation, row in zip(program.operations, rows, strict=True):
        for name in operation.reads:
            readers.setdefault(name, []).append(row)
    return tuple(
        replace(row, note="") if _cancelled(operation, readers, program.outputs) else row
        for operation, row in zip(program.operations, rows, strict=True)
    )


def _cancelled(operation: Operation, readers: Mapping[str, list[TraceLine]], outputs: tuple[str, ...]) -> bool:
    names = [output.name for output in operation.outputs]
    noted = any(row.note for name in names for row in readers.get(name, ()))
    return not noted and not any(name in outputs for name in names)


class _Nodes:
    """Values of the model's nodes, computed as far as they are asked for and kept until they are taken."""

    def __init__(self, graph: ExportedProgram, inputs: tuple[Tensor, ...], names: set[str]) -> None:
        self._names = names
        self._kept: dict[str, Tensor] = {}
        self._steps = self._run(Interpreter(graph.module(check_guards=False)), inputs)

    def take(self, name: str) -> Tensor | None:
        """The value of a node, or None when the model has no such node."""
        while name in self._names and name not in self._kept:
            try:
                node, value = next(self._steps)
            except StopIteration:
                break
            if node in self._names:
                self._kept[node] = value
        return self._kept.pop(name, None)

    @torch.no_grad()
    def _run(self, interpreter: Any, inputs: tuple[Tensor, ...]) -> Iterator[tuple[str, Tensor]]:
        interpreter.args_iter = iter(inputs)
        for node in interpreter.graph.nodes:
            if node.op == "output":
                return
            interpreter.env[node] = interpreter.run_node(node)
            for dead in interpreter.user_to_last_uses.get(node, []):
                del interpreter.env[dead]
            value = interpreter.env.get(node)
            value = value[0] if isinstance(value, (tuple, list)) else value
            if isinstance(value, Tensor):
                yield node.name, value


def _node_name(operation: str) -> str:
    return operation.removesuffix(_FP16_SUFFIX)


def _is_half(package: Package) -> bool:
    return any(output.dtype == "fp16" for operation in package.program().operations for output in operation.outputs)


def _weights(package: Package) -> str:
    program = package.program()
    if any(operation.kind.startswith("constexpr_") for operation in program.operations):
        return "constexpr"
    return "fp16" if _is_half(package) else "fp32"
