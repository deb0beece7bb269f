"""Decides which images a recipe packs, and whether it packs them."""

import os
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any

from neuropbr_core.contracts import SampleSource
from neuropbr_core.data.pack.store import VIEW, DecodedImages, ImageId, Images, PackedImages, packed_images, read_image
from neuropbr_core.data.pack.write import PackReport, amount, missing_images, write_pack
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data
from neuropbr_core.reporting import reporter
from neuropbr_core.samples import Sample

AUTO_SHARE = 0.5
"""Share of the free disk that `data.pack: auto` may fill."""

RoleAndKey = tuple[str, Hashable]
"""An image of a dataset: its role (`VIEW` or the name of a map), and the key by which its source finds it."""


def list_images(samples: Sequence[Sample[Any]]) -> list[RoleAndKey]:
    """List the images of samples. Each occurs once, and those of a sample are neighbours."""
    # A dictionary, because it keeps the order and drops the maps that other samples of the material have listed.
    images: dict[RoleAndKey, None] = {}
    for sample in samples:
        for key in sample.views:
            images[VIEW, key] = None
        for name in MAPS:
            images[name, sample.maps[name]] = None
    return list(images)


def digest_images(source: SampleSource, samples: Sequence[Sample[Any]]) -> dict[Hashable, str]:
    """Return a digest of the content behind every key of samples.

    Args:
        source: The source of the samples.
        samples: Its samples.

    Returns:
        Digests by key, in the order of `list_images`.
    """
    # One call for all keys, so that a source can hash files in parallel. A key may have two roles; it is hashed once.
    keys = dict[Hashable, None]()
    for _, key in list_images(samples):
        keys[key] = None
    return dict(zip(keys, source.digests(list(keys)), strict=True))


def open_images(
    source: SampleSource,
    samples: Sequence[Sample[Any]],
    data: Data,
    digests: Mapping[Hashable, str],
) -> Images:
    """Return the images of samples, from a pack that is completed first, or decoded at each use.

    Args:
        source: The source of the samples.
        samples: Its samples.
        data: Section `data` of the recipe.
        digests: From `digest_images`.

    Raises:
        DataError: Images cannot be decoded, or the pack cannot be written.
    """
    folder = data.pack_folder
    if folder is None:
        return DecodedImages(source, data.photo_size, data.output_size)
    images = _image_ids(samples, data, digests)
    if missing := missing_images(folder, images.values()):
        needed = sum(image.stride for image in missing)
        # A folder that the user names may be filled to the brim. `auto` must not take a disk by surprise.
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
        source: The source of the samples.
        samples: Its samples.
        data: Section `data` of the recipe, which has the sizes to decode to.
        digests: From `digest_images`.
        folder: The pack.

    Returns:
        Counts of the images that were packed and of those that the pack had.

    Raises:
        DataError: Images cannot be decoded, or the pack cannot be written.
    """
    wanted = {}
    for (role, key), image in _image_ids(samples, data, digests).items():
        # Images of equal content share an entry, so that a copied file is decoded once.
        wanted[image] = partial(read_image, source, key, role, image.size)
    return write_pack(folder, wanted)


def _image_ids(
    samples: Sequence[Sample[Any]], data: Data, digests: Mapping[Hashable, str]
) -> dict[RoleAndKey, ImageId]:
    identities = {}
    for role, key in list_images(samples):
        if role == VIEW:
            size = data.photo_size
        else:
            size = data.output_size
        identities[role, key] = ImageId(digests[key], role, size)
    return identities


def _hindrance(folder: Path, needed: int) -> str | None:
    """Explain why `data.pack: auto` must not write `needed` bytes; None when it may."""
    # The pack's folder may not exist yet: its nearest existing parent is on the same disk.
    for home in (folder, *folder.absolute().parents):
        if home.is_dir():
            break
    if not os.access(home, os.W_OK):
        return f"{home} cannot be written"
    free = disk_usage(home).free
    if needed > free * AUTO_SHARE:
        return f"it takes {amount(needed)}, and the disk has {amount(free)} left"
    return None
