"""What makes a model's maps doubtful: photos that differ from those that it was trained on."""

import torch
from torch import Tensor

from neuropbr_core.exporting.inputs import Signature
from neuropbr_core.inference.flash import flash_share
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.materials.color import srgb_to_linear

_CLIPPED = 0.98  # sRGB value from which a pixel may have been brighter
_MOST_CLIPPED = 0.25  # share of a photo; highlights of a polished surface cover less
_DIM = 40 / 255
"""sRGB value that a photo's brightest twentieth has to reach: charcoal under a right exposure reaches 60 of 255."""
_MOST_STOPS = 1.5  # between photos of one set; automatic exposure of phones stays below one
_EVEN = 1.0
"""Deviation, in stops, of the ratio of two aligned photos, from which the surface made the difference.

An exposure changes all pixels alike. Bricks have 0.3 to 0.5 from their relief, highlights of metal plates 1.7 to 1.9.
"""
_EPS = 1e-4


def find_doubts(views: ViewSet, inputs: dict[str, Tensor], signature: Signature) -> list[str]:
    """List what the photos lack that the model was trained with, and what to expect.

    Args:
        views: The photos.
        inputs: What the model's `prepare` made of them.
        signature: The model's signature.

    Returns:
        One sentence for each doubt.
    """
    doubts = []
    given = len(views.paths)
    if given < signature.views:
        photos = f"{given} photos"
        expectation = "expect weaker relief, and highlights that stay in the albedo"
        if given == 1:
            photos = "1 photo"
            expectation = "expect guesses: one photo tells neither relief nor metal from colour"
        doubts.append(
            f"{views.folder}: has {photos}, and the model was trained with {signature.views} of each material; "
            f"{expectation}. Add photos from other sides"
        )
    pictures = inputs["views"][0].cpu()
    visible = torch.ones_like(pictures[:, :1])
    if "visible" in inputs:
        visible = inputs["visible"][0].cpu()
    if signature.flash and views.positions is not None and "visible" in inputs:
        share = flash_share(pictures, visible, views.positions[: len(pictures)])
        if share is not None and share.is_missing:
            doubts.append(
                f"{views.folder}: the photos seem to be taken without a flash (their light shows "
                f"{max(0.0, share.share):.0%} of a flash's falloff), and the model was trained with one; the normals "
                "are left flat, and roughness and metallic are guesses. Photograph with the flash on, in a dim room"
            )
        elif share is None and views.flash_fired is False:
            doubts.append(
                f"{views.folder}: the flash did not fire, as the camera noted in the photos, and the model was trained "
                "with one; the normals are left flat, and roughness and metallic are guesses. Photograph with the "
                "flash on, in a dim room"
            )
    doubts += _exposure_doubts(views, pictures, visible, aligned="visible" in inputs)
    return doubts


def _exposure_doubts(views: ViewSet, pictures: Tensor, visible: Tensor, *, aligned: bool) -> list[str]:
    doubts = []
    dim = []
    stops = []
    shown: list[tuple[Tensor, Tensor]] = []
    for path, picture, seen in zip(views.paths, pictures, visible[:, 0] > 0, strict=False):
        pixels = picture[:, seen]
        if not pixels.numel():
            continue
        clipped = float((pixels.amin(dim=0) >= _CLIPPED).float().mean())
        brightness = (srgb_to_linear(picture).mean(dim=0) + _EPS).log2()
        stops.append((float(brightness[seen].median()), path, len(shown)))
        shown.append((brightness, seen))
        if clipped > _MOST_CLIPPED:
            doubts.append(
                f"{path}: is overexposed: {clipped:.0%} of it is white; expect a white albedo and wrong roughness. "
                "Retake it darker"
            )
        if float(pixels.amax(dim=0).quantile(0.95)) < _DIM:
            dim.append(path)
    # With the exposure locked, a metal is dark in every photo but the one that shows its highlight.
    if dim and len(dim) == len(stops):
        doubts.append(
            f"{views.folder}: its photos are underexposed: hardly a pixel is above {round(_DIM * 255)} of 255; expect "
            "a dark, noisy albedo. Retake them brighter"
        )
    if not stops:
        return doubts
    darkest = min(stops)
    brightest = max(stops)
    difference = brightest[0] - darkest[0]
    uneven = 0.0
    if aligned and len(stops) > 1:
        first, seen = shown[brightest[2]]
        second, also = shown[darkest[2]]
        ratios = (first - second)[seen & also]
        if ratios.numel() > 1:
            uneven = float(ratios.std())
    if difference > _MOST_STOPS and uneven < _EVEN:
        doubts.append(
            f"{views.folder}: {brightest[1].name} is {difference:.1f} stops brighter than {darkest[1].name}; "
            "expect an albedo between both. Lock the exposure, and retake them"
        )
    return doubts
