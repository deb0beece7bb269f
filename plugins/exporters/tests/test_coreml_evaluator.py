"""The reference evaluator as a whole, what traces say, and what the static report counts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neuropbr_core.testing.exporter import TinyGenerator, example_export_spec
from neuropbr_exporters.coreml import Options
from neuropbr_exporters.coreml.evaluator import Evaluator, MilProgram, Operation, Variable
from neuropbr_exporters.coreml.exporter import CoreMLExporter
from neuropbr_exporters.coreml.package import Package
from neuropbr_exporters.coreml.report import find_violations, peak_bytes
from neuropbr_exporters.coreml.tracing import TraceReport, signal_to_noise, trace


def variable(name: str, *shape: int, dtype: str = "fp16") -> Variable:
    return Variable(name, shape, dtype)


def chain(kinds: list[str], dtype: str = "fp16") -> MilProgram:
    """Unary operations one after another on a vector of four."""
    names = ["x", *(f"y{n}" for n in range(len(kinds)))]
    operations = tuple(
        Operation(f"op{n}", kind, {"x": names[n]}, (variable(names[n + 1], 4, dtype=dtype),))
        for n, kind in enumerate(kinds)
    )
    return MilProgram((variable("x", 4, dtype=dtype),), operations, (names[-1],), {})


def test_values_are_dropped_after_their_last_use() -> None:
    program = chain(["relu", "square", "sqrt"])
    assert program.last_uses == [{"x"}, {"y0"}, {"y1"}]
    kept = replace(program, outputs=("y0", "y2"))
    assert kept.last_uses == [{"x"}, set(), {"y1"}]


def test_an_output_may_also_be_used() -> None:
    program = replace(chain(["relu", "square"]), outputs=("y0", "y1"))
    outputs = Evaluator(program).run({"x": torch.tensor([-1.0, 2.0, 3.0, 4.0])})
    assert outputs["y0"].tolist() == [0, 2, 3, 4]
    assert outputs["y1"].tolist() == [0, 4, 9, 16]


def test_overflow_in_fp16_is_seen() -> None:
    """300² is more than FP16 holds; the root of infinity is infinite, where float32 finds 300 again."""
    program = chain(["square", "sqrt"])
    inputs = {"x": torch.tensor([1.0, 2.0, 3.0, 300.0])}
    steps = list(Evaluator(program).steps(inputs))
    assert [step.overflowed for step in steps] == [True, False]
    assert Evaluator(program).run(inputs)["y1"].isinf().tolist() == [False, False, False, True]
    assert Evaluator(program, rounding=False).run(inputs)["y1"].tolist() == [1, 2, 3, 300]


def test_peak_memory_counts_what_is_alive() -> None:
    """Input and first result (16 bytes), then one value more each time that an earlier one stays."""
    assert peak_bytes(chain(["relu", "square", "sqrt"])) == 16
    join = Operation("join", "add", {"x": "y0", "y": "y2"}, (variable("sum", 4),))
    program = chain(["relu", "square", "sqrt"])
    assert peak_bytes(replace(program, operations=(*program.operations, join), outputs=("sum",))) == 24


@pytest.mark.parametrize(
    ("operation", "constants", "limit", "detail"),
    [
        (Operation("o", "relu", {}, (variable("y", 1, 3, 20_000, 8),)), {}, "extent", "1×3×20000×8"),
        (Operation("o", "relu", {}, (variable("y", 1, 3, 4, 4, 4),)), {}, "rank", "1×3×4×4×4"),
        (Operation("o", "relu", {}, (variable("y", 4, dtype="fp32"),)), {}, "float32", "fp32"),
        (
            Operation("o", "conv", {"weight": "w"}, (variable("y", 1, 1, 4, 4),)),
            {"w": torch.ones(1, 1, 17, 17)},
            "kernel",
            "kernel 17×17",
        ),
        (
            Operation("o", "conv", {"dilations": "d"}, (variable("y", 1, 1, 4, 4),)),
            {"d": torch.tensor([2, 2])},
            "dilation",
            "dilations [2, 2]",
        ),
        (Operation("o", "topk", {}, (variable("y", 4),)), {}, "indexing", "index"),
        (Operation("o", "maximum", {"y": "c"}, (variable("y", 4),)), {"c": torch.tensor(1e-6)}, "subnormal", "1e-06"),
    ],
)
def test_limits(operation: Operation, constants: dict[str, Tensor], limit: str, detail: str) -> None:
    (finding,) = find_violations(MilProgram((), (operation,), ("y",), constants))
    assert (finding.limit, finding.detail) == (limit, detail)


def test_what_suits_the_neural_engine_is_not_found() -> None:
    weight = torch.ones(1, 1, 13, 13)
    bound = torch.tensor(2.0**-14)
    operations = (
        Operation("c", "conv", {"weight": "w", "dilations": "d"}, (variable("a", 1, 65_536, 16_384, 4),)),
        Operation("m", "maximum", {"y": "b"}, (variable("y", 1, 1, 4, 4),)),
    )
    constants = {"w": weight, "d": torch.tensor([1, 1]), "b": bound}
    assert not list(find_violations(MilProgram((), operations, ("y",), constants)))


def test_signal_to_noise() -> None:
    truth = torch.tensor([3.0, 4.0])
    assert signal_to_noise(truth, truth) == 200
    assert signal_to_noise(truth + torch.tensor([0.3, 0.4]), truth) == pytest.approx(20, abs=1e-4)
    assert signal_to_noise(torch.tensor([3.0, float("inf")]), truth) == -float("inf")
    assert signal_to_noise(torch.ones(2), torch.zeros(2)) == -float("inf")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    path = tmp_path_factory.mktemp("trace") / "model.mlpackage"
    CoreMLExporter(Options()).export(TinyGenerator(directed=True), example_export_spec(), path)
    return Package(path)


class Changed(Package):
    """A package whose program was tampered with."""

    def __init__(self, path: Path, change: Callable[[MilProgram], MilProgram]) -> None:
        super().__init__(path)
        self._change = change

    def program(self) -> MilProgram:
        return self._change(super().program())


def run_trace(package: Package) -> TraceReport:
    return trace(TinyGenerator(directed=True), example_export_spec(seed=1).inputs, package)


def test_trace_of_a_sound_package(package: Package) -> None:
    """Most operations have a node of the model to be compared with; casts are the converter's own."""
    report = run_trace(package)
    assert report.first is None
    assert report.lines()[-1] == "no operation differs"
    compared = [row for row in report.rows if row.conversion_db is not None]
    assert len(compared) >= 0.88 * sum(row.kind != "cast" for row in report.rows)
    assert min(row.conversion_db for row in compared) > 50  # type: ignore[type-var]
    assert min(row.rounding_db for row in report.rows) > 50


def test_trace_finds_a_wrong_weight(package: Package) -> None:
    def change(program: MilProgram) -> MilProgram:
        constants = dict(program.constants)
        name = next(o.arguments["weight"] for o in program.operations if o.name == "conv2d_2_cast_fp16")
        constants[str(name)] = -constants[str(name)]  # type: ignore[operator]
        return replace(program, constants=constants)

    first = run_trace(Changed(package.path, change)).first
    assert first is not None
    assert first.name == "conv2d_2_cast_fp16"
    assert first.note == "differs from the model by more than 30 dB allows"


def test_trace_finds_a_wrong_operation(package: Package) -> None:
    def change(program: MilProgram) -> MilProgram:
        swap = [replace(o, kind="abs") if o.kind == "relu" else o for o in program.operations]
        return replace(program, operations=tuple(swap))

    report = run_trace(Changed(package.path, change))
    assert report.first is not None
    assert report.first.name == "relu_cast_fp16"
    assert report.lines()[-1] == (
        "first difference: relu_cast_fp16 (abs): differs from the model by more than 30 dB allows"
    )


def test_what_readers_cancel_is_no_difference(package: Package) -> None:
    """The sign of zeros' neighbours: a wrong value that a factor of 0 takes away again."""

    def change(program: MilProgram) -> MilProgram:
        constants = {**program.constants, "none": torch.zeros((), dtype=torch.float16)}
        sound = next(o for o in program.operations if o.name == "conv2d_4_cast_fp16")
        output = sound.outputs[0]
        wrong = replace(output, name="wrong")
        nothing = replace(output, name="nothing")
        added = (
            Operation("conv2d_1_cast_fp16", "abs", {"x": output.name}, (wrong,)),
            Operation("zeroed", "mul", {"x": "wrong", "y": "none"}, (nothing,)),
        )
        place = program.operations.index(sound) + 1
        operations = (*program.operations[:place], *added, *program.operations[place:])
        return replace(program, operations=operations, constants=constants)

    assert run_trace(Changed(package.path, change)).first is None


def test_trace_finds_an_overflow(package: Package) -> None:
    def change(program: MilProgram) -> MilProgram:
        constants = dict(program.constants)
        name = next(o.arguments["bias"] for o in program.operations if o.name == "conv2d_4_cast_fp16")
        constants[str(name)] = torch.full_like(constants[str(name)], 1e5, dtype=torch.float32)  # type: ignore[arg-type]
        return replace(program, constants=constants)

    first = run_trace(Changed(package.path, change)).first
    assert first is not None
    assert (first.name, first.note) == ("conv2d_4_cast_fp16", "a finite value became infinite in FP16")
