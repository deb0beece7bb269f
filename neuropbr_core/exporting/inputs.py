"""What a model takes: a signature of sizes and inputs, and the views of one material prepared for it.

`prepare_inputs` turns the views of one material into the inputs that a model's `Signature` names. Runs, exported files
and verification prepare views here, so that no two of them can differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.prepare import Inputs, align
from neuropbr_core.data.images import fit_photo
from neuropbr_core.errors import DataError
from neuropbr_core.materials.alignment import identity_frame

# A signature outlives the model: views are prepared for a file whose components need not be here.
if TYPE_CHECKING:
    from neuropbr_core.model.spec import ModelSpec

# A file of a stranger could ask for more memory than there is. Exports may be larger than what `data` allows.
Side = Annotated[int, msgspec.Meta(ge=1, le=65536)]

_WHOLLY = 0.99  # coverage of a pixel that counts as whole; interpolation rounds
_EPS = 1e-6  # a pixel that no view sees has no mean: it stays 0 instead of becoming NaN


@dataclass(frozen=True)
class Signature:
    """Sizes and inputs of a model. They are all that is needed to prepare views for it, without its run.

    Attributes:
        views: Views of a sample.
        image_size: Side of the input in pixels.
        photo_size: Side to which photos are fitted before they are aligned, in pixels; that of the input without
            alignment.
        output_size: Side of the maps in pixels.
        alignment: `none`, `recorded` or `estimated`: whether views must be warped into the texture frame.
        directed: Whether the model reads directions to the camera.
        geometry: `nominal` when visibility and directions are built in, so that views are the only input.
        super_resolution: `bypass` when the decoder's upscaling was left out.
        flash: Whether it was trained on photos lit by a flash at the lens; None when its recipe does not tell.
    """

    views: Annotated[int, msgspec.Meta(ge=1, le=64)]
    image_size: Side
    photo_size: Side
    output_size: Side
    alignment: Literal["none", "recorded", "estimated"]
    directed: bool
    geometry: Literal["inputs", "nominal"] = "inputs"
    super_resolution: Literal["keep", "bypass"] = "keep"
    flash: bool | None = None

    @classmethod
    def of(cls, spec: "ModelSpec") -> "Signature":
        """The signature of a model as it was trained."""
        return cls(
            views=spec.views,
            image_size=spec.image_size,
            photo_size=spec.photo_size,
            output_size=spec.output_size,
            alignment=spec.alignment,
            directed=spec.section.directed,
            flash=spec.flash,
        )

    @classmethod
    def read(cls, text: str) -> "Signature":
        """Read what `text` wrote.

        Raises:
            msgspec.DecodeError: The text is not a signature.
        """
        return msgspec.json.decode(text, type=cls)

    def text(self) -> str:
        """The signature as JSON, for metadata."""
        return msgspec.json.encode(self).decode()

    @property
    def aligned(self) -> bool:
        """Whether views must be warped into the texture frame."""
        return self.alignment != "none"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in call order."""
        names = ["views"]
        # An exported file declares what its model reads, and no more: nominal geometry has the rest built in.
        if self.geometry == "inputs" and self.aligned:
            names.append("visible")
        if self.geometry == "inputs" and self.directed:
            names.append("directions")
        return tuple(names)


class PhotoSet(NamedTuple):
    """The views of one material, and where they were taken from.

    Attributes:
        images: sRGB-encoded uint8, each `(3, h, w)` at its own size.
        homographies: `(V, 3, 3)`, texture -> view in [0, 1]² coordinates; None when unknown.
        positions: Cameras `(V, 3)` in tile sides; None when unknown.
        masks: For each image, bool `(h, w)`, True where it shows the material; None where it does everywhere.
    """

    images: Sequence[Tensor]
    homographies: Tensor | None = None
    positions: Tensor | None = None
    masks: Sequence[Tensor | None] = ()

    def repeated(self, views: int) -> "PhotoSet":
        """Exactly `views` views: the first ones, or all of them in turn when there are fewer."""
        # The remainder starts again with the first view when all have been used.
        order = [index % len(self.images) for index in range(views)]
        homographies = None
        if self.homographies is not None:
            homographies = self.homographies[order]
        positions = None
        if self.positions is not None:
            positions = self.positions[order]
        masks: list[Tensor | None] = []
        if self.masks:
            masks = [self.masks[index] for index in order]
        return PhotoSet([self.images[index] for index in order], homographies, positions, masks)


def prepare_inputs(
    photos: PhotoSet, signature: Signature, device: torch.device | str = "cpu", *, where: str = "the views"
) -> dict[str, Tensor]:
    """Prepare views as in training: fit them to the model's size, and align them if the model was trained on that.

    A model that cannot be told what a view does not see (one with nominal geometry, or one of unaligned views whose
    photos have masks) finds the mean of the views that see a pixel there.

    Args:
        photos: Any number of views.
        signature: The model's signature.
        device: The device of the result.
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
    fitted = []
    for image in photos.images:
        fitted.append(torch.from_numpy(fit_photo(image.cpu().numpy(), signature.photo_size)))
    # The same function aligns the batches of training. A batch of one without targets goes through it here.
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
    masked = any(mask is not None for mask in photos.masks)
    if masked:
        # Masks take the way of the photos, so that they cover what the photos' pixels became.
        masks = torch.stack([_mask_picture(photos, view, signature.photo_size) for view in range(len(fitted))])
        _, of_masks = align(replace(batch, views=masks[None]), signature.image_size, device)
        shown = (of_masks.views[:, :, :1] >= _WHOLLY).float()
        inputs = inputs._replace(views=inputs.views * shown, visible=inputs.visible * shown)
    return named_inputs(inputs, signature, masked=masked)


def named_inputs(inputs: Inputs, signature: Signature, *, masked: bool = False) -> dict[str, Tensor]:
    """Name aligned views, and what belongs to them, as a model takes them.

    Args:
        inputs: Views in the texture frame.
        signature: The model's signature.
        masked: Whether photos have masks, so that there may be pixels that no view sees.

    Returns:
        The signature's inputs by name, in call order.
    """
    if signature.geometry == "nominal" or (masked and not signature.aligned):
        weight = inputs.visible.sum(dim=1, keepdim=True).clamp_min(_EPS)
        mean = (inputs.views * inputs.visible).sum(dim=1, keepdim=True) / weight
        if masked:
            # No photo shows this pixel: the mean of all that is shown changes the maps least elsewhere.
            unseen = inputs.visible.amax(dim=1, keepdim=True) == 0
            whole = inputs.visible.sum().clamp_min(_EPS)
            overall = (inputs.views * inputs.visible).sum(dim=(1, 3, 4), keepdim=True) / whole
            mean = torch.where(unseen, overall, mean)
        return {"views": torch.where(inputs.visible > 0, inputs.views, mean)}
    prepared: dict[str, Tensor] = inputs._asdict()
    return {name: prepared[name] for name in signature.inputs}


def _mask_picture(photos: PhotoSet, view: int, size: int) -> Tensor:
    """A view's mask as a white picture `(3, size, size)`, black where the view shows something else."""
    mask = photos.masks[view]
    if mask is None:
        return torch.full((3, size, size), 255, dtype=torch.uint8)
    picture = mask.to(torch.uint8).mul(255).expand(3, -1, -1).contiguous()
    return torch.from_numpy(fit_photo(picture.cpu().numpy(), size))


def random_inputs(signature: Signature, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of the shapes that a model takes.

    Args:
        signature: The model's signature.
        seed: Seed of the values.

    Returns:
        By name, in call order: `views` in [0, 1]; `visible`, partly zero; unit `directions`.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (1, signature.views, 3, signature.image_size, signature.image_size)
    views = torch.rand(shape, generator=random)
    visible = (torch.rand(shape, generator=random)[:, :, :1] > 0.1).float()
    # Cameras are above the surface, so the directions are spread about the normal (0, 0, 1).
    towards = torch.randn(shape, generator=random) + torch.tensor([0, 0, 4.0]).view(3, 1, 1)
    if "visible" in signature.inputs:
        views = views * visible  # alignment leaves 0 where a view does not see the texture
    every = {"views": views, "visible": visible, "directions": F.normalize(towards, dim=2)}
    # All are drawn whatever the model takes, so that a seed gives aligned and unaligned models the same views.
    return {name: every[name] for name in signature.inputs}
