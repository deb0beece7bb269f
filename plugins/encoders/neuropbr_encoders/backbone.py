"""A network of timm as an encoder: its stem stride, its start weights, and the parts of it that stay frozen.

Start weights are the ImageNet weights that timm offers, or those of a local file.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT as HUB
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neuropbr_core.borders import BorderConv2d
from neuropbr_core.contracts import Encoder
from neuropbr_core.errors import ModelError
from neuropbr_encoders.pretrainable import PretrainableOptions

_COUNTER = "num_batches_tracked"
"""Name of a batch norm's counter, which inference does not read and some weights files therefore lack."""

_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names that the hub gives to files of weights."""

_SECONDS = 5.0
"""How long `pretrained: auto` waits for a connection."""

_SHOWN = 3
"""Names that an error lists of each kind; a weights file of another network has hundreds of wrong ones."""


@dataclass(frozen=True)
class Network:
    """A network of timm, and the names of its weights.

    Attributes:
        encoder: The encoder's name, for errors.
        name: The network's name in timm.
        stem: Name of its first convolution.
        classifier: Prefixes of the weights that belong to the classifier; a feature pyramid does not use them.
    """

    encoder: str
    name: str
    stem: str
    classifier: tuple[str, ...]

    def error(self, message: str) -> ModelError:
        """Make an error that names the encoder."""
        return ModelError(f"encoder {self.encoder}: {message}")


def load_start_weights(body: nn.Module, network: Network, options: PretrainableOptions) -> str | None:
    """Fill a network with the weights that its options name; without such an option the network keeps its own.

    Args:
        body: The network without classifier.
        network: Its description.
        options: The recipe's options; `weights` takes precedence over `pretrained`.

    Returns:
        Why `pretrained: auto` found no weights; None otherwise.

    Raises:
        ModelError: The download failed, the file is missing or damaged, or the weights belong to another network.
    """
    if options.weights is not None:
        fill(body, network, read(Path(options.weights), network), f"weights file {options.weights}")
    elif options.pretrained == "auto":
        try:
            if not is_cached(network):
                require_reachable()
            fill(body, network, download(network), "ImageNet weights")
        except (OSError, ModelError) as error:
            cause = error.__cause__ or error
            reason = f"{type(cause).__name__}: {cause}"
            return (
                f"encoder {network.encoder}: starts from random weights, because the ImageNet weights of "
                f"{network.name} cannot be had here ({reason}); `weights: FILE` reads local ones"
            )
    elif options.pretrained:
        fill(body, network, download(network), "ImageNet weights")
    return None


def is_cached(network: Network) -> bool:
    """Whether timm has the ImageNet weights of a network from an earlier download."""
    settings = timm.get_pretrained_cfg(network.name)
    if settings is None or settings.hf_hub_id is None:
        return False
    return any(isinstance(try_to_load_from_cache(settings.hf_hub_id, file), str) for file in _FILES)


def require_reachable() -> None:
    """Fail at once where nothing can be downloaded: the hub's client would try for a minute.

    Raises:
        OSError: There is no connection to the hub.
    """
    # A proxy makes the connection instead, and a mirror in a folder needs none.
    address = urlsplit(HUB)
    if getproxies().get(address.scheme) or address.hostname is None:
        return
    port = address.port or {"http": 80, "https": 443}[address.scheme]
    with create_connection((address.hostname, port), timeout=_SECONDS):
        pass


def download(network: Network) -> Mapping[str, Tensor]:
    """Download ImageNet weights through timm, which caches them.

    Args:
        network: The network.

    Returns:
        The weights under timm's names.

    Raises:
        ModelError: The weights are not cached and cannot be downloaded.
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
    """Read a state dict without executing anything that the file contains.

    Args:
        path: A `.safetensors` file, or a file that `torch.save` wrote with a state dict at its top level or under
            `state_dict` or `model`.
        network: The network that the weights are for.

    Returns:
        The tensors by their names in the file.

    Raises:
        ModelError: The file is missing or damaged, or does not hold a state dict.
    """
    if not path.is_file():
        raise network.error(f"weights file {path} does not exist (looked in {Path.cwd()})")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            # weights_only refuses pickles that would call functions: a downloaded file may be a program.
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise network.error(
            f"weights file {path} cannot be read ({type(error).__name__}): it is damaged, or neither "
            f".safetensors nor a PyTorch state dict that holds tensors only"
        ) from error
    # Training scripts often save the state dict beside an optimiser and an epoch, some of them two levels deep.
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise network.error(f"weights file {path} holds no state dict (tensors by parameter name)")
    return content


def fill(body: nn.Module, network: Network, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a network.

    The weights of a classifier are ignored, the counters of batch norms may be missing, and a stem for fewer channels
    than the network's gets zeros for the remaining ones. All other names and shapes must be equal.

    Args:
        body: The network without classifier.
        network: Its description.
        state: Weights under timm's names.
        source: What an error calls the weights.

    Raises:
        ModelError: Names or shapes differ; the network is unchanged.
    """
    own = body.state_dict()
    given = {name: value for name, value in state.items() if not name.startswith(network.classifier)}
    stem = f"{network.stem}.weight"
    if stem in given:
        kernel = given[stem]
        lacking = own[stem].shape[1] - kernel.shape[1]
        if lacking > 0:
            # Channels of zero weight leave the output as ImageNet's weights made it; training then moves them.
            zeros = kernel.new_zeros(kernel.shape[0], lacking, *kernel.shape[2:])
            given[stem] = torch.cat((kernel, zeros), dim=1)
    unknown = [name for name in given if name not in own]
    missing: list[str] = []
    reshaped: list[str] = []
    for name, value in own.items():
        if name in given:
            if given[name].shape != value.shape:
                reshaped.append(f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}")
        elif not name.endswith(_COUNTER):
            missing.append(name)
    differences: list[str] = []
    for fault, names in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped)):
        if names:
            shown = names[:_SHOWN]
            if len(names) > _SHOWN:
                shown.append("…")
            differences.append(f"{len(names)} {fault} ({', '.join(shown)})")
    if differences:
        raise network.error(f"{source} do not fit {network.name}: {'; '.join(differences)}")
    # Not strict, because counters may be missing; all other names and shapes were compared above.
    body.load_state_dict(given, strict=False)


_TIMM_STEM_STRIDE = 2
"""Stride of the first convolution in every network of timm that this package uses."""


class TimmEncoder(Encoder):
    """The stages of a convolutional network of timm; each stage is one level of the pyramid.

    `stem_stride: 1` changes the stride of the first convolution and nothing else. The convolution keeps the shape of
    its weights, so ImageNet weights still fit. The features then have strides 1, 2, 4, 8, 16, not 2, 4, 8, 16, 32.

    Args:
        network: The network of timm.
        options: The recipe's options.
        in_channels: Channels of the images. When the start weights are for three channels, the weights of all further
            channels start at zero, so the encoder begins with the features that ImageNet gave to plain images.

    Raises:
        ModelError: The start weights cannot be read or downloaded, or they do not fit the network.
    """

    def __init__(self, network: Network, options: PretrainableOptions, in_channels: int) -> None:
        super().__init__()
        body: Any = timm.create_model(network.name, features_only=True, pretrained=False, in_chans=in_channels)
        ready = body.get_submodule(network.stem)
        # The stem works at the finest resolution, where zeros beyond the frame would leave a mark around every map.
        stem = BorderConv2d(
            in_channels, ready.out_channels, ready.kernel_size[0], options.stem_stride, bias=ready.bias is not None
        )
        stem.load_state_dict(ready.state_dict(), assign=True)  # timm's own initial weights
        body.set_submodule(network.stem, stem)
        self.channels = tuple(body.feature_info.channels())
        # timm computes its reductions for its own stem stride; the change above scales all of them.
        reductions = body.feature_info.reduction()
        self.strides = tuple(reduction * options.stem_stride // _TIMM_STEM_STRIDE for reduction in reductions)
        # A module on the meta device has no memory for weights; callers build one only to read channels and strides.
        has_weights = options.weights is not None or bool(options.pretrained)
        if not stem.weight.is_meta:
            fault = load_start_weights(body, network, options)
            if fault is not None:
                has_weights = False
                self.notes = (fault,)
        self.is_frozen_at_random = options.freeze and not has_weights
        self.body = body
        self._frozen_norms = options.freeze or options.freeze_batch_norm
        if options.freeze:
            self.requires_grad_(False)
        if options.freeze_batch_norm:
            for norm in self._batch_norms():
                norm.requires_grad_(False)
        # A new module is in train mode already; the call puts frozen batch norms into eval mode.
        self.train()

    def _batch_norms(self) -> Iterator[nn.BatchNorm2d]:
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                yield module

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Switch between train and eval mode; frozen batch norms stay in eval mode.

        Args:
            mode: True for train mode.

        Returns:
            The encoder.
        """
        super().train(mode)
        if self._frozen_norms:
            # In train mode a batch norm updates its running statistics even when its parameters need no gradient.
            for norm in self._batch_norms():
                norm.eval()
        return self

    def forward(self, images: Float[Tensor, "N C H W"]) -> list[Float[Tensor, "N c h w"]]:
        """Encode images.

        Args:
            images: Normalised images; H and W are divisible by `strides[-1]`.

        Returns:
            The outputs of the network's stages, finest first; output i has `channels[i]` channels and the size
            (H / strides[i], W / strides[i]).
        """
        features: list[Tensor] = self.body(images)
        return features
