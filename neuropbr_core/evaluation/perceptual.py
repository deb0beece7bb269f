"""LPIPS: how different two pictures look, by the features of a network that was trained on photographs.

The small linear layers of LPIPS come with torchmetrics. The weights of the AlexNet below them are 244 MB and do not:
they are read from a file of the user's, and nothing is ever downloaded here.

Source: R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018; version 0.1.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuropbr_core.errors import DataError
from neuropbr_core.reading import open_bytes

ALEXNET = "alexnet-owt-7be5be79.pth"
"""torchvision's AlexNet for ImageNet; the digits are the first of its SHA-256."""
_DIGITS = "7be5be79"
_ADVICE = f"give torchvision's {ALEXNET}, which its `alexnet` models download"


@dataclass(frozen=True, eq=False)
class Lpips:
    """The distance, with its weights loaded.

    Attributes:
        network: Maps two batches in [-1, 1] to `(B, 1, 1, 1)`.
        digest: SHA-256 of the file of AlexNet's weights, in hexadecimal.
    """

    network: nn.Module
    digest: str

    @property
    def usual(self) -> bool:
        """Whether the weights are torchvision's, so that distances can be compared with published ones."""
        return self.digest.startswith(_DIGITS)

    @torch.no_grad()
    def __call__(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Compare sRGB-encoded pictures in [0, 1]; H and W >= 64.

        Returns:
            Distances, 0 for equal pictures.
        """
        # The network's own range is [-1, 1].
        distances: Tensor = self.network(2 * a - 1, 2 * b - 1)
        return distances.flatten()


def usual_place() -> Path | None:
    """The file of AlexNet's weights in the cache of PyTorch's hub; None where it is not there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET
    if file.is_file():
        return file
    return None


def load_lpips(file: Path) -> Lpips:
    """Load LPIPS with the weights of an AlexNet.

    Args:
        file: State of torchvision's `alexnet`, as PyTorch saves it. Other weights of that shape are taken too, and
            `Lpips.usual` tells them.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    from torchmetrics.functional.image.lpips import _LPIPS  # its public form would download the weights

    try:
        with open_bytes(file) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); {_ADVICE}") from error
    except Exception as error:  # damaged files make PyTorch's reader raise nearly anything, such as KeyError
        raise DataError(f"{file}: holds no weights that PyTorch reads; {_ADVICE}") from error
    with warnings.catch_warnings():
        # torchvision warns about the words in which torchmetrics asks for a network without weights.
        warnings.simplefilter("ignore")
        network = _LPIPS(pretrained=True, net="alex", pnet_rand=True)
    # torchmetrics divides the layers among slices and keeps their numbers: `features.3` is `slice2.3`.
    features = {}
    for name in network.net.state_dict():
        _, _, layer = name.partition(".")
        features[name] = f"features.{layer}"
    if not isinstance(state, dict) or not set(features.values()) <= state.keys():
        raise DataError(f"{file}: holds no state of an AlexNet (features.0.weight and others); {_ADVICE}")
    try:
        network.net.load_state_dict({name: state[key] for name, key in features.items()})
    except (RuntimeError, TypeError) as error:
        raise DataError(f"{file}: its layers have other sizes than those of AlexNet; {_ADVICE}") from error
    return Lpips(network.eval(), digest)
