"""The maps of a folder of photos in one call, for programs and notebooks."""

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DataError
from neuropbr_core.inference.doubts import find_doubts
from neuropbr_core.inference.effort import Effort, predict_maps, usual_steps
from neuropbr_core.inference.predict import (
    ExportedGenerator,
    LoadedGenerator,
    load_generator,
    write_confidence,
    write_maps,
)
from neuropbr_core.inference.views import read_capture
from neuropbr_core.inference.white import WhiteReference, calibrate
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.shipped import DEFAULT_MODEL

_SHOWN_SIZE = 256
"""Side of the pictures in a notebook, in pixels."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The maps of one material; a notebook shows them as pictures.

    Attributes:
        name: Name of the folder of photos.
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`, on the CPU.
        confidence: How far refined maps can be trusted, `(1, 1, H, W)` in [0, 1]; None where they are as predicted.
        made_by: What made them, for manifests: the model, its weights, and where the photos are.
        warnings: Why the maps may be wrong, such as missing photos; empty for photos like those of training.
    """

    name: str
    maps: Maps
    confidence: Tensor | None
    made_by: Mapping[str, str]
    warnings: tuple[str, ...]

    def write(self, folder: str | Path) -> list[Path]:
        """Write the maps as PNG files, and `confidence.png` where there is one.

        Args:
            folder: See `write_maps`.

        Returns:
            The files.

        Raises:
            OSError: A file could not be written.
        """
        written = write_maps(self.maps, folder)
        if self.confidence is not None:
            written.append(write_confidence(self.confidence, Path(folder)))
        return written

    def __repr__(self) -> str:
        """Name the material, its maps and their size."""
        sizes = {f"{value.shape[-1]}x{value.shape[-2]}" for value in self.maps.values()}
        return f"Prediction({self.name!r}, {', '.join(self.maps)}, {', '.join(sorted(sizes))})"

    def _repr_html_(self) -> str:
        """Show the maps beside each other, and the warnings below."""
        figures = []
        for name, value in self.maps.items():
            pixels = encode_map(MAPS[name], value[0]).numpy().transpose(1, 2, 0)
            # Pillow takes pictures of one channel without the axis.
            picture = Image.fromarray(pixels.squeeze())
            picture.thumbnail((_SHOWN_SIZE, _SHOWN_SIZE))
            file = io.BytesIO()
            picture.save(file, "PNG")
            data = base64.b64encode(file.getvalue()).decode()
            image = f'<img alt="{name}" src="data:image/png;base64,{data}">'
            figures.append(f'<figure style="display:inline-block">{image}<figcaption>{name}</figcaption></figure>')
        for warning in self.warnings:
            figures.append(f"<p>{html.escape(warning)}</p>")
        return "".join(figures)


def infer(
    photos: str | Path,
    model: str | Path | LoadedGenerator | ExportedGenerator = f"neuropbr:{DEFAULT_MODEL}",
    *,
    cameras: str | Path | None = None,
    refine: int | None = None,
    white: WhiteReference | None = None,
    device: str = "auto",
) -> Prediction:
    """Predict the maps of a folder of photos, as `neuropbr infer` does.

    Args:
        photos: Folder with photos of one flat material; see `read_views`.
        model: What `load_generator` takes, or a model that is loaded already.
        cameras: See `read_views`. Without cameras, photos are registered where the model needs cameras.
        refine: Steps in which the maps are fitted to the photos, 0 for none; None for 200 with a model that ships, and
            else for none.
        white: White paper or a grey card in the first photo, which tells its exposure; see `calibrate`.
        device: `auto`, `cpu`, `cuda` or `mps`; for a model that is not loaded yet.

    Returns:
        The maps, and why they may be wrong.

    Raises:
        DataError: The photos cannot be read or registered, the white reference cannot be used, or the model takes views
            as they are and cannot be refined.
        CheckpointError: There is no such checkpoint, or it is damaged.
        DeviceError: The device is not there.
        ValueError: The number of steps is negative.
    """
    if isinstance(model, str | Path):
        model = load_generator(model).to(choose_device(device))
    if refine is None:
        refine = usual_steps(model, None, None)
    if refine < 0:
        raise ValueError(f"refine is a number of steps, 0 or more; found {refine}")
    if refine and not model.needs_cameras:
        raise DataError(f"{model.origin}: takes views as they are, so that its maps cannot be refined; use refine=0")
    # Photos are shrunk while they are read, to no more than the network sees of them.
    views = read_capture(photos, cameras, register=model.needs_cameras, size=model.signature.photo_size)
    if white is not None:
        views = calibrate(views, white)
    inputs = model.prepare(views)
    predicted = predict_maps(model, views, inputs, Effort(refine=refine))
    warnings = (*views.refusals, *find_doubts(views, inputs, model.signature))
    made_by = {"model": str(model.origin), **model.provenance, **predicted.provenance, "views": str(views.folder)}
    return Prediction(Path(photos).resolve().name, predicted.maps, predicted.confidence, made_by, warnings)
