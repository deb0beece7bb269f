"""The pictures of a sample one by one, for viewers that lay them out themselves."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.heat import error_map
from neuropbr_core.evaluation.metrics import encode_unit
from neuropbr_core.evaluation.tiles import Picture, error_tile, plain, seen_mask, tile, unit_tile
from neuropbr_core.maps import MAPS

MAX_SIDE = 512
"""Larger images are shrunk to this many pixels a side."""

_GAP = 4


def sample_pictures(
    views: Float[Tensor, "V 3 h w"],
    prediction: Maps,
    target: Maps,
    valid: Float[Tensor, "1 H W"],
    visible: Float[Tensor, "V 1 h w"],
) -> dict[str, Picture]:
    """Draw a sample's views, and each map's prediction, truth and error.

    Args:
        views: Aligned views, sRGB-encoded in [0, 1].
        prediction: Predicted maps `(C, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same sizes.
        valid: 1 where a pixel counts; the rest is hatched.
        visible: What each view sees, in [0, 1]; the rest is hatched.

    Returns:
        `views` side by side; for each map `<map>`, prediction beside truth, and `<map>_error`, its error as heat on the
        scale of `heat.ERROR_LIMITS`.
    """
    pairs = zip(plain(views), visible, strict=True)
    pictures = {"views": _row([_shrunk(unit_tile(view), seen_mask(seen)) for view, seen in pairs])}
    inside = seen_mask(valid)
    for name in MAPS:
        if name in prediction:
            pictures |= _map_pictures(name, plain(prediction[name]), plain(target[name]), inside)
    return pictures


def _map_pictures(
    name: str, prediction: Float[Tensor, "C H W"], target: Float[Tensor, "C H W"], inside: npt.NDArray[np.bool_]
) -> dict[str, Picture]:
    both = [_shrunk(unit_tile(encode_unit(MAPS[name], values)), inside) for values in (prediction, target)]
    error = error_tile(name, error_map(name, prediction, target).numpy())
    return {name: _row(both), f"{name}_error": _shrunk(error, inside)}


def _shrunk(picture: Picture, seen: npt.NDArray[np.bool_]) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    return np.asarray(tile(picture, seen, (max(1, round(width * scale)), max(1, round(height * scale)))))


def _row(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height side by side, with a dark gap between them."""
    gap = np.zeros((pictures[0].shape[0], _GAP, 3), np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)
