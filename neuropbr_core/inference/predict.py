"""Loads a trained generator and applies it to views of any size, prepared as in training."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.exporting import Signature, prepare_inputs
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.model import Generator, ModelSpec, load_model
from neuropbr_core.training.checkpoints.store import find_checkpoint


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator, ready to use.

    Attributes:
        generator: In eval mode.
        spec: What it was trained for.
        checkpoint: Where it came from.
    """

    generator: Generator
    spec: ModelSpec
    checkpoint: Path

    def to(self, device: torch.device) -> "LoadedGenerator":
        """Move the weights to a device."""
        self.generator.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.generator.mean.device

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return Signature.of(self.spec)

    @property
    def needs_cameras(self) -> bool:
        """Whether it was trained on aligned views, and so must know where each view was taken from."""
        return self.signature.aligned

    def prepare(self, views: ViewSet) -> dict[str, Tensor]:
        """Make the generator's inputs of views, as in training.

        Args:
            views: Any number of views; resized, or warped into the texture frame.

        Returns:
            Inputs by name; `views` are `(1, V, 3, S, S)`, sRGB-encoded in [0, 1], S being the spec's image size.

        Raises:
            DataError: The model needs cameras and the views have none.
        """
        return prepare_inputs(views.photos, self.signature, self.device, where=str(views.folder))

    @torch.no_grad()
    def apply(self, inputs: dict[str, Tensor]) -> Maps:
        """Predict maps `(1, channels, S, S)`, on the CPU, from what `prepare` made; S is the spec's output size."""
        return {name: value.cpu() for name, value in self.generator(**inputs).maps.items()}

    def predict(self, views: ViewSet) -> Maps:
        """Predict the maps of one material: `apply` on what `prepare` makes of its views."""
        return self.apply(self.prepare(views))


def load_generator(run: str | Path, checkpoint: str = "best") -> LoadedGenerator:
    """Load a trained generator.

    Args:
        run: A run's folder, or one checkpoint's folder.
        checkpoint: Of a run: `best`, `latest`, or a checkpoint's name such as `epoch_0010`.

    Returns:
        The generator on the CPU, in eval mode.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
        PluginError: A component of it is not installed.
    """
    folder = find_checkpoint(Path(run), checkpoint)
    generator, spec = load_model(folder)
    return LoadedGenerator(generator, spec, folder)
