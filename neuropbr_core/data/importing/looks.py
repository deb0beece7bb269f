"""Tells what images look like whose names were not understood, so that a person can rename or leave them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from neuropbr_core.data.decoding import describe_image, why_unread
from neuropbr_core.data.images import read_image
from neuropbr_core.data.importing.names import read_name, unneeded_kind
from neuropbr_core.data.importing.sources import SourceFile
from neuropbr_core.errors import DataError

Look = Literal["albedo", "grey", "normal", "grey packed"]

_WORDS: dict[Look, str] = {
    "albedo": "a colour image, such as an albedo map or a photo",
    "grey": "a grey map: roughness, glossiness, metalness, height or occlusion",
    "normal": "a normal map",
    "grey packed": "grey maps packed into its channels",
}
_SAMPLED = 65_536  # pixels that are enough to tell
_MOST_LOOKED_AT = 100  # images; decoding large ones takes seconds each


@dataclass(frozen=True)
class Ignored:
    """An image of which no map is made.

    Attributes:
        path: The file, through its archive.
        kind: What its name says, such as `height map`; empty when the name says nothing.
        looks: What it looks like, for an image whose name says nothing; empty otherwise.
    """

    path: str
    kind: str = ""
    looks: str = ""


def describe_ignored(files: Sequence[SourceFile], scratch: Path) -> list[Ignored]:
    """Describe images that belong to no material.

    Args:
        files: The images.
        scratch: Folder for unpacked files.

    Returns:
        A description of each, in the same order.
    """
    ignored = []
    looked_at = 0
    for file in files:
        kind = unneeded_kind(file.name)
        if kind is not None:
            ignored.append(Ignored(str(file), kind))
            continue
        looks = "not looked at, as there are so many"
        if looked_at < _MOST_LOOKED_AT:
            unread = why_unread(file.name)
            look = None
            if unread is None:
                look = _look(file, scratch)
            looks = unread or "cannot be decoded"
            if look is not None:
                looks = f"looks like {_WORDS[look]}"
        looked_at += 1
        name = read_name(file.name)
        if name is not None:
            looks += f"; its name may mean {name.role}, which counts only beside an albedo and a normal map"
        ignored.append(Ignored(str(file), looks=looks))
    return ignored


def explain_missing(files: Sequence[SourceFile], look: Look, scratch: Path) -> str:
    """Name files that look like what a material lacks; empty when there is none.

    Args:
        files: Images near the material whose names were not understood.
        look: What is missing.
        scratch: Folder for unpacked files.

    Returns:
        The end of a sentence.
    """
    names = []
    for file in files[:_MOST_LOOKED_AT]:
        if unneeded_kind(file.name) is None and _look(file, scratch) == look:
            names.append(file.name)
    if not names:
        return ""
    stem = PurePosixPath(names[0]).stem
    suffix = {"albedo": "Color", "normal": "Normal"}.get(look, "Roughness")
    return f"; {', '.join(names)} looks like it, but its name does not tell. Rename it, such as to {stem}_{suffix}"


def _look(file: SourceFile, scratch: Path) -> Look | None:
    """What an image looks like; None when it cannot be read."""
    if why_unread(file.name) is not None:
        return None
    try:
        # Of its own, so that a hundred large images of an archive are not on the disk together.
        with TemporaryDirectory(dir=scratch) as own:
            path = file.fetch(Path(own))
            pixels = read_image(path)
            channels = describe_image(path).channels
    except DataError:
        return None
    colours = pixels.reshape(-1, 3)
    step = max(1, len(colours) // _SAMPLED)
    values = colours[::step].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    spread = values.max(axis=1) - values.min(axis=1)
    if channels == 1 or float(np.quantile(spread, 0.95)) < 0.06:
        return "grey"
    # The vectors of a normal map have length one, and most of them face the viewer.
    vectors = values * 2 - 1
    lengths = np.linalg.norm(vectors, axis=1)
    if float(np.median(np.abs(lengths - 1))) < 0.1 and float(np.median(vectors[:, 2])) > 0.5:
        return "normal"
    # Maps packed into channels vary independently; those of a colour image rise and fall together.
    mean = values.mean(axis=0)
    if float(np.max(mean) - np.min(mean)) > 0.5:
        return "grey packed"
    return "albedo"
