"""A folder of maps, as `neuropbr infer` writes it, as a material of a report."""

from pathlib import Path

import numpy as np
import torch

from neuropbr_core.data.images import read_image, read_photo
from neuropbr_core.data.layout.paths import list_photos
from neuropbr_core.evaluation.pictures import Picture
from neuropbr_core.outputs.material import Material, read_material
from neuropbr_core.report.contents import Showcase, Version

VIEWS = "views"
"""Folder beside the maps with the views that the model saw."""
CONFIDENCE = "confidence"
_MAX_PHOTOS = 12
_PHOTO_SIDE = 512


def read_showcase(folder: str | Path) -> Showcase:
    """Read a folder of maps with the views and the confidence beside them.

    Args:
        folder: Folder with the four maps, perhaps `views/`, and perhaps `confidence.png`.

    Raises:
        DataError: A map is missing or cannot be used, or a picture beside them is damaged.
    """
    folder = Path(folder)
    material = read_material(folder)
    views: list[torch.Tensor] = []
    if (folder / VIEWS).is_dir():
        for path in list_photos(folder / VIEWS)[:_MAX_PHOTOS]:
            views.append(torch.from_numpy(read_photo(path, _PHOTO_SIDE).pixels) / 255)
    extras: dict[str, Picture] = {}
    # Refinement and ensembles write it.
    confidence = folder / f"{CONFIDENCE}.png"
    if confidence.is_file():
        grey = read_image(confidence, "L")
        extras[CONFIDENCE] = np.repeat(grey.astype(np.uint8), 3, axis=-1)
    return Showcase(
        name=folder.resolve().name,
        versions=(Version("maps", material.maps),),
        views=tuple(views),
        extras=extras,
        facts=material_facts(material),
    )


def material_facts(material: Material) -> tuple[tuple[str, str], ...]:
    """Size and seams of a material, in words."""
    tiling = "shows its seams"
    if material.seams.tiles:
        tiling = "tiles without seams"
    return (
        ("maps", f"{material.size} × {material.size} pixels"),
        ("tiling", f"{tiling} (seam score {material.seams.worst:.2f})"),
    )
