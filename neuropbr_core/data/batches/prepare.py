"""A batch on the device, as the network and the losses want it."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from neuropbr_core.contracts import Overview, Prediction
from neuropbr_core.data.batches.batch import Batch, VisitRecord
from neuropbr_core.data.batches.crops import apply_gains
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import identity_frame, taps_needed, view_directions, warp_views
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.model.decoder import activate
from neuropbr_core.recipe.sections import Data


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(VisitRecord):
    """A batch of aligned views and true maps, float32. H is the network's input side, S the maps' side.

    The fields of the batch are kept, except that pixels are replaced by their values: `overview_pixels`,
    `teacher_logits` and `visible_pixels` are None here.

    Attributes:
        views: Views in the crop's frame, sRGB-encoded in [0, 1]; 0 where a view does not see the crop.
        visible: 1 where the view sees the crop, else 0.
        directions: Unit vectors to camera and flash in the crop's tangent space; None without cameras.
        targets: The true maps in the ranges of `neuropbr_core.maps`.
        valid: 1 where at least one view sees the crop, else 0.
        overview: The whole frame in few pixels, where the dataset gives it beside crops.
        teacher: A teacher's prediction of the crop at the maps' size; None without one.
    """

    views: Float[Tensor, "B V 3 H H"]
    targets: dict[str, Tensor]
    visible: Float[Tensor, "B V 1 H H"]
    directions: Float[Tensor, "B V 3 H H"] | None = None
    valid: Float[Tensor, "B 1 S S"]
    overview: Overview | None = None
    teacher: Prediction | None = None

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None, Tensor | None, Overview | None]:
        """What a generator is called with: `generator(*prepared.inputs)`."""
        visible: Tensor | None = self.visible
        if self.directions is None:
            # Without cameras nothing is aligned, and every view sees everything; the generator is told so.
            visible = None
        return self.views, visible, self.directions, self.overview


class Inputs(NamedTuple):
    """Aligned views and what belongs to them, in the order of a generator's arguments; see `Prepared`."""

    views: Float[Tensor, "B V 3 H H"]
    visible: Float[Tensor, "B V 1 H H"]
    directions: Float[Tensor, "B V 3 H H"] | None
    overview: Overview | None = None


@torch.no_grad()
def prepare(batch: Batch, data: Data, device: torch.device | str) -> Prepared:
    """Move a batch to the device, turn bytes into values there, align the views, and change their colours.

    Args:
        batch: What a loader yields.
        data: Section `data` of the recipe that the loader was made for.
        device: Where to.

    Returns:
        The prepared batch; for several sizes of crop the input side follows from the targets'.
    """
    # The side comes from the batch and not from `data`: validation shows whole frames where training shows crops.
    side = next(iter(batch.targets.values())).shape[-1]
    batch, inputs = align(batch, side // data.scale, device)
    views = inputs.views
    if batch.gains is not None:
        views = apply_gains(views, batch.gains)
    teacher = None
    if batch.teacher_logits is not None:
        # Half precision halves what is read from disk; losses compute in single.
        logits = {}
        for name, half in batch.teacher_logits.items():
            logits[name] = half.float()
        teacher = predicted(logits)
    overview = None
    if batch.overview_pixels is not None and batch.positions is not None:
        pixels = batch.overview_pixels.float() / 255.0
        frame_views = pixels[:, :, :3]
        # Crop and frame are parts of one photo, so both change in colour alike.
        if batch.gains is not None:
            frame_views = apply_gains(frame_views, batch.gains)
        frame = identity_frame(len(batch)).to(frame_views.device)
        frame_directions = view_directions(batch.positions, frame, frame_views.shape[-1])
        overview = Overview(frame_views, pixels[:, :, 3:], frame_directions)
    # The pixels are left behind, so that a loader may use their memory again.
    kept = vars(replace(batch, overview_pixels=None, teacher_logits=None, visible_pixels=None))
    values = {
        "views": views,
        "targets": {name: decode_map(MAPS[name], stored) for name, stored in batch.targets.items()},
        "visible": inputs.visible,
        "directions": inputs.directions,
        # Where no view sees the crop nothing can be learnt: losses leave these pixels out.
        "valid": interpolate(inputs.visible.amax(dim=1), size=(side, side), mode="nearest"),
        "overview": overview,
        "teacher": teacher,
    }
    return Prepared(**{**kept, **values})


@torch.no_grad()
def align(batch: Batch, size: int, device: torch.device | str) -> tuple[Batch, Inputs]:
    """Move a batch to the device and bring its views into the crop, as training, inference and exports all do.

    Args:
        batch: Views, and where they were taken from when that is known; without cameras views are taken as they are.
        size: Side of the network's input in pixels.
        device: Where to.

    Returns:
        The batch on the device, and the generator's inputs without an overview.
    """
    taps = 1
    if batch.homographies is not None:
        # Computed before the matrices are sent: reading the answer from the device would wait for it in every step.
        height, width = batch.views.shape[-2:]
        taps = taps_needed(batch.homographies, batch.crop_to_texture, (height, width), size)
    batch = batch.to(device)
    views = batch.views.float() / 255.0
    # Views of drawn visits come aligned from the loader's threads.
    if batch.visible_pixels is not None and batch.positions is not None:
        visible = batch.visible_pixels.float() / 255.0
        return batch, Inputs(views, visible, view_directions(batch.positions, batch.crop_to_texture, size))
    if batch.homographies is None or batch.positions is None:
        return batch, Inputs(views, torch.ones_like(views[:, :, :1]), None)
    views, visible = warp_views(views, batch.homographies, batch.crop_to_texture, size, taps)
    return batch, Inputs(views, visible, view_directions(batch.positions, batch.crop_to_texture, size))


def predicted(logits: dict[str, Tensor]) -> Prediction:
    """The prediction that has these logits, float32."""
    return Prediction({name: activate(MAPS[name], value) for name, value in logits.items()}, logits, {})
