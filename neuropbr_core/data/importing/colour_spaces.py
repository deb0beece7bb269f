"""Converts base colours of other colour spaces to sRGB. NumPy only: importing loads no torch."""

from typing import Literal

import numpy as np

from neuropbr_core.data.decoding import Pixels, decode_srgb, encode_srgb

_ACESCG_TO_SRGB = np.array(
    [
        [1.70505, -0.62179, -0.08326],
        [-0.13026, 1.14080, -0.01055],
        [-0.02400, -0.12897, 1.15297],
    ],
    dtype=np.float32,
)
"""Linear ACEScg (AP1, D60) to linear sRGB (Rec. 709, D65), with Bradford's adaptation.

Source: Academy Color Encoding System, S-2014-004, with the primaries of ITU-R BT.709.
"""


def to_srgb(pixels: Pixels, space: Literal["linear", "acescg"], *, encoded: bool = False) -> Pixels:
    """Convert colours to sRGB; colours that sRGB does not have are clipped.

    Args:
        pixels: uint8 or uint16 `(H, W, 3)`.
        space: `linear` has the primaries of sRGB.
        encoded: Whether the values have sRGB's transfer curve although the primaries are other ones.

    Returns:
        sRGB-encoded uint16 `(H, W, 3)`: dark colours of linear files need more than 8 bits.
    """
    values = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    if encoded:
        values = decode_srgb(values)
    if space == "acescg":
        values = values @ _ACESCG_TO_SRGB.T
    converted: Pixels = np.rint(encode_srgb(values.clip(0, 1)) * np.float32(65535)).astype(np.uint16)
    return converted
