"""The pictures of a sample one by one, for viewers that arrange them themselves."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.metrics import encode_unit
from neuropbr_core.evaluation.tiles import Picture, boolean_mask, error_map, error_tile, tile, to_cpu, unit_tile
from neuropbr_core.maps import MAPS

MAX_SIDE = 512
"""Larger images are shrunk to this many pixels a side: a run logs these pictures at every validation."""

_GAP = 4


def sample_pictures(
    views: Float[Tensor, "V 3 h w"],
    prediction: Maps,
    target: Maps,
    valid: Float[Tensor, "1 H W"],
    visible: Float[Tensor, "V 1 h w"],
) -> dict[str, Picture]:
    """Draw a sample's views, and the prediction, truth and error of each map.

    Args:
        views: Aligned views, sRGB-encoded in [0, 1].
        prediction: Predicted maps `(C, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same sizes.
        valid: 1 where a pixel counts; the rest is hatched.
        visible: Where each view sees the texture, in [0, 1]; the rest is hatched.

    Returns:
        `views` side by side; for each map `<map>`, prediction beside truth, and `<map>_error`, its error as heat on the
        scale of `tiles.ERROR_LIMITS`.
    """
    view_pictures: list[Picture] = []
    for view, visible_part in zip(to_cpu(views), visible, strict=True):
        view_pictures.append(_shrunk(unit_tile(view), boolean_mask(visible_part)))
    pictures = {"views": _row(view_pictures)}
    inside = boolean_mask(valid)
    # In the order of MAPS, which is the order in which viewers list the pictures.
    for name, spec in MAPS.items():
        if name not in prediction:
            continue
        predicted = to_cpu(prediction[name])
        true = to_cpu(target[name])
        pictures[name] = _row(
            [
                _shrunk(unit_tile(encode_unit(spec, predicted)), inside),
                _shrunk(unit_tile(encode_unit(spec, true)), inside),
            ]
        )
        error = error_map(name, predicted, true).numpy()
        # Errors become colours before they are shrunk: a mean of errors would hide that a pixel is not finite.
        pictures[f"{name}_error"] = _shrunk(error_tile(name, error), inside)
    return pictures


def _shrunk(picture: Picture, inside: npt.NDArray[np.bool_]) -> Picture:
    """Shrink a picture to `MAX_SIDE` if it is larger, and hatch the pixels that do not count."""
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(tile(picture, inside, size))


def _row(pictures: Sequence[Picture]) -> Picture:
    """Put pictures of one height side by side, with a black gap between them."""
    gap = np.zeros((pictures[0].shape[0], _GAP, 3), np.uint8)
    parts: list[Picture] = []
    for picture in pictures:
        parts += [gap, picture]
    # No gap before the first picture.
    return np.concatenate(parts[1:], axis=1)
