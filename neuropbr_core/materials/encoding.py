"""Stored integers to float maps and back: `value = low + (high - low) · stored / levels` over a map's range."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import DataError
from neuropbr_core.maps import MapSpec

_LEVELS = {torch.uint8: 255, torch.uint16: 65535}
# A shorter stored normal has no direction worth keeping: middle grey in 8 bits has length 0.007, from rounding alone.
_SHORTEST_NORMAL = 0.1


def decode_map(
    spec: MapSpec, stored: Integer[Tensor, "*batch C H W"], levels: int | None = None
) -> Float[Tensor, "*batch C H W"]:
    """Turn stored integers into a map in its range.

    Args:
        spec: The map; `C` must be `spec.channels`.
        stored: Integers from 0 to `levels`.
        levels: The integer that means the top of the range; by default 255 for uint8 and 65535 for uint16.

    Returns:
        Float32 values in `spec.value_range`, in the colour space of the file: albedo stays sRGB-encoded. Normals are
        unit vectors; a normal without a direction becomes (0, 0, 1).

    Raises:
        DataError: The channels are not those of the map, or an integer type needs `levels`.
    """
    _check_channels(spec, stored)
    if levels is None:
        # int32 and int64 hold 8 and 16 bits alike, so their type does not tell the levels.
        levels = _LEVELS.get(stored.dtype)
    if levels is None:
        raise DataError(f"{spec.name}: integers of type {stored.dtype} need `levels` (255 or 65535); none given")
    low, high = spec.value_range
    values = low + stored.to(torch.float32) * ((high - low) / levels)
    if spec.activation != "slopes":
        return values
    # Rounding to integers has changed the vectors' lengths.
    up = values.new_tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
    # Not `vectors.unit`: its other rounding would change the targets of every run in their last digits.
    short = torch.linalg.vector_norm(values, dim=-3, keepdim=True) < _SHORTEST_NORMAL
    return torch.where(short, up, F.normalize(values, dim=-3))


def encode_map(
    spec: MapSpec, values: Float[Tensor, "*batch C H W"], levels: int = 255
) -> Integer[Tensor, "*batch C H W"]:
    """Turn a map into integers to store; the inverse of `decode_map`.

    Args:
        spec: The map; `C` must be `spec.channels`.
        values: Values in `spec.value_range`; clamped to it.
        levels: The integer that means the top of the range: 255 for 8 bits, 65535 for 16.

    Returns:
        The nearest integers: uint8 where `levels` fits it, else int32.

    Raises:
        DataError: The channels are not those of the map.
    """
    _check_channels(spec, values)
    low, high = spec.value_range
    scaled = ((values.float() - low) * (levels / (high - low))).round().clamp(0, levels)
    if levels <= 255:
        return scaled.to(torch.uint8)
    # int32 instead of uint16, which PyTorch supports in few operations.
    return scaled.to(torch.int32)


def _check_channels(spec: MapSpec, values: Tensor) -> None:
    if values.shape[-3] != spec.channels:
        raise DataError(
            f"{spec.name}: found {values.shape[-3]} channels in shape {tuple(values.shape)}; "
            f"the map has {spec.channels}, before height and width"
        )
