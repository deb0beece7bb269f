"""A generator on disk: `model.safetensors` and `model.json`, nothing pickled."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuropbr_core.errors import CheckpointError, PluginError
from neuropbr_core.files import usual_mode, write_json
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec, build_generator, unfilled
from neuropbr_core.reading import DocumentError, read_json, shortened
from neuropbr_core.registry.catalog import default_registry

WEIGHTS = "model.safetensors"
SPEC = "model.json"
FORMAT = 3  # counted up when the same weights would give other maps, or the document reads differently


def save_model(generator: Generator | Mapping[str, Tensor], spec: ModelSpec, folder: Path) -> None:
    """Write the weights and what is needed to build the generator again into `folder`.

    Args:
        generator: The generator, or its state.
        spec: What builds it.
        folder: Where to.
    """
    # With FSDP the state comes from all processes, and the generator itself holds a share of it.
    if isinstance(generator, Mapping):
        tensors = generator
    else:
        tensors = generator.state_dict()
    state = {}
    for name, tensor in tensors.items():
        state[name] = tensor.detach().cpu().contiguous()  # safetensors refuses views into other tensors
    # safetensors creates files that only their owner can read.
    with usual_mode(folder / WEIGHTS):
        save_file(state, folder / WEIGHTS)
    components = [spec.encoder.provenance, spec.fusion.provenance]
    document = {"format": FORMAT, "model": spec.to_dict(), "components": components}
    write_json(folder / SPEC, document)


def load_model(folder: Path) -> tuple[Generator, ModelSpec]:
    """Build and load what `save_model` wrote; on the CPU, in eval mode.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the installed components; or one of them is not
            installed.
    """
    document = _read_document(folder / SPEC)
    spec = _spec(folder, document)
    with unfilled():  # initial and pretrained weights would only be overwritten
        generator = build_generator(spec)
    _load_weights(generator, folder / WEIGHTS, _versions(document))
    return generator.eval(), spec


def read_spec(folder: Path) -> ModelSpec:
    """Read what `save_model` wrote of the architecture; the weights are not touched.

    Raises:
        CheckpointError: The file is missing, damaged, or does not fit the installed components; or one of them is not
            installed.
    """
    return _spec(folder, _read_document(folder / SPEC))


def read_state(folder: Path) -> dict[str, Tensor]:
    """Read the weights alone.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: cannot be read ({error}); use another checkpoint") from error


def weights_digest(folder: Path) -> str:
    """SHA-256 of a checkpoint's weights, in hexadecimal: tells whether two models are the same.

    Raises:
        CheckpointError: The file is missing.
    """
    try:
        with (folder / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: cannot be read ({error}); is this a checkpoint folder?") from error


def _load_weights(generator: Generator, file: Path, versions: str) -> None:
    state = read_state(file.parent)
    try:
        # Assigned and not copied: the parameters are on `meta` and have no memory to copy into.
        generator.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: does not fit the model that {SPEC} describes; {versions}. {error}") from error
    # A buffer that is not persistent is in no state dict, so it is looked for by itself; it would compute with garbage.
    tensors = [*generator.state_dict(keep_vars=True).items(), *generator.named_buffers()]
    missing = [name for name, tensor in tensors if tensor.is_meta]
    if missing:
        raise CheckpointError(f"{file}: holds no values for {', '.join(dict.fromkeys(missing))}; {versions}")


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


def _read_document(file: Path) -> _Document:
    document = read_json(file, _Document, CheckpointError, "is this a checkpoint folder?")
    if document.format != FORMAT:
        raise CheckpointError(f"{file}: format {document.format}; this version of neuropbr reads {FORMAT}")
    return document


def _spec(folder: Path, document: _Document) -> ModelSpec:
    try:
        return ModelSpec.from_dict(document.model)
    except DocumentError as error:
        raise CheckpointError(f"{folder / SPEC}: model: {error}; {_versions(document)}") from error
    except PluginError as error:
        raise CheckpointError(f"{folder / SPEC}: {error}. {_needed(document)}") from error


def _needed(document: _Document) -> str:
    """Which distributions a model needs, for a machine that lacks one of them."""
    needed = []
    for written in document.components:
        needed.append(f"{written.kind}/{written.name} of {shortened(written.distribution, 80)} {written.version}")
    return (
        f"The model was made with {' and '.join(needed)}; install the missing one. Models that were exported from it "
        f"work without (`neuropbr infer --model FILE`)"
    )


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
