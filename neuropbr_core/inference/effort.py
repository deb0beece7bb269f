"""How much is computed for a prediction: once, from several sides, or tile by tile."""

from dataclasses import dataclass

from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import DataError
from neuropbr_core.inference.ensemble import predict_ensemble
from neuropbr_core.inference.predict import ExportedGenerator, LoadedGenerator
from neuropbr_core.inference.tiled import predict_large, sharpness_of
from neuropbr_core.inference.views import ViewSet


@dataclass(frozen=True)
class Effort:
    """How maps are predicted.

    Attributes:
        ensemble: Whether predictions from several sides are averaged.
        resolution: Side of the network's input in pixels, tile by tile where needed; None for the model's own.
        max_memory: Bytes that the tiles may take; None for what is free.
    """

    ensemble: bool = False
    resolution: int | None = None
    max_memory: int | None = None


@dataclass(frozen=True)
class Predicted:
    """Maps, and what is known of them.

    Attributes:
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`, on the CPU.
        sharpness: Fine detail of the albedo as a share of the photos'.
        confidence: `(1, 1, H, W)` in [0, 1], of an ensemble; otherwise None.
        tiles: Number of tiles.
        tile: Side of a tile in pixels; 0 where the maps were predicted at once.
    """

    maps: Maps
    sharpness: float
    confidence: Tensor | None = None
    tiles: int = 1
    tile: int = 0


def predict_maps(
    model: LoadedGenerator | ExportedGenerator, views: ViewSet, inputs: dict[str, Tensor], effort: Effort
) -> Predicted:
    """Predict the maps of one material.

    Args:
        model: The model.
        views: The views.
        inputs: What `model.prepare` made of them.
        effort: How the maps are predicted.

    Raises:
        DataError: Tiles are wanted from an exported file, which has one size; or as `predict_large`.
    """
    if effort.resolution is not None:
        if not isinstance(model, LoadedGenerator):
            raise DataError(f"{model.origin}: an exported file has one size; a resolution needs a run or a model")
        large = predict_large(model, views, effort.resolution, max_memory=effort.max_memory)
        return Predicted(large.maps, large.sharpness, tiles=large.tiles, tile=large.tile)
    if effort.ensemble:
        maps, confidence = predict_ensemble(model.apply, inputs, fewer=isinstance(model, LoadedGenerator))
        return Predicted(maps, sharpness_of(maps, inputs), confidence)
    maps = model.apply(inputs)
    return Predicted(maps, sharpness_of(maps, inputs))
