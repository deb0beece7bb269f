"""What refinement changes on captures whose true maps are known, and how well confidence goes with the error.

    python benchmarks/refinement.py --data captures --views 3 --json refinement.json
    python benchmarks/refinement.py --data captures --views 3 --confidence
    python benchmarks/refinement.py --cost 1024 --views 3

DATA is a dataset folder, such as `neuropbr data synthesize` writes. The first table has a row for each kind of capture:
means over its captures, the PSNR of the albedo that is predicted once and the gain of the maps that `infer` gives, and
their other errors as multiples of the prediction's. The second compares maps that are not refined, because their photos
lack a flash, with the median of the views, no metal and flat normals. The third has the angle of the normals of flat
and of bumpy materials as a multiple of that of flat normals, over the captures that were refined, and the scale of
their relief. The fourth tells how visible borders are where they were made to meet. With `--confidence`, the maps
are those of the ensemble, and a last table has Spearman's rank correlation of the error of a texel with the doubt
about it: over all texels of the list, and as the mean over captures. The error of a texel is the mean over the four
maps, each in its stored range of [0, 1]. `--cost SIZE` prints the time of a fit to photos of SIZE² texels, and by how
much it raises the peak memory of the process.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import Maps
from neuropbr_core.data.images import read_map
from neuropbr_core.data.layout.scan import Sample, find_samples
from neuropbr_core.errors import NeuroPBRError
from neuropbr_core.evaluation.material_classes import BUMPY, FLAT, material_classes
from neuropbr_core.evaluation.metrics import encode_unit, measure
from neuropbr_core.files import write_json
from neuropbr_core.inference import (
    Effort,
    LoadedGenerator,
    Refinement,
    ViewSet,
    load_generator,
    predict_ensemble,
    predict_maps,
    predict_turned,
    read_views,
)
from neuropbr_core.inference.refine import REFINE_STEPS, refine, refined_confidence
from neuropbr_core.maps import MAPS
from neuropbr_core.materials.encoding import decode_map
from neuropbr_core.materials.seams import seam_score
from neuropbr_core.model.merge import visible_median
from neuropbr_core.recipe.sections import Data
from neuropbr_core.shipped import DEFAULT_MODEL, shipped_model

COLUMNS = ("roughness/mae", "metallic/mae", "normal/angle")


def first_views(sample: Sample, count: int) -> ViewSet:
    """Read the first photos of a sample, with their cameras."""
    views = read_views(sample.views[0].parent)
    if views.homographies is None or views.positions is None:
        raise NeuroPBRError(f"{views.folder}: has no cameras")
    return replace(
        views,
        paths=views.paths[:count],
        images=views.images[:count],
        homographies=views.homographies[:count],
        positions=views.positions[:count],
        masks=views.masks[:count],
    )


def true_maps(sample: Sample, size: int) -> Maps:
    """Read the true maps of a sample."""
    maps = {}
    for name, spec in MAPS.items():
        maps[name] = decode_map(spec, torch.from_numpy(read_map(sample.maps[name], spec, size)))[None]
    return maps


def texel_errors(maps: Maps, truth: Maps) -> Tensor:
    """Mean over the maps of the error of each texel, `(1, 1, S, S)`."""
    errors = []
    for name, spec in MAPS.items():
        difference = encode_unit(spec, maps[name]) - encode_unit(spec, truth[name])
        errors.append(difference.abs().mean(dim=1, keepdim=True))
    return torch.stack(errors).mean(dim=0)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two vectors; equal values get ranks in their order, which is right for few."""
    ranks = torch.stack((a.argsort().argsort(), b.argsort().argsort())).double()
    return float(torch.corrcoef(ranks)[0, 1])


def measure_capture(
    model: LoadedGenerator, sample: Sample, count: int, steps: int, *, confidence: bool
) -> dict[str, Any]:
    """Predict and refine a capture; return its errors before and after, and with `confidence` the doubts of texels."""
    views = first_views(sample, count)
    inputs = model.prepare(views)
    once = model.apply(inputs)
    result = predict_maps(model, views, inputs, Effort(ensemble=confidence, refine=steps))
    refinement = result.refinement
    turned = predict_turned(model.apply, inputs)
    truth = true_maps(sample, once["albedo"].shape[-1])
    valid = (inputs["visible"].amax(dim=1) > 0.5).float()
    kind = sample.capture_kind
    if sample.condition == "dirty":
        kind += ", dirty"
    flat = torch.zeros_like(once["normal"])
    flat[:, 2] = 1
    median = visible_median(inputs["views"], inputs["visible"])
    median = F.interpolate(median, size=once["albedo"].shape[-2:], mode="area")
    baseline = {"albedo": median, "metallic": torch.zeros_like(once["metallic"]), "normal": flat}
    row: dict[str, Any] = {
        "sample": sample.id,
        "material": sample.material,
        "kind": kind,
        "relief": material_classes(truth)[0][-1],
        "refined": refinement is not None,
        "once": _numbers(measure(once, truth, valid)),
        "turned": _numbers(measure(turned, truth, valid)),
        "after": _numbers(measure(result.maps, truth, valid)),
        "baseline": _numbers(measure({**once, **baseline}, truth, valid)),
    }
    if refinement is not None:
        row["scale"] = refinement.relief
        row["borders"] = _borders(refinement.maps, result.maps, truth)
        if confidence:
            ensemble = predict_ensemble(model.apply, inputs)
            error = texel_errors(ensemble.maps, truth)
            row["texels"] = _doubts(ensemble.confidence, refinement, error, truth, valid)
    return row


def _borders(before: Maps, after: Maps, truth: Maps) -> dict[str, list[float]] | None:
    """Seam scores of maps before and after their borders were made to meet, and of the true maps; None if none was."""
    if all(torch.equal(before[name], after[name]) for name in before):
        return None
    scores = {}
    for name in ("roughness", "metallic", "normal"):
        scores[name] = [seam_score(maps[name][0]) for maps in (before, after, truth)]
    return scores


def _doubts(confidence: Tensor, refinement: Refinement, error: Tensor, truth: Maps, valid: Tensor) -> dict[str, Tensor]:
    """Errors and doubts of the valid texels."""
    inside = valid > 0.5
    return {
        "error before": error[inside],
        "error after": texel_errors(refinement.maps, truth)[inside],
        "views disagree": -confidence[inside],
        "residual": refinement.residual[inside],
        "confidence": -refined_confidence(refinement)[inside],
    }


def _numbers(values: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def mean_of(rows: Sequence[dict[str, Any]], which: str, metric: str) -> float:
    """Mean of a metric over captures, before or after."""
    total = 0.0
    for row in rows:
        total += row[which][metric]
    return total / len(rows)


def print_errors(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table by kind of capture."""
    print("| captures | refined | albedo | roughness MAE | metallic MAE | normal angle |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        before = mean_of(own, "once", "albedo/psnr")
        gain = mean_of(own, "after", "albedo/psnr") - before
        refined = sum(row["refined"] for row in own)
        cells = [kind, f"{refined} of {len(own)}", f"{before:.1f} dB, {gain:+.1f}"]
        for metric in COLUMNS:
            cells.append(f"{mean_of(own, 'after', metric) / mean_of(own, 'once', metric):.2f} ×")
        print("| " + " | ".join(cells) + " |")


def print_cautious(rows: Sequence[dict[str, Any]]) -> None:
    """Print how captures whose maps stay cautious compare with the median of the views, no metal and flat normals."""
    own = [row for row in rows if not row["refined"]]
    if not own:
        return
    print("\n| not refined | albedo | metallic MAE | normal angle |")
    print("| --- | --- | --- | --- |")
    for which, label in (("once", "predicted once"), ("after", "given")):
        gain = mean_of(own, which, "albedo/psnr") - mean_of(own, "baseline", "albedo/psnr")
        cells = [label, f"{gain:+.1f} dB"]
        for metric in ("metallic/mae", "normal/angle"):
            cells.append(f"{mean_of(own, which, metric) / mean_of(own, 'baseline', metric):.2f} ×")
        print("| " + " | ".join(cells) + " |")


def print_relief(rows: Sequence[dict[str, Any]]) -> None:
    """Print how wrong normals of flat and bumpy materials are, before and after, and how their relief was scaled."""
    print("\n| materials | captures | predicted once | four turns | refined | relief scaled by: median, least, most |")
    print("| --- | --- | --- | --- | --- | --- |")
    refined = [row for row in rows if row["refined"]]
    for relief in (FLAT, BUMPY):
        own = [row for row in refined if row["relief"] == relief]
        if own:
            flat = mean_of(own, "baseline", "normal/angle")
            cells = [relief, str(len(own))]
            for which in ("once", "turned", "after"):
                cells.append(f"{mean_of(own, which, 'normal/angle') / flat:.2f} ×")
            scales = sorted(row["scale"] for row in own)
            cells.append(f"{statistics.median(scales):.2f}, {scales[0]:.2f}, {scales[-1]:.2f}")
            print("| " + " | ".join(cells) + " |")


def print_borders(rows: Sequence[dict[str, Any]]) -> None:
    """Print how visible the borders are where they were made to meet."""
    scores = [row["borders"] for row in rows if row.get("borders")]
    if not scores:
        return
    print(f"\n| seam score, median of {len(scores)} captures | before | after | true maps |")
    print("| --- | --- | --- | --- |")
    for name in scores[0]:
        medians = [statistics.median(values) for values in zip(*(row[name] for row in scores), strict=True)]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in medians) + " |")


def print_correlations(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Print the rank correlations of errors with doubts, of the captures that were refined."""
    refined = [row["texels"] for row in rows if row["refined"]]
    if not refined:
        return {}
    pairs = (
        ("prediction, views disagree", "error before", "views disagree"),
        ("refined, views disagree", "error after", "views disagree"),
        ("refined, residual", "error after", "residual"),
        ("refined, confidence", "error after", "confidence"),
    )
    correlations = {}
    print("\n| maps, doubt | all texels | mean within captures | lowest, highest capture |")
    print("| --- | --- | --- | --- |")
    for label, error, doubt in pairs:
        pooled = rank_correlation(
            torch.cat([texels[error] for texels in refined]), torch.cat([texels[doubt] for texels in refined])
        )
        within = [rank_correlation(texels[error], texels[doubt]) for texels in refined]
        mean = sum(within) / len(within)
        correlations[label] = [pooled, mean]
        print(f"| {label} | {pooled:.2f} | {mean:.2f} | {min(within):.2f}, {max(within):.2f} |")
    return correlations


def print_cost(size: int, count: int, steps: int) -> dict[str, float]:
    """Refine random maps under random photos, whose values do not matter for time and memory; return both."""
    random = torch.Generator().manual_seed(1)
    maps = {}
    for name, spec in MAPS.items():
        maps[name] = torch.rand(1, spec.channels, size, size, generator=random) + 0.01
    # From one place, the falloff of a flash cannot show, so that the photos are not taken for some without a flash.
    positions = torch.tensor([[0.0, 0.0, 1.5]]).repeat(count, 1)
    photos = torch.rand(count, 3, size, size, generator=random)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    refinement = refine(maps, photos, positions, steps=steps)
    seconds = time.perf_counter() - started
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    print(f"{size}², {count} photos, {refinement.steps} steps: {seconds:.1f} s, {rise / 1024:.0f} MiB")
    return {"size": size, "photos": count, "steps": refinement.steps, "seconds": seconds, "mib": rise / 1024}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR")
    parser.add_argument("--cost", type=int, metavar="SIZE")
    parser.add_argument("--model", metavar="NAME", default=DEFAULT_MODEL, help="a model that ships")
    parser.add_argument("--run", metavar="DIR", help="instead: a run")
    parser.add_argument("--views", type=int, default=3, metavar="N")
    parser.add_argument("--steps", type=int, default=REFINE_STEPS, metavar="N")
    parser.add_argument("--confidence", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    if arguments.cost:
        cost = print_cost(arguments.cost, arguments.views, arguments.steps)
        if arguments.json:
            write_json(arguments.json, cost)
        return
    if not arguments.data:
        parser.error("give --data DIR or --cost SIZE")
    try:
        model = load_generator(arguments.run or shipped_model(arguments.model).folder)
        rows = []
        data = Data(root=arguments.data, views=arguments.views, alignment="recorded", render_curriculum="mixed")
        for sample in find_samples(data):
            rows.append(
                measure_capture(model, sample, arguments.views, arguments.steps, confidence=arguments.confidence)
            )
    except NeuroPBRError as error:
        raise SystemExit(f"error: {error}") from None
    print_errors(rows)
    print_cautious(rows)
    print_relief(rows)
    print_borders(rows)
    correlations = {}
    if arguments.confidence:
        correlations = print_correlations(rows)
    if arguments.json:
        for row in rows:
            row.pop("texels", None)
        write_json(arguments.json, {"model": str(model.checkpoint), "rows": rows, "correlations": correlations})


if __name__ == "__main__":
    main()
