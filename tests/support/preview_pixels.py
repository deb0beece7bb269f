"""Pixels of the interactive preview, beside those of our own renderer."""

import base64
import io

import numpy as np
from browser import Tab
from PIL import Image


def drawn(tab: Tab) -> np.ndarray:
    """What the canvas shows, `(N, N, 4)` in [0, 1]."""
    tab.value("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    tab.value("neuropbr.panel.preview.draw()")
    url = tab.value("neuropbr.panel.preview.canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")) / 255


def compare(drawn_pixels: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Mean absolute difference and correlation, well inside of what is drawn."""
    solid = drawn_pixels[..., 3] == 1
    for _ in range(3):  # edges are smoothed by one and not by the other
        solid[1:-1, 1:-1] &= solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    solid[:3] = solid[-3:] = False
    solid[:, :3] = solid[:, -3:] = False
    assert solid.mean() > 0.2
    first = drawn_pixels[..., :3][solid]
    second = expected[solid]
    return float(np.abs(first - second).mean()), float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
