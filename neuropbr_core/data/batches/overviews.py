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
        self._images = images
        self._views = views
        self._kept: dict[str, Stored] = {}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of an overview."""
        return (self._views, 4, OVERVIEW_SIDE, OVERVIEW_SIDE)

    def get(self, sample: Sample[Any]) -> UInt8[np.ndarray, "V 4 o o"]:
        """A sample's aligned views, sRGB-encoded, and behind them the share of each pixel that the view sees.

        Raises:
            DataError: A photo cannot be read.
        """
        # Two threads may make the same one at once; both make the same pixels.
        if sample.id not in self._kept:
            self._kept[sample.id] = self._make(sample)
        return self._kept[sample.id]

    @torch.no_grad()
    def _make(self, sample: Sample[Any]) -> Stored:
        cameras = (sample.cameras or ())[: self._views]
        small = [_small(self._images.view(key)) for key in sample.views[: self._views]]
        photos = torch.from_numpy(np.stack(small)).float()
        homographies = torch.from_numpy(np.array([camera.homography for camera in cameras])).float()
        aligned, visible = warp_views(photos[None], homographies[None], identity_frame(1), _ALIGNED_SIDE)
        colors = _averaged(aligned[0])
        seen = _averaged(visible[0])
        # Aligned views are 0 where nothing is seen; divided by the share that is, the mean is over what is seen.
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
