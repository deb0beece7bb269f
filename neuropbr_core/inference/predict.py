"""Loads a trained generator and applies it to views of any size, prepared as in training."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import CheckpointError, DataError
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.materials.alignment import identity_frame, taps_needed, view_directions, warp_views
from neuropbr_core.model import Generator, ModelSpec, load_model
from neuropbr_core.registry import Registry
from neuropbr_core.training.checkpoints import CheckpointStore


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
    def needs_cameras(self) -> bool:
        """Whether it was trained on aligned views, and so must know where each view was taken from."""
        return self.spec.alignment != "none"

    @torch.no_grad()
    def predict(self, views: ViewSet) -> Maps:
        """Predict the maps of one material.

        Args:
            views: Any number of views; resized, or warped into the texture frame, as in training.

        Returns:
            Maps `(1, channels, S, S)` on the CPU, S being the spec's output size.

        Raises:
            DataError: The model needs cameras and the views have none.
        """
        aligned, visible, directions = self._prepare(views)
        maps = self.generator(aligned, visible, directions).maps
        return {name: value.cpu() for name, value in maps.items()}

    def _prepare(self, views: ViewSet) -> tuple[Tensor, Tensor | None, Tensor | None]:
        size, device = self.spec.image_size, self.device
        if not self.needs_cameras:
            resized = [_resize(image, size) for image in views.images]
            return torch.stack(resized)[None].to(device), None, None
        if views.homographies is None or views.positions is None:
            raise DataError(
                f"{views.paths[0].parent}: this model was trained on aligned views and needs to know where each view "
                f"was taken from; put a cameras.json into the folder, give one with --cameras, or call register_views"
            )
        frame = identity_frame(1).to(device)
        warped = [
            _warp(image, homography[None, None], size, device)
            for image, homography in zip(views.images, views.homographies, strict=True)
        ]
        aligned, visible = (torch.cat(parts, dim=1) for parts in zip(*warped, strict=True))
        return aligned, visible, view_directions(views.positions[None].to(device), frame, size)


def _warp(image: Tensor, homography: Tensor, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bring one photo `(3, h, w)` of any size into the texture frame."""
    frame = identity_frame(1)
    height, width = image.shape[-2:]
    taps = taps_needed(homography, frame, (height, width), size)
    return warp_views(image[None, None].to(device), homography.to(device), frame.to(device), size, taps)


def load_generator(run: str | Path, checkpoint: str = "best", registry: Registry | None = None) -> LoadedGenerator:
    """Load a trained generator.

    Args:
        run: A run's folder, or one checkpoint's folder.
        checkpoint: Of a run: `best`, `latest`, or a checkpoint's name such as `epoch_0010`.
        registry: Where its components come from; default: what is installed.

    Returns:
        The generator on the CPU, in eval mode.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
        PluginError: A component of it is not installed.
    """
    folder = find_checkpoint(Path(run), checkpoint)
    generator, spec = load_model(folder, registry)
    return LoadedGenerator(generator, spec, folder)


def find_checkpoint(run: Path, checkpoint: str = "best") -> Path:
    """Folder of a checkpoint, verified.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    if (run / "model.json").is_file():
        return run
    store = CheckpointStore(run / "checkpoints")
    if not store.names():
        raise CheckpointError(f"{run}: is no run with a checkpoint; name a folder below runs/ or a checkpoint's folder")
    return store.open(checkpoint)


def _resize(image: Tensor, size: int) -> Tensor:
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image[None], size=(size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)
