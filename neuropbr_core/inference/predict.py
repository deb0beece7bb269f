"""Models that are ready to predict, and the files that their maps are written to.

A model is a run's generator, or an exported file, which needs no run.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import write_map, write_png
from neuropbr_core.errors import DataError, ExportError
from neuropbr_core.exporting.inputs import Signature, prepare_inputs
from neuropbr_core.exporting.record import OpenedExport, open_export
from neuropbr_core.inference.refine import REFINE_STEPS, Refinement, refine
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import encode_map
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec
from neuropbr_core.model.weights import load_model, save_model_file, weights_digest
from neuropbr_core.shipped import resolve
from neuropbr_core.training.checkpoints.store import find_checkpoint


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator, ready to use.

    Attributes:
        generator: In eval mode.
        spec: Its architecture, and the input that it was trained for.
        checkpoint: Folder of its checkpoint, or the model's file.
        weights: SHA-256 of the weights file, in hexadecimal.
    """

    generator: Generator
    spec: ModelSpec
    checkpoint: Path
    weights: str

    def __call__(
        self,
        views: Float[Tensor, "B V 3 H W"],
        visible: Float[Tensor, "B V 1 H W"] | None = None,
        directions: Float[Tensor, "B V 3 H W"] | None = None,
    ) -> Maps:
        """Predict maps from tensors: `model(inputs)`, or `model(**model.prepare(views))`.

        Gradients are computed unless the caller turns them off.

        Args:
            views: sRGB-encoded views in [0, 1], which the model normalises itself; aligned if it was trained so.
            visible: What each view sees, in [0, 1]; everything by default.
            directions: Unit vectors to the camera; needed by a model that reads them.

        Returns:
            The maps by name, `(B, channels, H·s, W·s)`, on the model's device, s being the super-resolution.
        """
        given = [visible, directions]
        moved = [None if tensor is None else tensor.to(self.device) for tensor in given]
        maps: Maps = self.generator(views.to(self.device), *moved).maps
        return maps

    def to(self, device: torch.device | str) -> "LoadedGenerator":
        """Move the weights to a device, such as `"cuda"`."""
        self.generator.to(device)
        return self

    def save(self, file: str | Path) -> None:
        """Write the model as one file, which `load_generator` and `neuropbr infer` read without its run.

        Args:
            file: Where to; its suffix must be `.safetensors`.

        Raises:
            CheckpointError: The file has another suffix, or cannot be written.
        """
        save_model_file(self.generator, self.spec, Path(file))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        # The mean of the views is a buffer of every generator, whatever its components are.
        return self.generator.mean.device

    @property
    def origin(self) -> Path:
        """Where the model was read from."""
        return self.checkpoint

    @property
    def provenance(self) -> dict[str, str]:
        """Digest of the weights, for manifests."""
        return {"weights": self.weights}

    @property
    def signature(self) -> Signature:
        """Sizes and inputs of the model."""
        return Signature.of(self.spec)

    @property
    def needs_cameras(self) -> bool:
        """Whether the model takes aligned views, and therefore needs the camera of each view."""
        return self.signature.aligned

    def prepare(self, views: ViewSet) -> dict[str, Tensor]:
        """Turn views into the generator's inputs, as in training.

        Args:
            views: Any number of views; they are resized, or warped into the texture frame.

        Returns:
            Inputs by name; `views` are `(1, V, 3, S, S)`, sRGB-encoded in [0, 1], S being the spec's image size.

        Raises:
            DataError: The model needs cameras and the views have none.
        """
        return prepare_inputs(views.photos, self.signature, self.device, where=str(views.folder))

    @torch.no_grad()
    def apply(self, inputs: dict[str, Tensor]) -> Maps:
        """Predict maps `(1, channels, S, S)`, on the CPU, from prepared inputs; S is the spec's output size."""
        return {name: value.cpu() for name, value in self.generator(**inputs).maps.items()}

    def predict(self, views: ViewSet) -> Maps:
        """Predict the maps of one material: `prepare`, then `apply`."""
        return self.apply(self.prepare(views))


@dataclass(frozen=True)
class ExportedGenerator:
    """An exported file, ready to use. The metadata of the file is enough; no run is needed.

    Attributes:
        opened: The file.
    """

    opened: OpenedExport

    @property
    def origin(self) -> Path:
        """Where the model was read from."""
        return self.opened.path

    @property
    def provenance(self) -> dict[str, str]:
        """What the file's metadata say of weights, run and checkpoint, for manifests."""
        metadata = self.opened.record.metadata
        provenance: dict[str, str] = {}
        for key in ("weights", "run", "checkpoint"):
            if key in metadata:
                provenance[key] = metadata[key]
        return provenance

    @property
    def signature(self) -> Signature:
        """Sizes and inputs of the model."""
        return self.opened.signature

    @property
    def needs_cameras(self) -> bool:
        """Whether the model takes aligned views, and therefore needs the camera of each view."""
        return self.signature.aligned

    def prepare(self, views: ViewSet) -> dict[str, Tensor]:
        """Turn views into the file's inputs, as in training.

        Args:
            views: At least as many as the file takes; the first ones are used.

        Returns:
            Inputs by name; `views` are `(1, V, 3, S, S)`, sRGB-encoded in [0, 1], S being the signature's image size.

        Raises:
            DataError: There are too few views, or cameras are missing.
        """
        wanted = self.signature.views
        given = len(views.paths)
        # A file has a fixed number of views. To repeat some would give them more weight than the user means.
        if given < wanted:
            raise DataError(f"{views.folder}: has {given} views, but {self.opened.path} takes {wanted}; add some")
        photos = views.photos.repeated(wanted)
        return prepare_inputs(photos, self.signature, where=str(views.folder))

    def apply(self, inputs: dict[str, Tensor]) -> Maps:
        """Predict maps `(1, channels, S, S)` from prepared inputs; S is the signature's output size.

        Raises:
            ExportError: The file does not run, or returns something else than these maps.
        """
        returned = self.opened.program(inputs)
        side = self.signature.output_size
        maps: Maps = {}
        # A file that somebody changed may return anything, which would only fail where the maps are used.
        for name, spec in MAPS.items():
            if name not in returned:
                raise ExportError(f"{self.opened.path}: returns no map {name}; export the model again")
            values = returned[name]
            expected = (1, spec.channels, side, side)
            if values.shape != expected or not values.is_floating_point():
                raise ExportError(
                    f"{self.opened.path}: returns the map {name} as {tuple(values.shape)} of {values.dtype}, and not "
                    f"as {expected} of real numbers; export the model again"
                )
            maps[name] = values
        return maps

    def predict(self, views: ViewSet) -> Maps:
        """Predict the maps of one material: `prepare`, then `apply`."""
        return self.apply(self.prepare(views))


def load_generator(run: str | Path, checkpoint: str = "best") -> LoadedGenerator:
    """Load a trained generator.

    Args:
        run: A run's folder, one checkpoint's folder, a model's file (`model.safetensors`), or `neuropbr:` and the name
            of a model that ships with neuropbr.
        checkpoint: Of a run: `best`, `latest`, or a checkpoint's name such as `epoch_0010`.

    Returns:
        The generator on the CPU, in eval mode.

    Raises:
        CheckpointError: There is no such checkpoint, or it is damaged.
        PluginError: A component of the model is not installed.
        NeuroPBRError: No model of that name ships with neuropbr.
    """
    # A checkpoint's own folder is found too, so that a copy of it works without its run.
    place = resolve(str(run))
    if not place.is_file():
        place = find_checkpoint(place, checkpoint)
    generator, spec = load_model(place)
    # Now: a run that still trains may replace its best checkpoint before these weights are done predicting.
    return LoadedGenerator(generator, spec, place, weights_digest(place))


def load_exported(path: str | Path, exporter: str | None = None, *, trust: bool = False) -> ExportedGenerator:
    """Load an exported file.

    Args:
        path: A file that `neuropbr export` or `neuropbr run` wrote.
        exporter: Name of its exporter, if neither a record beside the file nor its suffix tells.
        trust: Whether the file may run whatever is in it; see `exporting.trust`.

    Raises:
        ExportError: The file is missing, damaged or changed, its exporter is unknown or cannot work here, or it is a
            stranger's and could do more than compute.
        PluginError: Its exporter is not installed.
    """
    loaded = ExportedGenerator(open_export(Path(path), exporter, trust=trust))
    # Read once now, so that a damaged file is an error here and not at the first prediction.
    loaded.opened.program  # noqa: B018
    return loaded


def refine_prediction(
    model: LoadedGenerator | ExportedGenerator,
    views: ViewSet,
    inputs: dict[str, Tensor],
    maps: Maps,
    steps: int = REFINE_STEPS,
) -> Refinement:
    """Fit predicted maps to the views that they were predicted from.

    Args:
        model: The model that predicted them.
        views: The views, taken with the flash at the lens.
        inputs: What `model.prepare` made of them.
        maps: What `model.apply` predicted.
        steps: Steps of the fit.

    Returns:
        The refined maps and the light.

    Raises:
        DataError: The model takes views as they are, so that it is not known which texel a pixel shows.
    """
    if not model.needs_cameras or views.positions is None:
        raise DataError(
            f"{views.folder}: refinement needs to know where each view was taken from, and a model that was trained on "
            f"aligned views; this model takes views as they are"
        )
    photos = inputs["views"][0]
    # An exported file takes the first views only.
    positions = views.positions[: len(photos)]
    visible = inputs.get("visible")
    if visible is not None:
        visible = visible[0]
    return refine(
        maps,
        photos,
        positions,
        visible,
        steps=steps,
        flash_fired=views.flash_fired,
        exposure_known=views.exposure_known,
    )


def write_maps(maps: Maps, folder: str | Path) -> list[Path]:
    """Write one material's maps as 8-bit PNG.

    Args:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`.
        folder: Created when missing; files of the same names are replaced.

    Returns:
        The files: albedo sRGB-encoded, roughness and metallic grey and linear, normals OpenGL (+Y).

    Raises:
        OSError: A file could not be written.
    """
    paths = []
    for name, value in maps.items():
        paths.append(write_map(Path(folder), MAPS[name], encode_map(MAPS[name], value[0]).numpy()))
    return paths


def resample_confidence(confidence: Float[Tensor, "1 1 H W"], size: int) -> Float[Tensor, "1 1 size size"]:
    """Resample a confidence map to the size of maps, by means of areas or linearly."""
    return F.interpolate(confidence, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def write_confidence(confidence: Float[Tensor, "1 1 H W"], folder: str | Path) -> Path:
    """Write a confidence map as 8-bit grey PNG, white where the model is sure.

    Args:
        confidence: In [0, 1] (see `ensemble.Ensemble`).
        folder: Created when missing; `confidence.png` is replaced.

    Returns:
        The file.

    Raises:
        OSError: The file could not be written.
    """
    path = Path(folder) / "confidence.png"
    write_png(path, (confidence[0, 0].clamp(0, 1) * 255).round().byte().numpy())
    return path


def write_views(views: Float[Tensor, "V 3 h w"], folder: str | Path) -> list[Path]:
    """Write the views that the network received, resized or aligned but not normalised, as 8-bit PNG.

    Args:
        views: sRGB-encoded in [0, 1].
        folder: Created when missing; `0.png`, `1.png`, … are replaced.

    Returns:
        The files.

    Raises:
        OSError: A file could not be written.
    """
    pixels = (views.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    paths = []
    for index, view in enumerate(pixels):
        path = Path(folder) / f"{index}.png"
        write_png(path, view)
        paths.append(path)
    return paths
