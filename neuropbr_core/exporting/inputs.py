"""From the views of one material to the tensors that a model takes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.prepare import align
from neuropbr_core.data.images.fit import Stored, fit_photo
from neuropbr_core.errors import DataError
from neuropbr_core.exporting.signature import Signature
from neuropbr_core.materials.alignment import identity_frame

_EPS = 1e-6


class PhotoSet(NamedTuple):
    """The views of one material, and where they were taken from.

    Attributes:
        images: sRGB-encoded in [0, 1], each `(3, h, w)` at its own size.
        homographies: `(V, 3, 3)`, texture -> view in [0, 1]² coordinates; None when unknown.
        positions: Cameras `(V, 3)` in tile sides; None when unknown.
    """

    images: Sequence[Tensor]
    homographies: Tensor | None = None
    positions: Tensor | None = None

    def repeated(self, views: int) -> "PhotoSet":
        """The first `views` views, begun again from the first when there are fewer."""
        order = [index % len(self.images) for index in range(views)]
        cameras = (None if values is None else values[order] for values in (self.homographies, self.positions))
        return PhotoSet([self.images[index] for index in order], *cameras)


def prepare_inputs(
    photos: PhotoSet, signature: Signature, device: torch.device | str = "cpu", *, where: str = "the views"
) -> dict[str, Tensor]:
    """Bring views to the model's size and, when it was trained so, into the texture frame, as in training.

    A model with nominal geometry takes everything for visible: what a view does not see is filled with the mean of the
    views that do.

    Args:
        photos: Any number of views.
        signature: The model's.
        device: Where to.
        where: The views' folder, for messages.

    Returns:
        The signature's inputs by name, in call order, with a batch of one.

    Raises:
        DataError: The model needs cameras and the views have none.
    """
    homographies = None
    positions = None
    if signature.aligned:
        if photos.homographies is None or photos.positions is None:
            raise DataError(
                f"{where}: this model was trained on aligned views and needs to know where each view was taken from; "
                f"put a cameras.json into the folder, give one with --cameras, or call register_views"
            )
        homographies = photos.homographies[None].float()
        positions = photos.positions[None].float()
    # Training reads photos as 8-bit images of this size, and what it loses by that has to be lost here too.
    fitted = []
    for image in photos.images:
        fitted.append(torch.from_numpy(fit_photo(_stored(image), signature.photo_size)))
    batch = Batch(
        ids=[where],
        materials=[where],
        views=torch.stack(fitted)[None],
        targets={},
        crop_to_texture=identity_frame(1),
        homographies=homographies,
        positions=positions,
    )
    _, inputs = align(batch, signature.image_size, device)
    if signature.geometry == "nominal":
        return {"views": _filled(inputs.views, inputs.visible)}
    prepared: dict[str, Tensor] = inputs._asdict()
    return {name: prepared[name] for name in signature.inputs}


def random_inputs(signature: Signature, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of the shapes that a model takes.

    Args:
        signature: The model's.
        seed: Seed of the values.

    Returns:
        By name, in call order: `views` in [0, 1]; `visible`, partly zero; unit `directions`.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (1, signature.views, 3, signature.image_size, signature.image_size)
    views = torch.rand(shape, generator=random)
    visible = (torch.rand(shape, generator=random)[:, :, :1] > 0.1).float()
    towards = torch.randn(shape, generator=random) + torch.tensor([0, 0, 4.0]).view(3, 1, 1)
    if "visible" in signature.inputs:
        views = views * visible
    every = {"views": views, "visible": visible, "directions": F.normalize(towards, dim=2)}
    return {name: every[name] for name in signature.inputs}


def _stored(image: Tensor) -> Stored:
    """An image in [0, 1] as 8-bit pixels; exact for one that was read from an 8-bit file."""
    pixels: Stored = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return pixels


def _filled(views: Tensor, visible: Tensor) -> Tensor:
    mean = (views * visible).sum(dim=1, keepdim=True) / visible.sum(dim=1, keepdim=True).clamp_min(_EPS)
    return torch.where(visible > 0, views, mean)
