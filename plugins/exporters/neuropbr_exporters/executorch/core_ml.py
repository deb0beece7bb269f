"""ExecuTorch programs that Core ML runs: how a model is lowered to it, and how such a program is run without it.

ExecuTorch compiles for Core ML on Linux as on macOS, but runs the result on Apple's systems only. Elsewhere the package
inside the program is extracted, and the reference evaluator of ML Programs runs it.
"""

import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from neuropbr_core.contracts import Availability, ExportSpec
from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator import Evaluator, MilProgram
from neuropbr_exporters.coreml.graph import rewrite
from neuropbr_exporters.coreml.package import read_program, read_spec
from neuropbr_exporters.coreml.toolkit import coremltools, quiet
from neuropbr_exporters.graphs import MapsOnly, installed

BACKEND = "CoreMLBackend"
"""ExecuTorch's name for Core ML."""
_COMPILER = "executorch.backends.apple.coreml.executorchcoreml"


def availability() -> Availability:
    """Whether models can be lowered to Core ML on this machine."""
    packages = installed("executorch,coreml", "executorch", "coremltools")
    # ExecuTorch's wheels for some platforms lack the compiled module that writes packages.
    if packages.ok and find_spec(_COMPILER) is None:
        return Availability(
            ok=False, reason="this platform's executorch cannot compile for Core ML; use Linux or macOS, or xnnpack"
        )
    return packages


def record(generator: nn.Module, spec: ExportSpec) -> ExportedProgram:
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
    # The full graph or an error: operators outside of the package could not be verified without Core ML.
    return CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)


def names_core_ml(path: Path) -> bool:
    """Whether a program is for Core ML, if it is a program."""
    # The backend's name is stored as plain text, so searching for it replaces parsing the program.
    return BACKEND.encode() in path.read_bytes()


def only_core_ml_runs(path: Path) -> bool:
    """Whether a program is for Core ML, and this machine has none."""
    from executorch.runtime import Runtime

    return not Runtime.get().backend_registry.is_available(BACKEND) and names_core_ml(path)


def evaluated(path: Path) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """Method `forward` of a program, run by the reference evaluator.

    A program numbers its values. Its single call of Core ML lists the numbers of the call's inputs and then outputs, in
    the order of the package's names; inputs that the model does not read are missing there.

    Args:
        path: The program.

    Returns:
        A function from the spec's inputs, in call order, to maps in their order.

    Raises:
        ExportError: The program is not one package of Core ML, or the evaluator does not know one of its operations.
    """
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(path.read_bytes()).program
    # The other method, `neuropbr`, holds the manifest.
    (plan,) = (plan for plan in program.execution_plan if plan.name == "forward")
    calls = []
    for chain in plan.chains:
        calls += [step.instr_args for step in chain.instructions]
    if len(calls) != 1 or [part.id for part in plan.delegates] != [BACKEND]:
        raise ExportError(f"{path}: Core ML runs only a part of this program; run it on macOS, or export it again")
    numbers = list(getattr(calls[0], "args", ()))
    if not set(plan.outputs) <= set(numbers):
        raise ExportError(f"{path}: Core ML gives other values than the program's; export the model again")

    flat_package = program.backend_delegate_data[plan.delegates[0].processed.index].data
    mil_program, names = _unpack(flat_package, path)
    if len(names) != len(numbers):
        raise ExportError(f"{path}: the Core ML package inside takes and gives other values; export the model again")
    evaluator = Evaluator(mil_program)
    name_of = dict(zip(numbers, names, strict=True))

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        package_inputs = {}
        for number, value in zip(plan.inputs, inputs.values(), strict=True):
            if number in name_of:
                package_inputs[name_of[number]] = value
        outputs = evaluator.run(package_inputs)
        return [outputs[name_of[number]].float() for number in plan.outputs]

    return run


def _unpack(flat_package: bytes, path: Path) -> tuple[MilProgram, list[str]]:
    """Read the program of a flattened package, and its names of inputs and then outputs in call order."""
    from executorch.backends.apple.coreml import executorchcoreml

    with tempfile.TemporaryDirectory() as folder:
        if not executorchcoreml.unflatten_directory_contents(flat_package, folder):
            raise ExportError(f"{path}: the Core ML package inside is damaged; export the model again")
        lowered = Path(folder, "lowered_module")
        names = json.loads((lowered / "metadata.json").read_text(encoding="utf-8"))
        package = lowered / "model.mlpackage"
        return read_program(package, read_spec(package)), [*names["inputNames"], *names["outputNames"]]
