"""Maps larger than a network can predict at once: tiles that overlap, each from its own part of the photos.

A tile is prepared like a crop in training, so directions, visibility and the overview are those of its place in the
frame. Neighbouring tiles are mixed along ramps, and nothing but the maps grows with their size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Maps, Overview
from neuropbr_core.data.batches.batch import Batch
from neuropbr_core.data.batches.prepare import Inputs, align
from neuropbr_core.data.images import fit_photo
from neuropbr_core.errors import DataError, ModelError
from neuropbr_core.inference.predict import LoadedGenerator
from neuropbr_core.inference.views import ViewSet
from neuropbr_core.maps import ALBEDO, MAPS
from neuropbr_core.materials.alignment import identity_frame, taps_needed, view_directions, warp_views
from neuropbr_core.materials.color import LUMINANCE
from neuropbr_core.memory import free_memory, used_memory
from neuropbr_core.model.merge import visible_median
from neuropbr_core.model.profile import overview_of
from neuropbr_core.model.ratios import ratio_means
from neuropbr_core.reporting import reporter

OVERLAP = 96
"""Pixels of the input that neighbouring tiles share, at least; rounded up to the encoder's stride."""

_MARGIN = 1 / 4
"""Share of the overlap, at each end, in which only the tile counts that continues there: the other one has its border
in it, beyond which its network sees nothing."""

_LARGEST_TILE = 1024
_PHOTO_MARGIN = 4
"""Pixels of a photo around a tile's footprint, so that interpolation at the tile's border finds its neighbours."""

_DEFAULT_SHARE = 0.5
"""Share of the free memory that is used when the user names no limit."""


@dataclass(frozen=True)
class LargeMaps:
    """The result of a prediction by tiles.

    Attributes:
        maps: Maps `(1, channels, S, S)`, on the CPU.
        tile: Side of a tile of the input in pixels.
        tiles: Number of tiles.
        sharpness: Fine detail of the albedo as a share of that of the photos; see `sharpness`.
    """

    maps: Maps
    tile: int
    tiles: int
    sharpness: float


def predict_large(
    model: LoadedGenerator,
    views: ViewSet,
    resolution: int,
    *,
    max_memory: int | None = None,
    tile: int | None = None,
) -> LargeMaps:
    """Predict maps from photos at another resolution than the model's own.

    Args:
        model: A trained generator.
        views: Photos, as large as they are.
        resolution: Side of the network's input in pixels; a multiple of the encoder's coarsest stride.
        max_memory: Bytes that the process may use; default: half of what is free.
        tile: Side of a tile in pixels; default: the largest that fits.

    Raises:
        DataError: The model needs cameras and the views have none.
        ModelError: The resolution does not suit the encoder, the memory does not suffice for the smallest tile, or
            `tile` is smaller than what tiles share.
    """
    frame = _Frame(model, views, resolution)
    stride = model.generator.encoder.strides[-1]
    if resolution % stride:
        lower = resolution - resolution % stride
        raise ModelError(
            f"resolution {resolution}: this encoder takes multiples of {stride} pixels, such as {lower} or "
            f"{lower + stride}"
        )
    if tile is None:
        tile = _tile_side(frame, max_memory)
    overlap = -(-OVERLAP // stride) * stride
    if overlap >= tile < resolution:
        raise ModelError(f"tile {tile}: tiles overlap by {overlap} pixels; choose larger ones")
    starts = tile_starts(resolution, tile, overlap)
    scale = model.spec.output_size // model.spec.image_size
    maps: Maps = {}
    for name, spec in MAPS.items():
        maps[name] = torch.zeros(1, spec.channels, resolution * scale, resolution * scale)
    detail = _Detail()
    ramps = _ramps(starts, min(tile, resolution), resolution)
    bar = reporter().bar(len(starts) ** 2, "predicting tiles")
    try:
        for row, column in product(range(len(starts)), repeat=2):
            inputs = frame.inputs(starts[column], starts[row], min(tile, resolution))
            predicted = frame.predict(inputs)
            weight = _enlarged(ramps[row], scale)[:, None] * _enlarged(ramps[column], scale)[None]
            top = starts[row] * scale
            left = starts[column] * scale
            for name, value in predicted.items():
                side = value.shape[-1]
                maps[name][:, :, top : top + side, left : left + side] += value * weight
            detail.add(predicted, inputs, ramps[row], ramps[column])
            bar.advance()
    finally:
        bar.close()
    for name, spec in MAPS.items():
        # Means of unit vectors are shorter than 1 where tiles differ.
        if name in maps and spec.activation == "slopes":
            # In place and a band at a time: a copy would take as much memory as the map.
            for band in torch.split(maps[name], 256, dim=2):
                band.div_(band.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-12))
    return LargeMaps(maps, min(tile, resolution), len(starts) ** 2, detail.share())


def tile_starts(resolution: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis; they cover all and overlap by at least `overlap`.

    Args:
        resolution: Pixels to cover.
        tile: Side of a tile; a multiple of the encoder's stride, as are the results.
        overlap: Smallest overlap, a multiple of the stride, smaller than `tile`.
    """
    if tile >= resolution:
        return [0]
    step = tile - overlap
    starts = list(range(0, resolution - tile, step))
    # The last tile ends where the frame does. It overlaps more than it must, which costs less than a narrow tile.
    starts.append(resolution - tile)
    return starts


def sharpness(albedo: Float[Tensor, "1 3 H W"], photo: Float[Tensor, "1 3 H W"]) -> float:
    """Compare the fine detail of an albedo with that of a photo, or of the median of photos, of the same frame.

    Args:
        albedo: sRGB-encoded in [0, 1].
        photo: sRGB-encoded in [0, 1], aligned to the albedo.

    Returns:
        The root mean square of the Laplacian of the albedo's brightness divided by that of the photo's; both are taken
        relative to the mean brightness, so that exposure does not count. 1 means as sharp as the photo, whose noise
        counts as detail; NaN for a photo without any detail.
    """
    detail = _Detail()
    detail.compare(albedo, photo, torch.ones(albedo.shape[-2]), torch.ones(albedo.shape[-1]))
    return detail.share()


def sharpness_of(maps: Maps, inputs: Mapping[str, Tensor]) -> float:
    """`sharpness` of a prediction beside the median of the views that it was made from.

    Args:
        maps: The prediction, with an albedo.
        inputs: A model's prepared inputs, a batch of one.
    """
    views = inputs["views"].cpu()
    visible = torch.ones_like(views[:, :, :1])
    if "visible" in inputs:
        visible = inputs["visible"].cpu()
    detail = _Detail()
    ones = torch.ones(views.shape[-1])
    detail.add(maps, Inputs(views, visible, None), ones, ones)
    return detail.share()


class _Frame:
    """The whole texture, of which tiles are prepared one by one."""

    def __init__(self, model: LoadedGenerator, views: ViewSet, resolution: int) -> None:
        self.model = model
        self.resolution = resolution
        self.aligned = model.needs_cameras
        self.where = str(views.folder)
        if self.aligned and (views.homographies is None or views.positions is None):
            raise DataError(
                f"{self.where}: this model was trained on aligned views and needs to know where each view was taken "
                f"from; put a cameras.json into the folder, give one with --cameras, or call register_views"
            )
        if any(mask is not None for mask in views.masks):
            raise DataError(
                f"{self.where}: a photo has transparent pixels, which tiles do not take yet; save the photos without "
                f"transparency, or leave the resolution out"
            )
        self.homographies = views.homographies
        self.positions = views.positions
        # Photos grow with the input, as in training, but not beyond what they are: that would add no detail.
        largest = max(max(image.shape[-2:]) for image in views.images)
        side = round(model.signature.photo_size * resolution / model.signature.image_size)
        side = min(side, max(largest, model.signature.photo_size))
        if not self.aligned:
            side = resolution
        self.photos = []
        for image in views.images:
            self.photos.append(torch.from_numpy(fit_photo(image.cpu().numpy(), side)))
        self.taps = 1
        if self.homographies is not None and self.aligned:
            # One number for all tiles: neighbours must be equally sharp.
            self.taps = taps_needed(self.homographies[None].float(), identity_frame(1), (side, side), resolution)
        self.overview: Overview | None = None
        self.ratio_means: Tensor | None = None
        if self.aligned:
            self._look_at_all()

    def inputs(self, left: int, top: int, side: int) -> Inputs:
        """The generator's inputs for one tile, on the model's device."""
        device = self.model.device
        if not self.aligned:
            parts = [photo[None, None, :, top : top + side, left : left + side] for photo in self.photos]
            views = torch.cat(parts, dim=1).to(device).float() / 255
            return Inputs(views, torch.ones_like(views[:, :, :1]), None)
        crop = identity_frame(1)
        crop[:, 0] = torch.tensor([side / self.resolution, 0, left / self.resolution])
        crop[:, 1] = torch.tensor([0, side / self.resolution, top / self.resolution])
        warped = []
        for photo, homography in zip(self.photos, self._given_homographies(), strict=True):
            part, moved = _footprint(photo, homography.float(), crop[0])
            values = part[None, None].to(device).float() / 255
            frame = crop.to(device)
            warped.append(warp_views(values, moved[None, None].to(device), frame, side, self.taps))
        views = torch.cat([view for view, _ in warped], dim=1)
        visible = torch.cat([mask for _, mask in warped], dim=1)
        positions = self._given_positions()[None].float().to(device)
        directions = view_directions(positions, crop.to(device), side)
        return Inputs(views, visible, directions, self.overview)

    @torch.no_grad()
    def predict(self, inputs: Inputs) -> Maps:
        """The maps of a tile, on the CPU."""
        prediction = self.model.generator(*inputs, ratio_means=self.ratio_means)
        return {name: value.cpu() for name, value in prediction.maps.items()}

    def _look_at_all(self) -> None:
        """Keep what a tile must know of the whole frame, from the frame at the model's own size.

        Every tile is conditioned on the same overview, and the exposure of each view is that of the whole view: means
        over tiles would differ from tile to tile, and so would the maps.
        """
        fitted = [torch.from_numpy(fit_photo(photo.numpy(), self.model.signature.photo_size)) for photo in self.photos]
        batch = Batch(
            ids=[self.where],
            materials=[self.where],
            views=torch.stack(fitted)[None],
            targets={},
            crop_to_texture=identity_frame(1),
            homographies=self._given_homographies()[None].float(),
            positions=self._given_positions()[None].float(),
        )
        _, inputs = align(batch, self.model.signature.image_size, self.model.device)
        generator = self.model.generator
        if generator.profile is not None and inputs.directions is not None:
            self.overview = overview_of(inputs.views, inputs.visible, inputs.directions)
        if generator.ratio_images:
            light = None
            if generator.directed:
                light = inputs.directions
            self.ratio_means = ratio_means(inputs.views, inputs.visible, light)

    def _given_homographies(self) -> Tensor:
        assert self.homographies is not None  # noqa: S101 - checked in `__init__` for models that align
        return self.homographies

    def _given_positions(self) -> Tensor:
        assert self.positions is not None  # noqa: S101 - as above
        return self.positions


def _footprint(photo: Tensor, homography: Tensor, crop: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a photo that a tile needs, and the homography into it.

    Only this part becomes floats, so memory follows the tile and not the photo.
    """
    height, width = photo.shape[-2:]
    corners = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    x, y, w = homography.double() @ crop.double() @ corners
    if bool((w <= 0).any()):
        return photo, homography  # partly behind the camera: no rectangle bounds it
    columns = x / w * width
    rows = y / w * height
    left = int(columns.min().floor().clamp(0, width - 1)) - _PHOTO_MARGIN
    right = int(columns.max().ceil().clamp(1, width)) + _PHOTO_MARGIN
    top = int(rows.min().floor().clamp(0, height - 1)) - _PHOTO_MARGIN
    bottom = int(rows.max().ceil().clamp(1, height)) + _PHOTO_MARGIN
    left, top = max(0, left), max(0, top)
    right, bottom = min(width, right), min(height, bottom)
    # From [0, 1]² of the photo to [0, 1]² of the part.
    into_part = torch.tensor(
        [
            [width / (right - left), 0.0, -left / (right - left)],
            [0.0, height / (bottom - top), -top / (bottom - top)],
            [0.0, 0.0, 1.0],
        ],
        dtype=torch.float64,
    )
    return photo[:, top:bottom, left:right], (into_part @ homography.double()).float()


def _tile_side(frame: _Frame, max_memory: int | None) -> int:
    """The largest tile whose prediction fits into the memory beside the maps."""
    model = frame.model
    stride = model.generator.encoder.strides[-1]
    smallest = -(-2 * OVERLAP // stride) * stride
    pixel = _bytes_for_pixel(frame, stride)
    scale = model.spec.output_size // model.spec.image_size
    channels = sum(spec.channels for spec in MAPS.values())
    least = min(smallest, frame.resolution)
    limit = max_memory
    if limit is None:
        free = free_memory()
        # Where nobody tells how much is free, the smallest tile is the safest.
        if free is None:
            return least
        limit = used_memory() + int(_DEFAULT_SHARE * free)
    # The maps are there from the first tile to the last, beside what the process has already.
    used = used_memory() + 4 * channels * (frame.resolution * scale) ** 2
    side = int(math.sqrt(max(0, limit - used) / pixel)) // stride * stride
    if side < least:
        needed = used + pixel * least**2
        raise ModelError(
            f"maps from an input of {frame.resolution} pixels need at least {needed / 2**30:.2f} GiB; give "
            f"--max-memory at least this number, or a smaller --resolution"
        )
    return min(side, _LARGEST_TILE)


def _bytes_for_pixel(frame: _Frame, stride: int) -> float:
    """Memory that a prediction takes for each pixel of the input: all that modules return, as if nothing were freed."""
    probe = -(-64 // stride) * stride
    total = 0

    def count(_module: nn.Module, _arguments: object, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    hooks = []
    for module in frame.model.generator.modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(count))
    try:
        inputs = frame.inputs(0, 0, min(probe, frame.resolution))
        frame.predict(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for value in (inputs.views, inputs.visible, inputs.directions):
        if value is not None:
            # The inputs themselves, the taps and the footprints in the photos.
            total += 4 * value.numel() * value.element_size()
    return total / min(probe, frame.resolution) ** 2


def _ramps(starts: list[int], tile: int, resolution: int) -> list[Tensor]:
    """Weights of each tile along one axis; at every pixel they add up to 1."""
    ramps = [torch.ones(tile) for _ in starts]
    places = torch.arange(resolution) + 0.5
    for index, (start, following) in enumerate(pairwise(starts)):
        shared = start + tile - following
        margin = shared * _MARGIN
        # Rising from 0 to 1 over the middle of what both tiles see.
        rise = ((places[following : start + tile] - following - margin) / (shared - 2 * margin)).clamp(0, 1)
        ramps[index][following - start :] *= 1 - rise
        ramps[index + 1][:shared] *= rise
    # The last tile may begin soon after the one before it. Then three tiles share pixels, and their ramps exceed 1.
    total = torch.zeros(resolution)
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + tile] += ramp
    return [ramp / total[start : start + tile] for start, ramp in zip(starts, ramps, strict=True)]


def _enlarged(ramp: Tensor, scale: int) -> Tensor:
    if scale == 1:
        return ramp
    return F.interpolate(ramp[None, None], scale_factor=scale, mode="linear", align_corners=False)[0, 0]


class _Detail:
    """Sums up fine detail of albedo and photos over tiles."""

    def __init__(self) -> None:
        # Squares of Laplacians, and brightness.
        self._albedo = torch.zeros(2, dtype=torch.float64)
        self._photo = torch.zeros(2, dtype=torch.float64)

    def add(self, predicted: Maps, inputs: Inputs, rows: Tensor, columns: Tensor) -> None:
        """Add a tile."""
        if ALBEDO.name not in predicted:
            return
        albedo = predicted[ALBEDO.name]
        scale = albedo.shape[-1] // inputs.views.shape[-1]
        if scale > 1:
            albedo = F.avg_pool2d(albedo, scale)
        self.compare(albedo, visible_median(inputs.views, inputs.visible).cpu(), rows, columns)

    def compare(self, albedo: Tensor, photo: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Add an albedo beside a photo, with weights of rows and columns."""
        weight = (rows[:, None] * columns[None])[1:-1, 1:-1].double()
        for image, sums in ((albedo, self._albedo), (photo, self._photo)):
            brightness = (image[0] * torch.tensor(LUMINANCE).view(3, 1, 1)).sum(dim=0).double()
            middle = brightness[1:-1, 1:-1]
            laplacian = (
                brightness[:-2, 1:-1] + brightness[2:, 1:-1] + brightness[1:-1, :-2] + brightness[1:-1, 2:] - 4 * middle
            )
            sums.add_(torch.stack(((laplacian.square() * weight).sum(), (middle * weight).sum())))

    def share(self) -> float:
        """Detail of the albedo relative to that of the photos."""
        albedo, photo = (sums[0].sqrt() / sums[1].clamp_min(1e-9) for sums in (self._albedo, self._photo))
        if float(self._photo[0]) == 0:
            return math.nan
        return float(albedo / photo)
