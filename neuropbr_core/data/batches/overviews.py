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

    @torch.no_grad()
    def get(self, sample: Sample[Any]) -> UInt8[np.ndarray, "V 4 o o"]:
        """A sample's aligned views, sRGB-encoded, and behind them the share of each pixel that the view sees.

        Raises:
            DataError: A photo cannot be read.
        """
        # Two threads may compute the same one at once; both compute the same pixels.
        if sample.id not in self._kept:
            small = []
            for key in sample.views[: self._views]:
                photo = self._images.view(key)
                # Averaging first keeps the photo's detail from aliasing, and makes warping cheap.
                if photo.shape[-1] > _ALIGNED_SIDE:
                    side = (_ALIGNED_SIDE, _ALIGNED_SIDE)
                    # Plane by plane, because OpenCV wants channels last and photos have them first.
                    planes = [cv2.resize(plane, side, interpolation=cv2.INTER_AREA) for plane in photo]
                    photo = np.stack(planes).astype(np.uint8)
                small.append(photo)
            photos = torch.from_numpy(np.stack(small)).float()
            cameras = (sample.cameras or ())[: self._views]
            homographies = torch.from_numpy(np.array([camera.homography for camera in cameras])).float()
            aligned, visible = warp_views(photos[None], homographies[None], identity_frame(1), _ALIGNED_SIDE)
            colors = _averaged(aligned[0])
            shares = _averaged(visible[0])
            # Aligned views are 0 outside the photo; divided by the visible share, the mean is over visible pixels.
            stacked = torch.cat((colors / shares.clamp_min(1e-6), 255 * shares), dim=1)
            self._kept[sample.id] = stacked.round().clamp(0, 255).byte().numpy()
        return self._kept[sample.id]


def _averaged(aligned: Tensor) -> Tensor:
    return F.avg_pool2d(aligned, _ALIGNED_SIDE // OVERVIEW_SIDE)
