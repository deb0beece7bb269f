"""From a graph to a saved package, by coremltools."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from neuropbr_core.contracts import ExportSpec
from neuropbr_core.errors import ExportError
from neuropbr_core.maps import MAPS
from neuropbr_exporters.coreml import Options
from neuropbr_exporters.coreml.interface import LEVELS, Interface, package_inputs
from neuropbr_exporters.coreml.precision import compute_precision
from neuropbr_exporters.coreml.toolkit import INSTALL, can_palettise, coremltools, quiet
from neuropbr_exporters.program import conversion

MANIFEST = "neuropbr.interface"
"""Key of the user-defined metadata that holds the interface."""
_TABLE_BITS = 8


def convert(graph: ExportedProgram, spec: ExportSpec, options: Options) -> Any:
    """Convert a graph to coremltools' model.

    Raises:
        ExportError: Core ML cannot represent it, or palettising is asked for without scikit-learn.
    """
    if options.palettize and not can_palettise():
        raise ExportError(f"coreml: palettize needs scikit-learn, which is not installed; {INSTALL}")
    ct = coremltools()
    with conversion("coreml"), quiet():
        model = ct.convert(
            graph,
            convert_to="mlprogram",
            inputs=_inputs(ct, spec),
            outputs=_outputs(ct, spec, images=options.outputs == "images"),
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=compute_precision(ct, options.precision, spec.inputs["views"].shape[-1]),
            skip_model_load=True,
        )
        return _palettised(ct, model) if options.palettize else model


def _inputs(ct: Any, spec: ExportSpec) -> list[Any]:
    images = spec.inputs["views"].shape[1]
    return [
        ct.ImageType(name, value.shape, scale=1 / LEVELS, color_layout=ct.colorlayout.RGB)
        if place < images
        else ct.TensorType(name, value.shape)
        for place, (name, value) in enumerate(package_inputs(spec.inputs).items())
    ]


def _outputs(ct: Any, spec: ExportSpec, *, images: bool) -> list[Any]:
    if not images:
        return [ct.TensorType(name) for name in spec.outputs]
    layouts = {3: ct.colorlayout.RGB, 1: ct.colorlayout.GRAYSCALE}
    return [ct.ImageType(name, color_layout=layouts[MAPS[name].channels]) for name in spec.outputs]


def _palettised(ct: Any, model: Any) -> Any:
    """Cluster each large weight's values by k-means; small ones (below 2,048 values) stay as they are."""
    optimize = ct.optimize.coreml
    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=_TABLE_BITS)
    return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=config))


def describe(model: Any, spec: ExportSpec, options: Options) -> None:
    """Write metadata into a model: author, licence, the spec's text, and what each input and output is."""
    model.author = options.author
    model.license = options.license
    model.short_description = "NeuroPBR: photos of a flat material in, PBR maps out"
    interface = Interface.of(spec, images=options.outputs == "images")
    for key, value in {**spec.metadata, MANIFEST: interface.write()}.items():
        model.user_defined_metadata[key] = value
    for name in package_inputs(spec.inputs):
        model.input_description[name] = _INPUTS.get(name, f"photo {name.removeprefix('view')}, sRGB-encoded")
    for name in spec.outputs:
        model.output_description[name] = _describe_map(name, images=options.outputs == "images")


_INPUTS: Mapping[str, str] = {
    "visible": "what each view sees of the texture, 0 to 1",
    "directions": "unit vectors from the surface to each view's camera, tangent space",
}


def _describe_map(name: str, *, images: bool) -> str:
    spec = MAPS[name]
    low, high = (0, LEVELS) if images else spec.value_range
    return f"{spec.description}; {spec.color_space}, {low:g} to {high:g}"


def save(model: Any, path: Path) -> None:
    """Write a package aside in the same folder, then move it into place.

    Raises:
        ExportError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".coreml-") as folder:
            aside = Path(folder, "model.mlpackage")
            with quiet():
                model.save(str(aside))
            if path.exists():
                path.rename(Path(folder, "earlier"))
            aside.rename(path)
    except OSError as error:
        raise ExportError(f"{path}: could not be written: {error}") from error
    finally:
        discard(model)


def discard(model: Any) -> None:
    """Remove coremltools' own temporary package now, not when Python ends."""
    if model.package_path:
        shutil.rmtree(model.package_path, ignore_errors=True)
