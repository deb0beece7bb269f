"""Builds a generator from the components that its spec names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuropbr_core.contracts import Encoder
from neuropbr_core.errors import PluginBroken
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec


def build_generator(spec: ModelSpec) -> Generator:
    """Create the encoder and the fusion block and join them.

    The encoder is run once on a small blank image, so that one whose declared channels or strides are not true is
    refused here, by name, and not later by a shape error inside the decoder.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    encoder = spec.encoder.create(in_channels=spec.in_channels)
    probe_encoder(encoder, spec.in_channels, spec.encoder.use)
    fusion = spec.fusion.create(in_channels=encoder.channels[-1])
    return Generator(encoder, fusion, spec.section)


def probe_encoder(encoder: Encoder, in_channels: int, use: str) -> None:
    """Check that an encoder returns what it declares.

    Raises:
        PluginBroken: It does not; the message has what it declares and what it returned.
    """
    side = 2 * encoder.strides[-1]  # two pixels at the coarsest level, so that every stride can be told
    device = next((parameter.device for parameter in encoder.parameters()), torch.device("cpu"))
    was_training = encoder.training  # in training, a blank image would move the running statistics
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, in_channels, side, side, device=device))
    encoder.train(was_training)
    returned = [(feature.shape[1], side // feature.shape[-1]) for feature in features]
    declared = list(zip(encoder.channels, encoder.strides, strict=True))
    if returned != declared:
        raise PluginBroken(
            f"encoder {use}: declares (channels, stride) {declared} but returned {returned} for a {side}×{side} image; "
            f"report this to the authors of its package"
        )


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules built here are on the `meta` device: shapes without memory, and no random numbers are drawn for them."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the filling of tensors with random numbers; on `meta` it costs seconds of imports for nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is instead of filling it; call everything else."""
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **kwargs or {})


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())
