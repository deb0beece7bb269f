"""Writes a generator as a Core ML package, reads it back, and reports what the package holds.

The steps of an export: `graph` records and rewrites the model; `convert`, `describe` and `save` make the package by
coremltools; `package` reads it back, `report` counts what it holds. `tracing` finds the operation in which a package
and its model differ.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from neuropbr_core.contracts import Availability, Exporter, ExportReport, ExportSpec, Maps
from neuropbr_core.errors import ExportError
from neuropbr_core.maps import MAPS
from neuropbr_exporters.coreml import Options
from neuropbr_exporters.coreml.graph import export_graph
from neuropbr_exporters.coreml.interface import LEVELS, METADATA_KEY, Interface, package_inputs
from neuropbr_exporters.coreml.package import Package, load
from neuropbr_exporters.coreml.report import examine
from neuropbr_exporters.coreml.toolkit import coremltools, quiet
from neuropbr_exporters.coreml.tracing import trace
from neuropbr_exporters.graphs import conversion, installed

_TABLE_BITS = 8


def can_palettise() -> bool:
    """Whether scikit-learn is installed, which coremltools needs for clustering weights but does not declare."""
    return find_spec("sklearn") is not None


def convert(graph: ExportedProgram, spec: ExportSpec, options: Options) -> Any:
    """Convert a graph to coremltools' model.

    Args:
        graph: From `export_graph`.
        spec: Inputs, outputs and metadata.
        options: What goes into the package.

    Raises:
        ExportError: Core ML cannot represent it, or palettising is asked for without scikit-learn.
    """
    # Refused before the long conversion, rather than exported without: that would be another package.
    if options.palettize and not can_palettise():
        raise ExportError(
            "coreml: palettize needs scikit-learn, which is not installed; pip install 'neuropbr[coreml]'"
        )
    ct = coremltools()
    views = spec.inputs["views"]
    inputs: list[Any] = []
    for place, (name, value) in enumerate(package_inputs(spec.inputs).items()):
        if place < views.shape[1]:
            # Core ML itself scales 0 to 255 to the 0 to 1 that the model reads.
            inputs.append(ct.ImageType(name, value.shape, scale=1 / LEVELS, color_layout=ct.colorlayout.RGB))
        else:
            inputs.append(ct.TensorType(name, value.shape))
    layouts = {3: ct.colorlayout.RGB, 1: ct.colorlayout.GRAYSCALE}
    outputs: list[Any] = []
    for name in spec.outputs:
        if options.outputs == "images":
            outputs.append(ct.ImageType(name, color_layout=layouts[MAPS[name].channels]))
        else:
            outputs.append(ct.TensorType(name))
    with conversion("coreml"), quiet():
        model = ct.convert(
            graph,
            convert_to="mlprogram",
            inputs=inputs,
            outputs=outputs,
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=compute_precision(ct, options.precision, views.shape[-1]),
            # Loading would compile the model, which works on macOS only.
            skip_model_load=True,
        )
        if options.palettize:
            # k-means for each weight of 2,048 values and more; coremltools leaves smaller ones as they are.
            optimize = ct.optimize.coreml
            config = optimize.OpPalettizerConfig(mode="kmeans", nbits=_TABLE_BITS)
            model = optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config))
        return model


# Which operations compute in FP16

# What turns photos into what the network reads: arithmetic of single pixels, and joining.
_NORMALISING = frozenset({"add", "sub", "mul", "real_div", "concat", "expand_dims", "reshape"})
_COARSENING = frozenset({"conv", "max_pool", "avg_pool"})
# Features are fine while their side is at least the photo's divided by this.
_FINE = 8


def compute_precision(ct: Any, precision: str, side: int) -> Any:
    """The argument of coremltools' converter for a precision.

    For `fp16`, all operations but those that normalise the photos: they stay in float32, as Core ML's own scaling of
    images does, and their result is rounded once. FP16 would move mean and deviation by up to 1 in 4,000 of themselves,
    which tints every pixel of every photo alike, and a network passes a tint on where it averages noise.

    For `mixed`, the encoder's first layers stay in float32 too, until features are coarser than an eighth of the
    photo, because later layers amplify the rounding of the first.

    Args:
        ct: coremltools.
        precision: `fp16`, `mixed` or `fp32`.
        side: The photos' side in pixels.
    """
    if precision == "fp32":
        return ct.precision.FLOAT32
    front = Front(normalises)
    if precision == "mixed":
        front = Front(is_fine(side))
    return ct.transform.FP16ComputePrecision(op_selector=front)


class Front:
    """Selects the operations that compute in FP16, given a program's operations in order: all but its front.

    The front consists of operations that read nothing but inputs, constants, and operations of the front.

    Args:
        belongs: Whether an operation may be in the front, judged by itself.
    """

    def __init__(self, belongs: Callable[[Any], bool]) -> None:
        self._belongs = belongs
        self._front: set[Any] = set()

    def __call__(self, operation: Any) -> bool:
        """Whether `operation` computes in FP16."""
        if operation.op_type == "const" or not self._belongs(operation):
            return True
        for argument in operation.inputs.values():
            values = argument
            if not isinstance(argument, (list, tuple)):
                values = (argument,)
            for value in values:
                if value is not None and not self._is_in_front(value):
                    return True
        self._front.add(operation)
        return False

    def _is_in_front(self, value: Any) -> bool:
        if value.op is None or value.op.op_type == "const":
            return True
        if value.op.op_type == "cast":
            # coremltools does not ask about casts, so they are never entered: what counts is what they cast.
            return self._is_in_front(value.op.x)
        return value.op in self._front


def normalises(operation: Any) -> bool:
    """Whether an operation is one of those that normalise photos."""
    return operation.op_type in _NORMALISING


def is_fine(side: int) -> Callable[[Any], bool]:
    """Make the test of whether an operation's features are fine.

    Args:
        side: The photos' side in pixels.

    Returns:
        A function of an operation: False where it makes features coarse, or comes back from coarse ones.
    """

    def check(operation: Any) -> bool:
        extent = 1
        if operation.outputs[0].shape:
            extent = operation.outputs[0].shape[-1]
        # An extent of 1 is a mean over the photo, as squeeze-and-excitation has it in fine layers too.
        coarse = operation.op_type in _COARSENING and 1 < extent < side / _FINE
        return not coarse and not operation.op_type.startswith("upsample")

    return check


# Metadata, and the package on disk

_INPUT_DESCRIPTIONS: Mapping[str, str] = {
    "visible": "what each view sees of the texture, 0 to 1",
    "directions": "unit vectors from the surface to each view's camera, tangent space",
}


def describe(model: Any, spec: ExportSpec, options: Options) -> None:
    """Write metadata into a model: author, licence, the spec's text, and a description of each input and output.

    Args:
        model: From `convert`; it is changed.
        spec: Inputs, outputs and metadata.
        options: What goes into the package.
    """
    images = options.outputs == "images"
    model.author = options.author
    model.license = options.license
    model.short_description = "NeuroPBR: photos of a flat material in, PBR maps out"
    for key, value in spec.metadata.items():
        model.user_defined_metadata[key] = value
    model.user_defined_metadata[METADATA_KEY] = Interface.of(spec, images=images).write()
    for name in package_inputs(spec.inputs):
        photo = f"photo {name.removeprefix('view')}, sRGB-encoded"
        model.input_description[name] = _INPUT_DESCRIPTIONS.get(name, photo)
    for name in spec.outputs:
        low, high = MAPS[name].value_range
        if images:
            low = 0
            high = LEVELS
        text = f"{MAPS[name].description}; {MAPS[name].color_space}, {low:g} to {high:g}"
        model.output_description[name] = text


def save(model: Any, path: Path) -> None:
    """Write a package aside in the same folder, then move it into place.

    Args:
        model: From `convert`.
        path: The package (a folder); missing folders are created.

    Raises:
        ExportError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".coreml-") as folder:
            aside = Path(folder, "model.mlpackage")
            with quiet():
                model.save(str(aside))
            # A folder cannot be replaced in one step while it has content: the earlier package moves away first.
            if path.exists():
                path.rename(Path(folder, "earlier"))
            aside.rename(path)
    except OSError as error:
        raise ExportError(f"{path}: could not be written: {error}") from error
    finally:
        # coremltools keeps its own temporary package until Python ends, which fills the disk in a long session.
        if model.package_path:
            shutil.rmtree(model.package_path, ignore_errors=True)


class CoreMLExporter(Exporter):
    """Writes ML Programs through `torch.export` and coremltools, for iOS 17 and macOS 14 on.

    The package takes one 8-bit sRGB image for each view, and arrays beside them where the model reads visibility or
    directions. Its graph is the model's: only constants are computed ahead of time.

    Args:
        options: What goes into the package.

    Attributes:
        precision: The pass mark that packages with these options must meet.
        view_bits: Views are 8-bit images in a package.
    """

    suffix = ".mlpackage"
    view_bits = 8

    def __init__(self, options: Options) -> None:
        self.options = options
        # The mark of the coarsest step: palettised weights or 8-bit maps differ by more than FP16 does.
        if options.palettize:
            self.precision = "palettised"
        elif options.outputs == "images":
            self.precision = "image"
        elif options.precision != "fp32":
            self.precision = "fp16"

    def requirements(self) -> Availability:
        """Whether coremltools is installed; Linux and macOS will do."""
        return installed("coreml", "coremltools")

    def export(self, generator: nn.Module, spec: ExportSpec, path: Path) -> ExportReport:
        """Write `generator` to `path`; a package of that name is replaced only when the new one is complete.

        Args:
            generator: In eval mode, on the CPU.
            spec: Inputs, outputs and metadata.
            path: The package (a folder); missing folders are created.

        Raises:
            ExportError: The model cannot be converted, lacks one of the outputs, or the package cannot be written.
        """
        images = self.options.outputs == "images"
        # `mixed` too: most of its operations compute in FP16.
        half = self.options.precision != "fp32"
        graph = export_graph(generator, spec, images=images, half=half)
        model = convert(graph, spec, self.options)
        describe(model, spec, self.options)
        save(model, path)
        # From the package as it was saved, so that the report describes what others will load.
        report = examine(path, Package(path).program())
        return ExportReport(path=path, precision=self.precision, details=report.summary())

    def load(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a package back: run by Core ML on macOS, by the reference evaluator elsewhere.

        Raises:
            ExportError: The package is missing, damaged, was not written by this exporter, or cannot be run.
        """
        return load(path)

    def load_untrusted(self, path: Path) -> Callable[[Mapping[str, Tensor]], Maps]:
        """Read a file of a stranger: a program of known operations and numbers, run by Core ML or the evaluator.

        Raises:
            ExportError: As `load`.
        """
        return self.load(path)

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The text that was stored with a package."""
        return Package(path).metadata

    def report(self, path: Path) -> dict[str, object]:
        """Count what a package holds, and list the operations that the Neural Engine will likely not run."""
        return examine(path, Package(path).program()).to_dict()

    def trace(self, generator: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> list[str]:
        """Compare a package with its model, operation by operation; the lines name the first that differs."""
        return trace(generator, inputs, Package(path)).lines()
