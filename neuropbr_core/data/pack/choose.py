"""Which images a recipe packs, and whether it does."""

import os
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any

from neuropbr_core.contracts import SampleSource
from neuropbr_core.data.pack.format import VIEW, ImageId, choose_folder, packed_images
from neuropbr_core.data.pack.store import DecodedImages, Images, PackedImages, read_image
from neuropbr_core.data.pack.write import PackReport, amount, missing_images, write_pack
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import reporter
from neuropbr_core.samples import Sample

AUTO_SHARE = 0.5
"""Share of the free disk that is packed into without being asked."""

Asked = tuple[str, Hashable]
"""Role and key of an image."""


def asked_images(samples: Sequence[Sample[Any]]) -> list[Asked]:
    """The images of samples, each once, those of a sample together."""
    asked: dict[Asked, None] = {}
    for sample in samples:
        asked |= dict.fromkeys((VIEW, key) for key in sample.views)
        asked |= dict.fromkeys((name, sample.maps[name]) for name in MAPS)
    return list(asked)


def digest_images(source: SampleSource, samples: Sequence[Sample[Any]]) -> dict[Hashable, str]:
    """Name the content behind every key of samples."""
    keys = list(dict.fromkeys(key for _, key in asked_images(samples)))
    return dict(zip(keys, source.digests(keys), strict=True))


def open_images(
    source: SampleSource,
    samples: Sequence[Sample[Any]],
    data: Data,
    digests: Mapping[Hashable, str],
) -> Images:
    """Return the images of samples: from a pack, which is completed first, or decoded when asked for.

    Args:
        source: Where they come from.
        samples: Its samples.
        data: Section `data` of the recipe.
        digests: From `digest_images`.

    Raises:
        DataError: Images cannot be decoded, or the pack cannot be written.
    """
    folder = choose_folder(data)
    if folder is None:
        return DecodedImages(source, data.photo_size, data.output_size)
    images = _images(samples, data, digests)
    if missing := missing_images(folder, images.values()):
        needed = sum(image.stride for image in missing)
        if data.pack == "auto" and (reason := _hindrance(folder, needed)):
            reporter().line(
                f"Not packing the images into {folder}: {reason}. They are decoded every time; see data.pack"
            )
            return DecodedImages(source, data.photo_size, data.output_size)
        reporter().line(f"Packing {len(missing)} images into {folder}, once: {amount(needed)}")
        pack_images(source, samples, data, digests, folder)
    return PackedImages(images, packed_images(folder))


def pack_images(
    source: SampleSource,
    samples: Sequence[Sample[Any]],
    data: Data,
    digests: Mapping[Hashable, str],
    folder: Path,
) -> PackReport:
    """Complete a pack with the images of samples.

    Args:
        source: Where they come from.
        samples: Its samples.
        data: Section `data` of the recipe; its sizes count.
        digests: From `digest_images`.
        folder: The pack.

    Raises:
        DataError: Images cannot be decoded, or the pack cannot be written.
    """
    wanted = {}
    for (role, key), image in _images(samples, data, digests).items():
        wanted[image] = partial(read_image, source, key, role, image.size)
    return write_pack(folder, wanted)


def _images(samples: Sequence[Sample[Any]], data: Data, digests: Mapping[Hashable, str]) -> dict[Asked, ImageId]:
    return {
        (role, key): ImageId(digests[key], role, data.photo_size if role == VIEW else data.output_size)
        for role, key in asked_images(samples)
    }


def _hindrance(folder: Path, needed: int) -> str | None:
    """Why a pack of `needed` bytes should not be made without being asked."""
    home = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if not os.access(home, os.W_OK):
        return f"{home} cannot be written"
    free = disk_usage(home).free
    if needed > free * AUTO_SHARE:
        return f"it takes {amount(needed)}, and the disk has {amount(free)} left"
    return None
