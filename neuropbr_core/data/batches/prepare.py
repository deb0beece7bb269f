"""A batch on the device, as the network and the losses want it."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from neuropbr_core.contracts import Overview, Prediction
from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.jitter import apply_gains
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.alignment import identity_frame, taps_needed, view_directions, warp_views
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.model.heads import activate
from neuropbr_core.recipe.sections import Data


class Prepared(NamedTuple):
    """A batch of aligned views and true maps, float32. H is the network's input side, S the maps' side.

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
    visible: Float[Tensor, "B V 1 H H"]
    directions: Float[Tensor, "B V 3 H H"] | None
    targets: dict[str, Tensor]
    valid: Float[Tensor, "B 1 S S"]
    overview: Overview | None = None
    teacher: Prediction | None = None


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
    side = next(iter(batch.targets.values())).shape[-1]
    size = side * data.image_size // data.output_size
    taps = _taps(batch, size)
    batch = batch.to(device)
    views = batch.views.float() / 255.0
    targets = {name: decode_map(MAPS[name], stored) for name, stored in batch.targets.items()}
    if batch.homographies is None or batch.positions is None:
        visible, directions = torch.ones_like(views[:, :, :1]), None
    else:
        views, visible = warp_views(views, batch.homographies, batch.frame, size, taps)
        directions = view_directions(batch.positions, batch.frame, size)
    if batch.gains is not None:
        views = apply_gains(views, batch.gains)
    valid = interpolate(visible.amax(dim=1), size=(side, side), mode="nearest")
    teacher = None if batch.teacher is None else predicted({name: each.float() for name, each in batch.teacher.items()})
    return Prepared(views, visible, directions, targets, valid, _overview(batch), teacher)


def predicted(logits: dict[str, Tensor]) -> Prediction:
    """The prediction that has these logits, float32."""
    return Prediction({name: activate(MAPS[name], value) for name, value in logits.items()}, logits, {})


def _taps(batch: Batch, size: int) -> int:
    """How finely to sample the views; asked before they are sent, so that nothing waits for the device."""
    if batch.homographies is None:
        return 1
    height, width = batch.views.shape[-2:]
    return taps_needed(batch.homographies, batch.frame, (height, width), size)


def _overview(batch: Batch) -> Overview | None:
    """The whole frame, with the changes of colour of its crop."""
    if batch.overview is None or batch.positions is None:
        return None
    values = batch.overview.float() / 255.0
    views, visible = values[:, :, :3], values[:, :, 3:]
    if batch.gains is not None:
        views = apply_gains(views, batch.gains)
    whole = identity_frame(len(batch)).to(views.device)
    return Overview(views, visible, view_directions(batch.positions, whole, views.shape[-1]))
