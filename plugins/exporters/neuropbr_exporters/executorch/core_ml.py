"""ExecuTorch programs that Core ML runs: how a model is lowered to it, and how such a program is run without it.

ExecuTorch compiles for Core ML on Linux as on macOS, but runs the result on Apple's systems only. Elsewhere the package
inside the program is taken out and executed by the reference evaluator of ML Programs.
"""

import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.export import ExportedProgram

from neuropbr_core.contracts import Availability, ExportSpec
from neuropbr_core.errors import ExportError
from neuropbr_exporters.availability import installed
from neuropbr_exporters.coreml.evaluator import Evaluator, Program
from neuropbr_exporters.coreml.graph import rewrite
from neuropbr_exporters.coreml.reading import read_program, read_spec
from neuropbr_exporters.coreml.toolkit import coremltools, quiet
from neuropbr_exporters.program import MapsOnly

BACKEND = "CoreMLBackend"
"""ExecuTorch's name for it."""
_COMPILER = "executorch.backends.apple.coreml.executorchcoreml"


def availability() -> Availability:
    """Whether models can be lowered to Core ML on this machine."""
    found = installed("executorch,coreml", "executorch", "coremltools")
    if found.ok and find_spec(_COMPILER) is None:
        return Availability(
            ok=False, reason="this platform's executorch cannot compile for Core ML; use Linux or macOS, or xnnpack"
        )
    return found


def capture(generator: nn.Module, spec: ExportSpec) -> ExportedProgram:
    """Record a generator with the spec's inputs, in the operators and numbers that Core ML in FP16 has."""
    module = MapsOnly(generator, spec.outputs).eval()
    return rewrite(module, (), dict(spec.inputs), half=True)


def partitioner() -> Any:
    """Gives the whole graph to Core ML (FP16, iOS 17 and macOS 14 on), or raises with the operator that it cannot."""
    ct = coremltools()
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=ct.target.iOS17, compute_precision=ct.precision.FLOAT16
    )
    return CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)


def only_core_ml_runs(path: Path) -> bool:
    """Whether a program is for Core ML, and this machine has none."""
    from executorch.runtime import Runtime

    return not Runtime.get().backend_registry.is_available(BACKEND) and BACKEND.encode() in path.read_bytes()


def evaluated(path: Path) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """Method `forward` of a program, run by the reference evaluator.

    Raises:
        ExportError: The program is not one package of Core ML, or the evaluator does not know one of its operations.
    """
    call = _delegate(path)
    program, names = _package(call.data, path)
    if len(names) != len(call.values):
        raise ExportError(f"{path}: the Core ML package inside takes and gives other values; export the model again")
    evaluator, named = Evaluator(program), dict(zip(call.values, names, strict=True))

    def run(values: dict[str, Tensor]) -> list[Tensor]:
        given = dict(zip(call.inputs, values.values(), strict=True))
        found = evaluator.run({named[place]: value for place, value in given.items() if place in named})
        return [found[named[place]].float() for place in call.outputs]

    return run


class _Call(NamedTuple):
    """What ExecuTorch hands to Core ML.

    Attributes:
        data: A folder, flattened.
        values: Places of the call's inputs and then outputs, in the order of the package's names.
        inputs: Places of the program's inputs, in order; those that the model does not read are not in `values`.
        outputs: Places of the program's outputs, in order.
    """

    data: bytes
    values: list[int]
    inputs: list[int]
    outputs: list[int]


def _delegate(path: Path) -> _Call:
    """The only call of a program."""
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(path.read_bytes()).program
    (plan,) = (plan for plan in program.execution_plan if plan.name == "forward")
    calls = [step.instr_args for chain in plan.chains for step in chain.instructions]
    if len(calls) != 1 or [part.id for part in plan.delegates] != [BACKEND]:
        raise ExportError(f"{path}: Core ML runs only a part of this program; run it on macOS, or export it again")
    values = list(getattr(calls[0], "args", ()))
    if not set(plan.outputs) <= set(values):
        raise ExportError(f"{path}: Core ML gives other values than the program's; export the model again")
    data: bytes = program.backend_delegate_data[plan.delegates[0].processed.index].data
    return _Call(data, values, list(plan.inputs), list(plan.outputs))


def _package(flat: bytes, path: Path) -> tuple[Program, list[str]]:
    """A flattened package's program, and its names of inputs and then outputs in call order."""
    from executorch.backends.apple.coreml import executorchcoreml

    with tempfile.TemporaryDirectory() as folder:
        if not executorchcoreml.unflatten_directory_contents(flat, folder):
            raise ExportError(f"{path}: the Core ML package inside is damaged; export the model again")
        lowered = Path(folder, "lowered_module")
        names = json.loads((lowered / "metadata.json").read_text(encoding="utf-8"))
        package = lowered / "model.mlpackage"
        return read_program(package, read_spec(package)), [*names["inputNames"], *names["outputNames"]]
