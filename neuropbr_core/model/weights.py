"""A generator on disk: `model.safetensors` and `model.json`, nothing pickled.

The description is in the weights file too, so that this file alone is a whole model.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuropbr_core.errors import CheckpointError, PluginError
from neuropbr_core.files import replacing, usual_mode, write_json
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec, build_generator, probe_parts, unfilled
from neuropbr_core.reading import DocumentError, open_bytes, parse_json, read_json
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.shown import shortened

WEIGHTS = "model.safetensors"
SPEC = "model.json"
_DESCRIPTION = "neuropbr"
"""Key of the description in the metadata of the weights file."""
FORMAT = 3  # counted up when the same weights would give other maps, or the document reads differently


def save_model(generator: Generator | Mapping[str, Tensor], spec: ModelSpec, folder: Path) -> None:
    """Write the weights and what is needed to build the generator again into `folder`.

    Args:
        generator: The generator, or its state.
        spec: What builds it.
        folder: Where to.
    """
    document = _describe(spec)
    # safetensors creates files that only their owner can read.
    with usual_mode(folder / WEIGHTS):
        _write_weights(generator, document, folder / WEIGHTS)
    write_json(folder / SPEC, document)


def save_model_file(generator: Generator, spec: ModelSpec, file: Path) -> None:
    """Write a model as one file, which `load_model` reads without anything beside it.

    Args:
        generator: The generator.
        spec: What builds it.
        file: Where to; its suffix must be `.safetensors`.

    Raises:
        CheckpointError: The file has another suffix, or cannot be written.
    """
    if file.suffix != ".safetensors":
        raise CheckpointError(f"{file}: models are written as .safetensors; choose a name with that suffix")
    try:
        with replacing(file) as aside, usual_mode(aside):
            _write_weights(generator, _describe(spec), aside)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be written ({error}); choose another place") from error


def _describe(spec: ModelSpec) -> dict[str, Any]:
    components = [spec.encoder.provenance, spec.fusion.provenance]
    return {"format": FORMAT, "model": spec.to_dict(), "components": components}


def _write_weights(generator: Generator | Mapping[str, Tensor], document: dict[str, Any], file: Path) -> None:
    # With FSDP the state comes from all processes, and the generator itself holds a share of it.
    if isinstance(generator, Mapping):
        tensors = generator
    else:
        tensors = generator.state_dict()
    state = {}
    for name, tensor in tensors.items():
        state[name] = tensor.detach().cpu().contiguous()  # safetensors refuses views into other tensors
    save_file(state, file, {_DESCRIPTION: json.dumps(document, sort_keys=True)})


def load_model(place: Path) -> tuple[Generator, ModelSpec]:
    """Build and load what `save_model` or `save_model_file` wrote; on the CPU, in eval mode.

    Args:
        place: The folder, or the weights file alone.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the installed components; one of them is not
            installed; or a weight is not finite.
    """
    document = _read_document(place)
    spec = _spec(place, document)
    with unfilled():  # initial and pretrained weights would only be overwritten
        generator = build_generator(spec, probe=False)
    versions = _versions(document)
    state = read_state(place)
    file = weights_file(place)
    for name, tensor in generator.state_dict(keep_vars=True).items():
        # Assigned as they are, below, so that another type would fail in some layer, which would be blamed for it.
        if name in state and state[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{file}: {name} is stored as {state[name].dtype}, where the model has {tensor.dtype}; use a file that "
                f"neuropbr wrote"
            )
    try:
        # Assigned and not copied: the parameters are on `meta` and have no memory to copy into.
        generator.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())  # torch gives each name a line of its own
        raise CheckpointError(f"{file}: does not fit the model that {SPEC} describes; {versions}. {reason}") from error
    # A buffer that is not persistent is in no state dict, so it is looked for by itself; it would compute with garbage.
    tensors = [*generator.state_dict(keep_vars=True).items(), *generator.named_buffers()]
    missing = [name for name, tensor in tensors if tensor.is_meta]
    if missing:
        raise CheckpointError(f"{file}: holds no values for {', '.join(dict.fromkeys(missing))}; {versions}")
    # Before the parts are run, which would be blamed for weights that are not finite.
    parameters = dict(generator.named_parameters())
    for name, tensor in state.items():
        # A sum takes a twentieth of the time of the look at each value, and is finite only when they all are.
        if tensor.sum().isfinite():
            continue
        # A buffer may hold infinity on purpose, as masks of attention do.
        if tensor.isnan().any() or (name in parameters and tensor.isinf().any()):
            raise CheckpointError(
                f"{file}: {name} holds values that are not finite, as after a training that diverged; use an earlier "
                f"checkpoint"
            )
    # With the weights: running on `meta` loads PyTorch's compiler, which takes a third of the start of `infer`.
    probe_parts(generator, spec)
    return generator.eval(), spec


def read_spec(place: Path) -> ModelSpec:
    """Read what `save_model` wrote of the architecture; the weights are not touched.

    Args:
        place: The folder, or the weights file alone.

    Raises:
        CheckpointError: The file is missing, damaged, or does not fit the installed components; or one of them is not
            installed.
    """
    return _spec(place, _read_document(place))


def read_state(place: Path) -> dict[str, Tensor]:
    """Read the weights alone.

    Args:
        place: The folder, or the weights file alone.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    file = weights_file(place)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); use another checkpoint") from error


def weights_file(place: Path) -> Path:
    """The weights file of a model: the one in a folder, or the file that is named itself."""
    if place.is_file():
        return place
    return place / WEIGHTS


def weights_digest(place: Path) -> str:
    """SHA-256 of a model's weights file, in hexadecimal: tells whether two models are the same.

    Raises:
        CheckpointError: The file is missing.
    """
    file = weights_file(place)
    try:
        with open_bytes(file) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); is this a checkpoint folder?") from error


class _Component(msgspec.Struct):
    kind: str
    name: str
    distribution: str
    version: str
    entry_point: str = ""


class _Document(msgspec.Struct):
    format: int
    model: dict[str, Any]
    components: tuple[_Component, ...]


def _read_document(place: Path) -> _Document:
    if place.is_file():
        document = _read_description(place)
    else:
        document = read_json(place / SPEC, _Document, CheckpointError, "is this a checkpoint folder?")
    if document.format != FORMAT:
        raise CheckpointError(f"{place}: format {document.format}; this version of neuropbr reads {FORMAT}")
    return document


def _read_description(file: Path) -> _Document:
    """The description in a weights file, or beside it where the file has none."""
    try:
        with safe_open(file, framework="pt") as tensors:
            text = (tensors.metadata() or {}).get(_DESCRIPTION)
        if text is not None:
            return parse_json(text, _Document)
    except (OSError, SafetensorError, DocumentError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); is this a checkpoint or a model's file?") from error
    # Weights of an earlier version have their description beside them only.
    return read_json(file.parent / SPEC, _Document, CheckpointError, "is this a checkpoint or a model's file?")


def _spec(place: Path, document: _Document) -> ModelSpec:
    try:
        return ModelSpec.from_dict(document.model)
    except DocumentError as error:
        raise CheckpointError(f"{place}: model: {error}; {_versions(document)}") from error
    except PluginError as error:
        # For a machine that lacks one of the distributions that the model needs.
        needed = []
        for written in document.components:
            needed.append(f"{written.kind}/{written.name} of {shortened(written.distribution, 80)} {written.version}")
        raise CheckpointError(
            f"{place}: {error}. The model was made with {' and '.join(needed)}; install the missing one. Models that "
            f"were exported from it work without (`neuropbr infer --model FILE`)"
        ) from error


def _versions(document: _Document) -> str:
    """The components that have another version now than when the weights were written, in words."""
    changed = []
    for written in document.components:
        try:
            entry = default_registry().find(written.kind, f"{written.distribution}:{written.name}")
        except PluginError as error:
            changed.append(str(error))
            continue
        # Another version is allowed, and only named when something does not fit: most updates change nothing here.
        if entry.version != written.version:
            changed.append(f"{entry.qualified} was {written.version} and is {entry.version} now")
    return "; ".join(changed) or "its components have the versions it was written with"
