"""Whole frames in few pixels, beside crops: aligned once for each sample and kept."""

from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import OVERVIEW_SIDE
from neuropbr_core.data.pack.store import Images, Stored
from neuropbr_core.materials.alignment import identity_frame, warp_views
from neuropbr_core.samples import Sample

_ALIGNED_SIDE = 256
"""Photos are averaged down to this side before they are warped, and the result once more: warping does not filter."""


class Overviews:
    """Overviews of samples with cameras, made when first asked for: `4 · 32²` bytes a view.

    Args:
        images: Where photos come from.
        views: Views of each sample.
    """

    def __init__(self, images: Images, views: int) -> None:
        self._images, self._views = images, views
        self._made: dict[str, Stored] = {}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of an overview."""
        return (self._views, 4, OVERVIEW_SIDE, OVERVIEW_SIDE)

    def get(self, sample: Sample[Any]) -> UInt8[np.ndarray, "V 4 o o"]:
        """A sample's aligned views, sRGB-encoded, and behind them the share of each pixel that the view sees.

        Raises:
            DataError: A photo cannot be read.
        """
        found = self._made.get(sample.id)
        if found is None:
            found = self._made[sample.id] = self._make(sample)
        return found

    @torch.no_grad()
    def _make(self, sample: Sample[Any]) -> Stored:
        cameras = (sample.cameras or ())[: self._views]
        photos = torch.from_numpy(np.stack([_small(self._images.view(key)) for key in sample.views[: self._views]]))
        homographies = torch.from_numpy(np.array([camera.homography for camera in cameras])).float()
        aligned, visible = warp_views(photos.float()[None], homographies[None], identity_frame(1), _ALIGNED_SIDE)
        colors, seen = (_averaged(part[0]) for part in (aligned, visible))
        stacked = torch.cat((colors / seen.clamp_min(1e-6), 255 * seen), dim=1)
        pixels: Stored = stacked.round().clamp(0, 255).byte().numpy()
        return pixels


def _small(photo: Stored) -> Stored:
    """Average a photo `(3, S, S)` down to `_ALIGNED_SIDE`, unless it is that small."""
    if photo.shape[-1] <= _ALIGNED_SIDE:
        return photo
    side = (_ALIGNED_SIDE, _ALIGNED_SIDE)
    planes = [cv2.resize(plane, side, interpolation=cv2.INTER_AREA) for plane in photo]
    return np.stack(planes).astype(np.uint8)


def _averaged(aligned: Tensor) -> Tensor:
    return F.avg_pool2d(aligned, _ALIGNED_SIDE // OVERVIEW_SIDE)
