"""Reads the samples of the layout from image files."""

from collections.abc import Hashable, Sequence
from pathlib import Path

from neuropbr_core.contracts import SampleSource
from neuropbr_core.data.decoding import verify_image
from neuropbr_core.data.images import Stored, read_map, read_view
from neuropbr_core.data.layout.paths import locate, read_metadata
from neuropbr_core.data.layout.scan import Sample, find_samples
from neuropbr_core.data.pack.digest import FileDigests
from neuropbr_core.data.pack.store import DIGESTS_NAME
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Data


class LayoutSource(SampleSource):
    """The samples of the folder layout (`data.layout`). Their keys are paths.

    Digests are of whole files. They are remembered beside the pack, so that a dataset is hashed once.
    """

    def __init__(self, data: Data) -> None:
        """Read nothing yet."""
        self._data = data

    def samples(self) -> list[Sample]:
        """List the samples of the recipe's curriculum; with estimated alignment, register their photos first."""
        # Recorded cameras come with the samples.
        samples = find_samples(self._data)
        if self._data.alignment != "estimated":
            return samples
        # Imported on use, because registration needs OpenCV.
        from neuropbr_core.data.registration.stored import ESTIMATED_NAME, estimate_cameras

        return estimate_cameras(samples, locate(self._data).input / ESTIMATED_NAME)

    def materials(self, samples: Sequence[Sample]) -> set[str]:
        """Name the materials of all samples, clean and dirty, whatever the recipe's curriculum."""
        metadata, _ = read_metadata(locate(self._data).metadata)  # `samples` has raised its problems already
        # Those of other curricula too, so that a split does not change with the curriculum.
        materials = set((metadata or {}).values())
        for sample in samples:
            materials.add(sample.material)
        return materials

    def digests(self, keys: Sequence[Hashable]) -> list[str]:
        """Digest the files."""
        folder = self._data.pack_folder
        if folder is None:
            digests = FileDigests()  # hashes everything anew: there is no place to remember digests in
        else:
            digests = FileDigests(folder / DIGESTS_NAME)
        return digests.of([_path(key) for key in keys])

    def read_view(self, key: Hashable, size: int) -> Stored:
        """Decode a view."""
        # Verified at each decoding, because decoders return grey pixels for a part that is missing.
        verify_image(_path(key))
        return read_view(_path(key), size)

    def read_map(self, name: str, key: Hashable, size: int) -> Stored:
        """Decode a map."""
        verify_image(_path(key))
        return read_map(_path(key), MAPS[name], size)


def _path(key: Hashable) -> Path:
    # The contract allows any key; this source's keys are paths, and any other key is a fault of a program.
    if not isinstance(key, Path):
        raise TypeError(f"the layout's images are files, not {key!r}")
    return key
