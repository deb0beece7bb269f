"""Start weights of a network of timm: ImageNet's, or a local file's."""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neuropbr_core.errors import ModelError
from neuropbr_encoders.pretrainable import PretrainableOptions

_COUNTER = "num_batches_tracked"
_SHOWN = 3


@dataclass(frozen=True)
class Network:
    """A network of timm, and what its weights are called.

    Attributes:
        encoder: The encoder's name, for errors.
        name: The network's name in timm.
        stem: Its first convolution.
        classifier: How the names of weights begin that a feature pyramid has no use for.
    """

    encoder: str
    name: str
    stem: str
    classifier: tuple[str, ...]

    def error(self, message: str) -> ModelError:
        """An error that names the encoder."""
        return ModelError(f"encoder {self.encoder}: {message}")


def load_start_weights(body: nn.Module, network: Network, options: PretrainableOptions) -> None:
    """Fill a network with the weights that its options ask for; leave it as it is when they ask for none.

    Args:
        body: The network without classifier.
        network: Which it is.
        options: `weights` comes before `pretrained`.

    Raises:
        ModelError: The download failed, the file is missing or damaged, or the weights are of another network.
    """
    if options.weights is not None:
        fill(body, network, read(Path(options.weights), network), f"weights file {options.weights}")
    elif options.pretrained:
        fill(body, network, download(network), "ImageNet weights")


def download(network: Network) -> Mapping[str, Tensor]:
    """Fetch ImageNet weights through timm, from its cache where they are in it.

    Raises:
        ModelError: They are not cached and cannot be downloaded.
    """
    try:
        model: nn.Module = timm.create_model(network.name, features_only=True, pretrained=True)
    except Exception as error:  # timm, its hub client and their HTTP clients each have their own errors
        raise network.error(
            f"ImageNet weights of {network.name} could not be downloaded ({type(error).__name__}: {error}). "
            f"Give `weights: FILE` (.safetensors or a PyTorch state dict of {network.name}), or set "
            f"`pretrained: false`."
        ) from error
    return model.state_dict()


def read(path: Path, network: Network) -> Mapping[str, Tensor]:
    """Read a state dict; nothing in the file is executed.

    Args:
        path: A `.safetensors` file, or one written by `torch.save` that holds a state dict, bare or under
            `state_dict` or `model`.
        network: Which network it is for.

    Raises:
        ModelError: The file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise network.error(f"weights file {path} does not exist (looked in {Path.cwd()})")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise network.error(
            f"weights file {path} cannot be read ({type(error).__name__}): it is damaged, or neither "
            f".safetensors nor a PyTorch state dict that holds tensors only"
        ) from error
    state = _state_dict(content)
    if state is None:
        raise network.error(f"weights file {path} holds no state dict (tensors by parameter name)")
    return state


def _unpickle(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _state_dict(content: object) -> Mapping[str, Tensor] | None:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    return content


def fill(body: nn.Module, network: Network, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a network.

    A classifier is left out, missing batch counters are forgiven, and a stem for fewer channels than the network's
    gets zeros for the rest. Everything else must fit.

    Args:
        body: The network without classifier.
        network: Which it is.
        state: Weights under timm's names.
        source: What to call them in an error.

    Raises:
        ModelError: Names or shapes differ; the network is unchanged.
    """
    own = body.state_dict()
    given = {name: value for name, value in state.items() if not name.startswith(network.classifier)}
    stem = f"{network.stem}.weight"
    if stem in given:
        given[stem] = _widen(given[stem], own[stem].shape[1])
    faults = _differences(own, given)
    if faults:
        raise network.error(f"{source} do not fit {network.name}: {'; '.join(faults)}")
    body.load_state_dict(given, strict=False)


def _widen(stem: Tensor, in_channels: int) -> Tensor:
    """Append input channels of zero weight up to `in_channels`."""
    missing = in_channels - stem.shape[1]
    if missing <= 0:
        return stem
    return torch.cat((stem, stem.new_zeros(stem.shape[0], missing, *stem.shape[2:])), dim=1)


def _differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in own if name not in given and not name.endswith(_COUNTER)]
    unknown = [name for name in given if name not in own]
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    named = {"missing": missing, "unknown": unknown, "of another shape": reshaped}
    return [f"{len(names)} {fault} ({_some(names)})" for fault, names in named.items() if names]


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:_SHOWN]) + (", …" if len(first) > _SHOWN else "")
