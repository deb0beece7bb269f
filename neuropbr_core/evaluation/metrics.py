"""Errors of predicted maps against the truth, over valid pixels only, and their means.

`measure` gives one value an image; `RankStatistic` needs the pixels of a whole set. `measure_rerendering` compares
pictures rendered with the maps, whose errors an artist would see. `RunningMeans` collects the values of single images.

Every map is compared in [0, 1]: albedo as it is stored (sRGB-encoded), roughness and metallic as they are, normals
encoded as (n + 1) / 2. So PSNR has a data range of 1 throughout, and a normal's MAE and RMSE are half those of its
components. Normals are also compared by angle.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES, MAPS, NORMAL, MapSpec
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.materials.relight import Relighting, heldout_relightings, relight
from neuropbr_core.materials.seams import seam_score

PSNR_CAP = 60.0
"""Largest PSNR, in dB: the PSNR of a perfect image, so that means over images stay finite.

Rounding to 8 bits alone costs 58.9 dB (10 log10(12 · 255²)), so a higher value means nothing for maps that are stored
in 8 bits. With a higher cap, images that are easily exact (metallic 0 everywhere) would dominate the mean.
"""

SSIM_WINDOW = 11
"""Pixels across the Gaussian window of SSIM; images need a side of at least 6 for its reflected border."""

_RANK_BINS = 8192
"""Bins of logits between -`_RANK_LIMIT` and `_RANK_LIMIT`: 0.004 each."""

_RANK_LIMIT = 16.0
"""Largest logit that has a bin of its own. It belongs to scores within 1e-7 of 0 or 1, about the step of float32."""


@dataclass(frozen=True)
class Metric:
    """How a metric is shown and read.

    Attributes:
        name: Its key, the part after `<map>/`.
        label: Heading of its column, with the unit.
        digits: Digits behind the point.
        higher_is_better: Whether a higher value is better.
    """

    name: str
    label: str
    digits: int
    higher_is_better: bool = False


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("angle", "angle °", 2),
        Metric("angle_median", "median °", 2),
        Metric("within_11", "< 11.25°", 3, higher_is_better=True),
        Metric("within_22", "< 22.5°", 3, higher_is_better=True),
        Metric("within_30", "< 30°", 3, higher_is_better=True),
        Metric("psnr", "PSNR dB", 2, higher_is_better=True),
        Metric("mae", "MAE", 4),
        Metric("rmse", "RMSE", 4),
        Metric("ssim", "SSIM", 3, higher_is_better=True),
        Metric("lpips", "LPIPS", 3),
        Metric("auc", "AUC", 3, higher_is_better=True),
        Metric("seam", "seam", 2),
    )
}
"""Every metric, in the order in which tables show them."""

ANGLE_LIMITS = {"within_11": 11.25, "within_22": 22.5, "within_30": 30.0}
"""Degrees below which a normal counts as correct, by metric.

Source: D. Fouhey, A. Gupta and M. Hebert, "Data-Driven 3D Primitives for Single Image Understanding", 2013.
"""


def measure(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    """Compare predicted maps with the truth, image by image.

    Args:
        prediction: Maps `(B, channels, H, W)` in the ranges of `neuropbr_core.maps`; any subset of the maps.
        target: The true maps, same ranges and sizes; H and W >= 6.
        valid: 1 where a pixel counts, 0 where it does not; values at the other pixels have no influence.

    Returns:
        `<map>/mae`, `/rmse`, `/psnr` (dB, at most `PSNR_CAP`) and `/ssim` for each predicted map; `normal/angle` and
        `normal/angle_median` (degrees) and the shares of pixels below each of `ANGLE_LIMITS`. Each is `(B,)`, float32;
        an image without a valid pixel gives NaN.

    Raises:
        ModelError: A predicted map has no target, or one of another shape.
    """
    mask = valid > 0.5
    values: dict[str, Tensor] = {}
    # In the order of MAPS, so that the order of metrics does not depend on the model.
    for name, spec in MAPS.items():
        if name not in prediction:
            continue
        if name not in target:
            raise ModelError(
                f"metrics: map {name!r} is predicted but has no target; targets: {', '.join(target) or 'none'}"
            )
        shape = tuple(prediction[name].shape)
        target_shape = tuple(target[name].shape)
        # Broadcasting would hide a wrong shape behind plausible numbers.
        if shape != target_shape:
            raise ModelError(
                f"metrics: map {name!r} is predicted as {shape}, its target is {target_shape}; they must be equal"
            )
        errors = unit_errors(encode_unit(spec, prediction[name]), encode_unit(spec, target[name]), mask)
        for metric, value in errors.items():
            values[f"{name}/{metric}"] = value
    if NORMAL.name in prediction:
        angle = normal_angle(prediction[NORMAL.name], target[NORMAL.name])
        for metric, value in _angle_statistics(angle, mask).items():
            values[f"{NORMAL.name}/{metric}"] = value
    return values


def measure_seams(prediction: Maps) -> dict[str, Tensor]:
    """Score how visible the borders of predicted maps are when they repeat.

    Args:
        prediction: Whole frames, maps `(B, channels, H, W)` in the ranges of `neuropbr_core.maps`.

    Returns:
        `<map>/seam` for each predicted map, `(B,)`: see `materials.seams.seam_score`. Materials that do not tile have
        high scores in truth too.
    """
    values: dict[str, Tensor] = {}
    for name in MAPS:
        if name in prediction:
            scores = [seam_score(image.float().cpu()) for image in prediction[name]]
            values[f"{name}/seam"] = torch.tensor(scores)
    return values


def encode_unit(spec: MapSpec, values: Tensor) -> Tensor:
    """Convert a map from its own range to [0, 1], as float32: the form in which maps are compared.

    Args:
        spec: Which map it is.
        values: The map, any shape, in `spec.value_range`.
    """
    low, high = spec.value_range
    # float32 first: bfloat16 would lose digits in the subtraction.
    return (values.float() - low) / (high - low)


def normal_angle(a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Compute the angle between two fields of vectors, in degrees, in [0, 180].

    atan2(|a × b|, a · b) is exact for equal vectors and well-conditioned everywhere, whereas arccos loses half its
    digits near 0.

    Args:
        a: Vectors of any length above 0.
        b: Vectors of any length above 0.

    Source: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006, on angles
        between vectors.
    """
    a = a.float()
    b = b.float()
    # The cross product is written as two products: a fused multiply-add would leave a residue in a × a.
    cross = a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]
    # Sine and cosine have the same factor |a| |b|, which atan2 cancels; no vector needs normalising.
    sine = torch.linalg.vector_norm(cross, dim=1, keepdim=True)
    cosine = (a * b).sum(dim=1, keepdim=True)
    return torch.rad2deg(torch.atan2(sine, cosine))


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio in dB for a peak of 1: -10 log10(mse), at most `PSNR_CAP`."""
    return -10.0 * torch.log10(mse.clamp_min(10.0 ** (-PSNR_CAP / 10.0)))


def unit_errors(
    a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]
) -> dict[str, Tensor]:
    """Compare images in [0, 1].

    Args:
        a: Images.
        b: What they should be; H and W >= 6.
        mask: Which pixels count.

    Returns:
        `mae`, `rmse`, `psnr` (dB, at most `PSNR_CAP`) and `ssim`, each `(B,)`.
    """
    mse = _masked_mean((a - b).square(), mask)
    return {
        "mae": _masked_mean((a - b).abs(), mask),
        "rmse": mse.sqrt(),
        "psnr": psnr_from_mse(mse),
        "ssim": _ssim(a, b, mask),
    }


def _angle_statistics(angle: Float[Tensor, "B 1 H W"], mask: Bool[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    medians: list[Tensor] = []
    # Image by image, because valid pixels are not equally many. The median of no pixel is NaN, as the mean is.
    for image, inside in zip(angle, mask, strict=True):
        medians.append(image[inside].median())
    values = {"angle": _masked_mean(angle, mask), "angle_median": torch.stack(medians)}
    for name, limit in ANGLE_LIMITS.items():
        # NaN < limit is false, so a broken normal would count as a wrong one; the NaN must show instead.
        below = torch.where(angle.isnan(), angle, (angle < limit).float())
        values[name] = _masked_mean(below, mask)
    return values


def _masked_mean(values: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    # `where` and no product: NaN times 0 is NaN, and invalid pixels may hold anything.
    total = torch.where(mask, values, 0.0).flatten(1).sum(dim=1)
    return total / (mask.flatten(1).sum(dim=1) * values.shape[1])


def _ssim(
    a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]
) -> Float[Tensor, " B"]:
    """Compute the mean structural similarity at valid pixels (11 × 11 Gaussian window, sigma 1.5, data range 1).

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, eq. 13.
    """
    # torchmetrics takes long to import, and a reader of `METRICS` does not need it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    # Invalid pixels become the target's mean colour in both images: the images are then equal there, and the fill adds
    # as little structure to the windows of valid pixels as possible. The clamp serves images without a valid pixel.
    share = mask / mask.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    fill = (torch.where(mask, b, 0.0) * share).sum(dim=(2, 3), keepdim=True)
    a = torch.where(mask, a, fill)
    b = torch.where(mask, b, fill)
    _, image = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    # Where both images are equal in the whole window of a pixel, its SSIM is 1 by definition. In float32 the variance
    # of a bright constant area cancels to noise that would cost 0.001, so that 1 is filled in.
    differs = F.max_pool2d((a != b).float(), SSIM_WINDOW, stride=1, padding=SSIM_WINDOW // 2) > 0
    return _masked_mean(torch.where(differs, image, 1.0), mask)


class RankStatistic:
    """Area under the ROC curve (AUC) over all pixels of a set, from two histograms.

    The area is the probability that a random positive pixel scores above a random negative one, where a tie counts as
    one half. It needs no threshold. Scores are binned by their logit, so that scores that have all nearly collapsed to
    0 can still be ranked; scores whose logits differ by less than 0.004 may count as tied.

    Source: J. Hanley and B. McNeil, "The Meaning and Use of the Area under a ROC Curve", Radiology 143, 1982.
    """

    def __init__(self) -> None:
        # Row 0 counts negative pixels, row 1 positive ones. float64 counts exactly up to 2^53 pixels.
        self._counts = torch.zeros(2, _RANK_BINS, dtype=torch.float64)

    def add(
        self, score: Float[Tensor, "B 1 H W"], target: Float[Tensor, "B 1 H W"], valid: Float[Tensor, "B 1 H W"]
    ) -> None:
        """Add a batch.

        Args:
            score: Predictions in [0, 1]; pixels with NaN are left out.
            target: The truth; above one half is positive.
            valid: 1 where a pixel counts.
        """
        self.add_counts(*self.image_counts(score, target, valid))

    def add_counts(self, negative: Tensor, positive: Tensor) -> None:
        """Add the histograms that `image_counts` returned."""
        self._counts[0] += negative
        self._counts[1] += positive

    @staticmethod
    def image_counts(
        score: Float[Tensor, "B 1 H W"], target: Float[Tensor, "B 1 H W"], valid: Float[Tensor, "B 1 H W"]
    ) -> tuple[Tensor, Tensor]:
        """Histograms of the negative and of the positive pixels, for `auc_of_counts`; arguments as for `add`."""
        inside = (valid > 0.5) & ~score.isnan()
        # The logit of 0 and of 1 is infinite; eps keeps both within the limit.
        logit = torch.logit(score[inside].float(), eps=1e-7).clamp(-_RANK_LIMIT, _RANK_LIMIT)
        bins = ((logit / _RANK_LIMIT + 1) / 2 * (_RANK_BINS - 1)).round().long().cpu()
        positive = (target[inside] > 0.5).cpu()
        return torch.bincount(bins[~positive], minlength=_RANK_BINS), torch.bincount(
            bins[positive], minlength=_RANK_BINS
        )

    def auc(self) -> float | None:
        """Return the area, in [0, 1] and 0.5 for a constant; None until pixels of both classes were added."""
        area = float(auc_of_counts(self._counts.numpy()))
        if math.isnan(area):
            return None
        return area


def auc_of_counts(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute areas under ROC curves from histograms of scores.

    Args:
        counts: Negatives and positives by growing score, `(..., 2, bins)`.

    Returns:
        Areas `(...)`, in [0, 1]; NaN without pixels of both classes.
    """
    negative = counts[..., 0, :]
    positive = counts[..., 1, :]
    # Negatives below each bin, and half of those within it, which are the ties.
    below = negative.cumsum(axis=-1) - negative / 2
    pairs = negative.sum(axis=-1) * positive.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = (positive * below).sum(axis=-1) / pairs
    # NumPy's sums over the only axis are scalars.
    return np.asarray(areas)


STEP_METRICS = ("mae", "ssim", "angle")
OVERALL_METRICS = ("psnr", "ssim", "mae")


def step_metrics(prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
    """Measure the prediction that a training step made.

    Args:
        prediction: Predicted maps in the ranges of `neuropbr_core.maps`.
        target: The true maps.
        valid: 1 where a pixel counts.

    Returns:
        `<map>/mae` and `<map>/ssim` of each map and `normal/angle` (degrees), as scalars on the device: means over the
        images that have a valid pixel, NaN when none has.
    """
    metrics = {}
    with torch.no_grad():
        counted = (valid > 0.5).flatten(1).any(dim=1)
        for name, row in measure(prediction, target, valid).items():
            if name.rpartition("/")[2] in STEP_METRICS:
                # An image without a valid pixel has NaN for its error, which `where` keeps out of the sum.
                metrics[name] = torch.where(counted, row, 0.0).sum() / counted.sum()
    return metrics


def with_overall(metrics: Mapping[str, float]) -> dict[str, float]:
    """Add `overall/psnr`, `overall/ssim` and `overall/mae`: the means of that metric over the maps that have it."""
    overall = dict(metrics)
    for metric in OVERALL_METRICS:
        values = []
        for name in MAP_NAMES:
            key = f"{name}/{metric}"
            # Not every metric is measured of every map, and a model may predict fewer maps.
            if key in metrics:
                values.append(metrics[key])
        if values:
            overall[f"overall/{metric}"] = sum(values) / len(values)
    return overall


RERENDER = "rerender"
"""Key that takes the place of a map's name in metrics and tables."""


Perceptual = Callable[[Tensor, Tensor], Tensor]
"""How different two batches of sRGB pictures `(B, 3, H, W)` in [0, 1] look: `(B,)`; see `evaluation.perceptual`."""


def measure_rerendering(
    prediction: Maps, target: Maps, valid: Float[Tensor, "B 1 H W"], perceptual: Perceptual | None = None
) -> dict[str, Tensor]:
    """Compare pictures of predicted and of true maps under lamps that no capture has.

    Args:
        prediction: All four maps `(B, C, H, W)`, in the ranges of `neuropbr_core.maps`.
        target: The true maps, same sizes; H and W >= 6.
        valid: 1 where a pixel counts.
        perceptual: A perceptual distance; None leaves it out.

    Returns:
        `rerender/mae`, `/rmse`, `/psnr` and `/ssim` of sRGB-encoded pictures in [0, 1], and with a perceptual distance
        `/lpips`: means over `heldout_relightings()`; each `(B,)`.

    Source: V. Deschaintre et al., "Single-Image SVBRDF Capture with a Rendering-Aware Deep Network", 2018, section 6,
    and V. Deschaintre et al., "Flexible SVBRDF Capture with a Multi-Image Deep Network", 2019, section 5.
    """
    mask = valid > 0.5
    totals: dict[str, Tensor] = {}
    relightings = heldout_relightings()
    # Lamp by lamp, because pictures of all lamps at once would take eight times the memory of the maps.
    for relighting in relightings:
        picture = rendering(prediction, relighting)
        wanted = rendering(target, relighting)
        errors = unit_errors(picture, wanted, mask)
        if perceptual is not None:
            # Other pixels are made equal: a network that looks at neighbourhoods knows no mask.
            errors["lpips"] = perceptual(torch.where(mask, picture, wanted), wanted)
        for name, value in errors.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value
    return {f"{RERENDER}/{name}": total / len(relightings) for name, total in totals.items()}


def rendering(maps: Maps, relighting: Relighting) -> Float[Tensor, "B 3 H W"]:
    """Render maps under one lamp as a screen shows them: sRGB-encoded, clipped to [0, 1]."""
    # Highlights clip before they are encoded, as in a photo.
    return linear_to_srgb(relight(maps, relighting).clamp(0, 1))


@dataclass(frozen=True)
class Row:
    """The metrics of one sample.

    Attributes:
        sample: The sample's id.
        material: Its material.
        values: Metrics by name.
        baselines: The same metrics of each baseline, by its name.
        capture_kind: How the photos were taken (`materials.capture_kinds`).
        condition: How carefully they were taken: `clean` or `dirty`.
        views: Number of views that were shown.
        classes: What the material is (`material_classes.CLASSES`).
        photos: Digest of the views' content, which tells whether two evaluations are of the same photos; or empty.
    """

    sample: str
    material: str
    values: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    capture_kind: str = ""
    condition: str = ""
    views: int = 0
    classes: tuple[str, ...] = ()
    photos: str = ""

    @property
    def kind_label(self) -> str:
        """How the photos were taken, and whether carelessly: `flash`, or `flash, dirty`."""
        if self.condition == "dirty":
            return f"{self.capture_kind}, dirty"
        return self.capture_kind


class RunningMeans:
    """Collects per-image metrics; every image counts the same, whatever its batch.

    Attributes:
        rows: One row per image, in the order in which they were added.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(
        self,
        ids: Sequence[str],
        materials: Sequence[str],
        values: Mapping[str, Float[Tensor, " B"]],
        valid: Float[Tensor, "B 1 H W"] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            ids: Sample of each image.
            materials: Material of each image.
            values: Metrics of each image, from `metrics.measure`.
            valid: The mask that was measured with. An image without a valid pixel has no metrics and is left out; a
                NaN of any other image stays and shows in the means. Default: every image counts.
        """
        # One transfer for all metrics: each transfer waits for the device.
        table = torch.stack(list(values.values())).float().cpu().T.tolist()
        is_counted = [True] * len(ids)
        if valid is not None:
            is_counted = (valid > 0.5).flatten(1).any(dim=1).tolist()
        for sample, material, row, counted in zip(ids, materials, table, is_counted, strict=True):
            if counted:
                self.rows.append(Row(sample, material, dict(zip(values, row, strict=True))))

    def means(self) -> dict[str, float]:
        """Return the mean of every metric over the images; empty when there are none."""
        return mean_of(self.rows)

    def by_material(self) -> dict[str, dict[str, float]]:
        """Return the mean of every metric over the images of each material; materials are sorted by name."""
        rows_by_material: dict[str, list[Row]] = {}
        for row in self.rows:
            rows_by_material.setdefault(row.material, []).append(row)
        means: dict[str, dict[str, float]] = {}
        for material in sorted(rows_by_material):
            means[material] = mean_of(rows_by_material[material])
        return means


def mean_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean of every metric over rows that have the same metrics; empty for no rows."""
    if not rows:
        return {}
    means: dict[str, float] = {}
    for name in rows[0].values:
        # fsum rounds once, at the end, so that the order of the images has no influence.
        means[name] = math.fsum(row.values[name] for row in rows) / len(rows)
    return means
