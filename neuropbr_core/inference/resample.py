"""Maps at another size, as the last step of inference."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.maps import MAPS, MapSpec


def resample_maps(maps: Maps, size: int) -> Maps:
    """Resample maps by Lanczos with a support of three pixels.

    Values are resampled as they are stored (albedo sRGB-encoded), cut to their range where the filter overshoots, and
    normals are unit vectors again.

    Args:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`.
        size: Side of the result in pixels, at least 1.

    Returns:
        Maps `(1, channels, size, size)`; unchanged where they have that size.

    Source: Duchon 1979, "Lanczos Filtering in One and Two Dimensions"; the filter is Pillow's.
    """
    return {name: _resample(MAPS[name], value, size) for name, value in maps.items()}


def _resample(spec: MapSpec, value: Float[Tensor, "1 C H W"], size: int) -> Float[Tensor, "1 C size size"]:
    if value.shape[-2:] == (size, size):
        return value
    planes = [Image.fromarray(plane.numpy()) for plane in value[0].float()]
    resized = [np.asarray(plane.resize((size, size), Image.Resampling.LANCZOS)) for plane in planes]
    found = torch.from_numpy(np.stack(resized))[None]
    if spec.activation == "slopes":
        return F.normalize(found, dim=1)
    return found.clamp(*spec.value_range)
