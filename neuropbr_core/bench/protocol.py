"""The bench's captures: which there are, where they are kept, and how other tools get their photos."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from neuropbr_core.data.batches.dataset import MaterialDataset
from neuropbr_core.data.layout.paths import CAMERAS_NAME, view_name, write_cameras
from neuropbr_core.data.opening import OpenedSamples, captures_missing, ensure_captures, open_samples
from neuropbr_core.data.synthesis.render import plan_settings
from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.heldout import prepared_frames
from neuropbr_core.files import replacing, write_json, write_text
from neuropbr_core.inference.predict import write_views
from neuropbr_core.recipe.sections import Data, Synthesize
from neuropbr_core.reporting import track
from neuropbr_core.samples import Sample
from neuropbr_core.user_data import data_home

VERSION = 1
"""Version of the protocol. It grows when the same maps would get other scores, or other photos are shown."""

RECORD = "bench.json"
PHOTOS = "photos"
ALIGNED = "aligned"

_README = """\
Photos of NeuroPBR's bench, protocol {version} ({digest}).

photos/CAPTURE/    photos as they were taken, with the flash, and cameras.json
aligned/CAPTURE/   the same photos, warped so that each shows the material's tile from edge to edge; black where the
                   photo does not show it

Let another tool predict maps for each capture, from as many of its photos as it takes. Maps must show what the aligned
photos show: one tile of the material, upright. Put them into a folder for each capture:

MAPS/CAPTURE/      albedo (sRGB), roughness, metallic and normal, under the names that `neuropbr data import` knows,
                   such as albedo.png, X_Roughness.jpg or X_NormalDX.png

neuropbr bench --maps MAPS
"""


@dataclass(frozen=True)
class Protocol:
    """What is photographed, and how.

    Attributes:
        plan: Materials, kinds of capture, sizes and seed.
        views: Photos of each capture.
    """

    plan: Synthesize
    views: int = 3

    @property
    def size(self) -> int:
        """Side of the maps that are compared, in pixels."""
        return self.plan.size

    @cached_property
    def digest(self) -> str:
        """Eight digits that two results share when they can be compared: of version, settings and materials.

        Raises:
            DataError: The materials are missing.
        """
        content = {"version": VERSION, **asdict(plan_settings(self.plan, self.views))}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def data(self, folder: Path) -> Data:
        """The section `data` of the captures at the protocol's own sizes."""
        return Data(
            root=str(folder),
            views=self.views,
            image_size=self.size,
            view_size=self.plan.view_size,
            output_size=self.size,
            alignment="recorded",
            val_ratio=0.0,
            pack="off",
        )


PROTOCOL = Protocol(
    # The photos of `examples/captures` have another seed. A flash beside the lens is what most phones have.
    Synthesize("neuropbr:examples/materials", samples=16, size=256, view_size=384, seed=2026, kinds=("flash", "offset"))
)
"""The protocol of `neuropbr bench`: each example material once with the flash at the lens, and once beside it."""


@dataclass(frozen=True)
class BenchCaptures:
    """The protocol's captures on disk.

    Attributes:
        protocol: The protocol.
        folder: The dataset that they are.
        samples: The samples at the protocol's own sizes.
        view_digests: Digests of the content of each sample's photos, by the sample's id.
    """

    protocol: Protocol
    folder: Path
    samples: MaterialDataset
    view_digests: dict[str, tuple[str, ...]]

    @property
    def names(self) -> dict[str, Sample[Any]]:
        """The samples by their captures' names, such as `acg_Rock053_offset`."""
        return {capture_name(sample): sample for sample in self.samples.samples}

    @property
    def photos(self) -> str:
        """Digest of all photos. It may differ between machines that round differently, and the scores hardly do."""
        digest = hashlib.sha256()
        for of_sample in self.view_digests.values():
            digest.update("".join(of_sample).encode())
        return digest.hexdigest()[:8]

    def opened_for(self, data: Data) -> OpenedSamples:
        """Open the captures at a model's sizes."""
        return open_samples(replace(data, root=str(self.folder), pack="off"))


def capture_name(sample: Sample[Any]) -> str:
    """Name of a capture: what is photographed, and how."""
    return f"{sample.material}_{sample.capture_kind}"


def prepare_captures(protocol: Protocol | None = None, folder: Path | None = None) -> BenchCaptures:
    """Render the captures where they are missing, and open them.

    Args:
        protocol: The protocol; default: that of the command.
        folder: Where they are kept; default: a folder for this protocol among the user's data, so that they are
            rendered once.

    Raises:
        DataError: The materials are missing, or the folder holds other captures.
        RunError: Another process renders them.
        OSError: The folder cannot be written.
    """
    protocol = protocol or PROTOCOL
    if folder is None:
        folder = data_home() / "bench" / f"{VERSION}-{protocol.digest}"
    data = protocol.data(folder)
    rendered = replace(data, synthesize=protocol.plan)
    if captures_missing(rendered):
        ensure_captures(rendered)
    samples, digests = open_samples(data)
    return BenchCaptures(protocol, folder, samples, digests)


def write_photos(captures: BenchCaptures, place: Path) -> Path:
    """Write the photos for other tools, with a text that says what to do; the folder is there whole or not at all.

    Args:
        captures: The captures.
        place: A folder that does not exist, or is empty.

    Returns:
        The folder.

    Raises:
        DataError: The place is taken.
        OSError: It could not be written.
    """
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise DataError(f"{place}: is not empty; name a new folder for the photos")
    protocol = captures.protocol
    # Photos lose no detail when they are aligned at their own size.
    own_size = replace(captures.samples.data, image_size=protocol.plan.view_size or protocol.size)
    samples, _ = captures.opened_for(replace(own_size, output_size=own_size.image_size))
    records = []
    with replacing(place) as aside:
        frames = prepared_frames(samples, torch.device("cpu"))
        for sample, prepared in zip(samples.samples, track(frames, len(samples), "writing photos"), strict=True):
            name = capture_name(sample)
            folder = aside / PHOTOS / name
            folder.mkdir(parents=True)
            for index, view in enumerate(sample.views):
                (folder / view_name(index)).write_bytes(Path(view).read_bytes())
            write_cameras(folder / CAMERAS_NAME, {name: sample.cameras or ()})
            write_views(prepared.views[0], aside / ALIGNED / name)
            records.append({"name": name, "material": sample.material, "kind": sample.capture_kind})
        record = {
            "version": VERSION,
            "protocol": protocol.digest,
            "photos": captures.photos,
            "size": protocol.size,
            "captures": records,
        }
        write_json(aside / RECORD, record)
        write_text(aside / "README.txt", _README.format(version=VERSION, digest=protocol.digest))
    return place
