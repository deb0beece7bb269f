"""How much is computed for maps: a prediction at once, from several sides or tile by tile, and steps of refinement."""

from dataclasses import dataclass, replace

from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import DataError
from neuropbr_core.exporting.inputs import Signature
from neuropbr_core.inference.ensemble import predict_ensemble, predict_turned
from neuropbr_core.inference.flash import lacks_flash, without_flash
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator, refine_prediction
from neuropbr_core.inference.refine import REFINE_STEPS, Refinement, refined_confidence
from neuropbr_core.inference.tiled import predict_large, sharpness_of
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.materials.seams import close_borders
from neuropbr_core.shipped import is_shipped_model

REFINED_SIDE = 4096
"""Largest side of maps that are refined, with which the process takes about 2.7 GiB."""


@dataclass(frozen=True)
class Effort:
    """How maps are predicted.

    Attributes:
        ensemble: Whether predictions from several sides are averaged.
        resolution: Side of the network's input in pixels, tile by tile where needed; None for the model's own.
        max_memory: Bytes that the tiles may take; None for what is free.
        refine: Steps in which the maps are fitted to the photos; 0 leaves them as predicted.
    """

    ensemble: bool = False
    resolution: int | None = None
    max_memory: int | None = None
    refine: int = 0


@dataclass(frozen=True)
class Predicted:
    """Maps, and what is known of them.

    Attributes:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`, on the CPU.
        sharpness: Fine detail of the albedo as a share of the photos'.
        confidence: `(1, 1, H, W)` in [0, 1], of a refinement or an ensemble; otherwise None.
        tiles: Number of tiles.
        tile: Side of a tile in pixels; 0 where the maps were predicted at once.
        refinement: How the maps were refined; None where they are as predicted.
        is_cautious: Whether the maps are those of `flash.without_flash`, because the photos lack the flash that the
            model knows.
    """

    maps: Maps
    sharpness: float
    confidence: Tensor | None = None
    tiles: int = 1
    tile: int = 0
    refinement: Refinement | None = None
    is_cautious: bool = False

    @property
    def provenance(self) -> dict[str, str]:
        """How the maps differ from a plain prediction, for manifests."""
        if self.is_cautious:
            return {"caution": "normals flat, other maps moved towards cautious values: the photos lack a flash"}
        if self.refinement is None:
            return {}
        return {"refined": f"{self.refinement.steps} steps, relief scaled by {self.refinement.relief:.2f}"}


def usual_steps(model: LoadedGenerator | ExportedGenerator, resolution: int | None, max_memory: int | None) -> int:
    """Steps of refinement where the user names no number.

    Models that ship are refined, because refinement was measured with their predictions. The others show what they have
    learnt. Memory that the user has limited is left to the tiles.

    Args:
        model: The model.
        resolution: See `Effort`.
        max_memory: See `Effort`.
    """
    if not is_shipped_model(model.origin) or not model.needs_cameras:
        return 0
    if max_memory is not None or (resolution or 0) > REFINED_SIDE:
        return 0
    return REFINE_STEPS


def with_closed_borders(maps: Maps) -> Maps:
    """Maps whose borders meet where the material tiles (`seams.close_borders`).

    Maps of a side above `REFINED_SIDE` stay as they are, for the memory that it takes.
    """
    if maps["albedo"].shape[-1] > REFINED_SIDE:
        return maps
    return close_borders(maps)


def is_without_flash(
    signature: Signature, inputs: dict[str, Tensor], positions: Tensor | None, fired: bool | None = None
) -> bool:
    """Whether photos lack the flash that a model knows, as far as they or their files tell; see `lacks_flash`.

    Args:
        signature: Of the model.
        inputs: What the model is given of one material. Without `visible`, the geometry is built into the model, and
            photos tell nothing of their light.
        positions: Cameras `(V, 3)` in tile sides; None when unknown.
        fired: Whether the camera's flash fired.
    """
    if not signature.flash or positions is None or "visible" not in inputs:
        return False
    views = inputs["views"][0]
    return lacks_flash(views, inputs["visible"][0], positions[: len(views)], fired)


def predict_maps(
    model: LoadedGenerator | ExportedGenerator, views: ViewSet, inputs: dict[str, Tensor], effort: Effort
) -> Predicted:
    """Predict the maps of one material, and refine them where that is wanted.

    What is refined is the mean of four quarter-turns, unless the model reads no directions or predicts tiles. A model
    that was trained with a flash is believed only in part where photos lack one (`flash.without_flash`), and its maps
    are not refined. The borders of materials that tile meet.

    Args:
        model: The model.
        views: The views.
        inputs: What `model.prepare` made of them.
        effort: How the maps are predicted.

    Raises:
        DataError: Tiles are wanted from an exported file, which has one size; or as `predict_large` and
            `refine_prediction`.
    """
    predicted = _predict(model, views, inputs, effort)
    if is_without_flash(model.signature, inputs, views.positions, views.flash_fired):
        maps = without_flash(predicted.maps, inputs["views"], inputs["visible"])
        predicted = replace(predicted, maps=maps, is_cautious=True)
    elif effort.refine:
        refinement = refine_prediction(model, views, inputs, predicted.maps, effort.refine)
        # Photos that refinement refuses stay as predicted, as a warning has told.
        if refinement.steps or refinement.interrupted:
            predicted = replace(
                predicted,
                maps=refinement.maps,
                confidence=refined_confidence(refinement),
                refinement=refinement,
            )
    # That of tiles is of photos larger than the prepared ones.
    if effort.resolution is None:
        predicted = replace(predicted, sharpness=sharpness_of(predicted.maps, inputs))
    return replace(predicted, maps=with_closed_borders(predicted.maps))


def _predict(
    model: LoadedGenerator | ExportedGenerator, views: ViewSet, inputs: dict[str, Tensor], effort: Effort
) -> Predicted:
    if effort.resolution is not None:
        if not isinstance(model, LoadedGenerator):
            raise DataError(f"{model.origin}: an exported file has one size; a resolution needs a run or a model")
        large = predict_large(model, views, effort.resolution, max_memory=effort.max_memory)
        return Predicted(large.maps, large.sharpness, tiles=large.tiles, tile=large.tile)
    if effort.ensemble:
        maps, confidence = predict_ensemble(model.apply, inputs, fewer=isinstance(model, LoadedGenerator))
        return Predicted(maps, sharpness_of(maps, inputs), confidence)
    if effort.refine:
        maps = predict_turned(model.apply, inputs)
    else:
        maps = model.apply(inputs)
    return Predicted(maps, sharpness_of(maps, inputs))
