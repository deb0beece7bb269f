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
from neuropbr_exporters.coreml.evaluator import Evaluator, MilProgram
from neuropbr_exporters.coreml.graph import export_graph
from neuropbr_exporters.coreml.interface import LEVELS
from neuropbr_exporters.coreml.package import Package

CONVERSION_DB = {"fp32": 60.0, "fp16": 30.0, "constexpr": 20.0}
"""Least signal-to-noise ratio against the model in dB, by how weights are stored; arithmetic is float32 here."""
ROUNDING_DB = 30.0
"""Least signal-to-noise ratio of FP16 arithmetic against float32 arithmetic of the same program, in dB."""
EXACT_DB = 200.0
"""Ratio of results that are equal, whose true ratio is infinite."""
# coremltools names an operation after its node, and adds this where it computes in FP16.
_FP16_SUFFIX = "_cast_fp16"


@dataclass(frozen=True)
class TraceLine:
    """One operation.

    Attributes:
        name: Its name.
        kind: What it computes.
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
        for row in self.rows:
            if row.note:
                return row
        return None

    def lines(self) -> list[str]:
        """A table for people; its last line names the first operation that differs."""
        lines = [f"{'operation':50} {'kind':20} {'shape':18} {'conversion':>10} {'rounding':>9}"]
        for row in self.rows:
            shape = "×".join(map(str, row.shape))
            conversion = "-"
            if row.conversion_db is not None:
                conversion = f"{row.conversion_db:.0f} dB"
            line = f"{row.name:50} {row.kind:20} {shape:18} {conversion:>10} {row.rounding_db:6.0f} dB  {row.note}"
            lines.append(line.rstrip())
        if self.first is None:
            lines.append("no operation differs")
        else:
            lines.append(f"first difference: {self.first.name} ({self.first.kind}): {self.first.note}")
        return lines


def trace(generator: nn.Module, inputs: Mapping[str, Tensor], package: Package) -> TraceReport:
    """Run model and package on the same inputs and compare their intermediate results.

    The program runs twice, with the types that it declares and in float32; the difference is the error of rounding. The
    float32 run is compared with the model's node that an operation was made from, where names and shapes still tell;
    that difference is a fault of conversion, or of weights. A difference that all its readers cancel (such as beside a
    threshold, where the next factor is 0) does not count.

    Args:
        generator: The model that the package was made from.
        inputs: The spec's inputs.
        package: The package.

    Raises:
        ExportError: Inputs do not fit, or the evaluator does not know an operation.
    """
    encoded = package.encode(inputs)
    program = package.program()
    in_half = any("fp16" in operation.dtypes for operation in program.operations)
    if any(operation.kind.startswith("constexpr_") for operation in program.operations):
        limit = CONVERSION_DB["constexpr"]
    elif in_half:
        limit = CONVERSION_DB["fp16"]
    else:
        limit = CONVERSION_DB["fp32"]

    # The model gets the photos as the package has them, rounded to 8 bits, but in its own range: Core ML's scaling of
    # images is an operation of the package.
    model_inputs = dict(encoded)
    for name, value in encoded.items():
        if name.startswith("view"):
            model_inputs[name] = value / LEVELS
    spec = ExportSpec(dict(inputs), tuple(package.interface.outputs))
    graph = export_graph(generator, spec, images=package.interface.images, half=in_half)
    names = {_node_name(operation.name) for operation in program.operations}
    nodes = _Nodes(graph, tuple(model_inputs.values()), names)

    # Side by side, so that no run's intermediate results are kept until another run needs them.
    rounded_run = Evaluator(program).steps(encoded)
    float32_run = Evaluator(program, rounding=False).steps(encoded)
    rows = []
    for rounded, exact in zip(rounded_run, float32_run, strict=True):
        operation = rounded.operation
        value = exact.outputs[0]
        expected = nodes.take(_node_name(operation.name))
        conversion_db = None
        # A pass of the converter may have moved a name to another operation, which shape and type mostly show.
        if expected is not None and expected.shape == value.shape and expected.dtype == value.dtype:
            conversion_db = signal_to_noise(value, expected)
        rounding_db = signal_to_noise(rounded.outputs[0], value)
        # The most specific reason first: an overflow is a loss by rounding too.
        note = ""
        if rounded.overflowed:
            note = "a finite value became infinite in FP16"
        elif conversion_db is not None and conversion_db < limit:
            note = f"differs from the model by more than {limit:.0f} dB allows"
        elif rounding_db < ROUNDING_DB:
            note = f"rounding costs more than {ROUNDING_DB:.0f} dB allows"
        shape = operation.outputs[0].shape
        rows.append(TraceLine(operation.name, operation.kind, shape, conversion_db, rounding_db, note))
    return TraceReport(_without_cancelled(rows, program))


def signal_to_noise(value: Tensor, expected: Tensor) -> float:
    """10 log10 of the power of what is expected over that of the difference, in dB; at most 200.

    Values that are infinite in both alike do not count.

    Args:
        value: Any shape.
        expected: The same shape.
    """
    # In float64, since squares of small FP16 numbers vanish in float32.
    value = value.double()
    expected = expected.double()
    same = value == expected
    # The difference of two infinities is no number, hence the masks.
    noise = torch.where(same, 0.0, value - expected).square().mean().item()
    signal = torch.where(same & expected.isinf(), 0.0, expected).square().mean().item()
    if noise == 0:
        return EXACT_DB
    if signal > 0 and math.isfinite(noise):
        return min(10 * math.log10(signal / noise), EXACT_DB)
    return -math.inf


def _without_cancelled(rows: list[TraceLine], program: MilProgram) -> tuple[TraceLine, ...]:
    """Take the note from operations none of whose readers differs, unless they assign an output."""
    noted_reads: set[str] = set()
    for operation, row in zip(program.operations, rows, strict=True):
        if row.note:
            noted_reads.update(operation.reads)
    # By the notes as they were, not as they become here: otherwise a note would vanish along a whole chain.
    kept = []
    for operation, row in zip(program.operations, rows, strict=True):
        lasting = any(output.name in noted_reads or output.name in program.outputs for output in operation.outputs)
        if lasting:
            kept.append(row)
        else:
            kept.append(replace(row, note=""))
    return tuple(kept)


class _Nodes:
    """Values of the model's nodes, computed as far as they are asked for and kept until they are taken."""

    def __init__(self, graph: ExportedProgram, inputs: tuple[Tensor, ...], names: set[str]) -> None:
        self._names = names
        self._kept: dict[str, Tensor] = {}
        self._steps = self._run(Interpreter(graph.module(check_guards=False)), inputs)

    def take(self, name: str) -> Tensor | None:
        """The value of a node, or None when the model has no such node."""
        # The converter reorders operations, so nodes that run before the requested one are kept for later.
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
        # `Interpreter.run` written out as an iterator, with the same dropping of values after their last use.
        interpreter.args_iter = iter(inputs)
        for node in interpreter.graph.nodes:
            if node.op == "output":
                return
            interpreter.env[node] = interpreter.run_node(node)
            for last_used in interpreter.user_to_last_uses.get(node, []):
                del interpreter.env[last_used]
            value = interpreter.env.get(node)
            # A node of several results: operations are compared by their first one.
            if isinstance(value, (tuple, list)):
                value = value[0]
            if isinstance(value, Tensor):
                yield node.name, value


def _node_name(operation: str) -> str:
    return operation.removesuffix(_FP16_SUFFIX)
