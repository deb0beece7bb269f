import math

import numpy as np
import pytest
import torch

from neuropbr_core.evaluation.groups import (
    AUC,
    BY_CLASS,
    BY_CONDITION,
    BY_KIND,
    BY_VIEWS,
    CHANCE,
    compare_rows,
    group_tables,
    resampled_weights,
)
from neuropbr_core.evaluation.metrics import RankStatistic, Row


def row(
    material: str,
    error: float,
    *,
    sample: str = "",
    baselines: tuple[float, ...] = (0.2,),
    kind: str = "flash",
    condition: str = "clean",
    views: int = 3,
    classes: tuple[str, ...] = ("non-metal", "flat"),
) -> Row:
    return Row(
        sample or f"{condition}/{material}",
        material,
        {"roughness/mae": error, "albedo/psnr": 20 + error},
        {f"b{i}": {"roughness/mae": value, "albedo/psnr": 20 + value} for i, value in enumerate(baselines)},
        capture_kind=kind,
        condition=condition,
        views=views,
        classes=classes,
    )


def test_the_gain_is_a_ratio_of_means_and_for_decibels_a_difference() -> None:
    rows = [row("a", 0.1), row("b", 0.3)]
    scores = compare_rows(rows).scores
    ratio, decibels = scores["roughness/mae"], scores["albedo/psnr"]
    assert (ratio.model, ratio.reference, ratio.reference_name) == (pytest.approx(0.2), pytest.approx(0.2), "b0")
    assert ratio.gain == pytest.approx(1.0)
    assert (ratio.low, ratio.high) == (pytest.approx(0.5), pytest.approx(1.5))
    assert decibels.gain == pytest.approx(0.0)
    assert (decibels.low, decibels.high) == (pytest.approx(-0.1), pytest.approx(0.1))


def test_the_best_baseline_is_the_one_that_is_best_in_the_group() -> None:
    rows = [row("a", 0.1, baselines=(0.3, 0.4)), row("b", 0.1, baselines=(0.5, 0.2))]
    scores = compare_rows(rows).scores
    assert (scores["roughness/mae"].reference_name, scores["roughness/mae"].reference) == ("b1", pytest.approx(0.3))
    assert scores["albedo/psnr"].reference_name == "b0"


def test_the_interval_has_the_width_that_theory_gives() -> None:
    """For many materials the bootstrap of a mean is normal, of deviation s / √n."""
    rng = np.random.default_rng(0)
    errors = rng.normal(1.0, 0.2, 100)
    rows = [row(f"m{i:03d}", error, baselines=(1.0,)) for i, error in enumerate(errors)]
    score = compare_rows(rows).scores["albedo/psnr"]
    half = 1.645 * errors.std() / 10
    assert score.low == pytest.approx(errors.mean() - 1 - half, abs=0.15 * half)
    assert score.high == pytest.approx(errors.mean() - 1 + half, abs=0.15 * half)


def test_materials_are_drawn_and_not_samples() -> None:
    """Nine captures of each of two materials tell no more about other materials than one capture."""
    few = compare_rows([row("a", 0.1), row("b", 0.3)])
    many = compare_rows(
        [row(material, error, sample=f"{i}") for i in range(9) for material, error in (("a", 0.1), ("b", 0.3))]
    )
    assert (many.samples, many.materials) == (18, 2)
    assert many.scores["roughness/mae"].low == pytest.approx(few.scores["roughness/mae"].low)
    assert many.scores["roughness/mae"].high == pytest.approx(few.scores["roughness/mae"].high)


def test_one_material_has_no_interval_and_a_perfect_baseline_no_ratio() -> None:
    alone = compare_rows([row("a", 0.1)]).scores["roughness/mae"]
    assert alone.gain == pytest.approx(0.5)
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    perfect = compare_rows([row("a", 0.1, baselines=(0.0,)), row("b", 0.1, baselines=(0.0,))]).scores["roughness/mae"]
    assert math.isnan(perfect.gain)
    assert math.isnan(perfect.low)
    assert perfect.model == pytest.approx(0.1)


def test_a_ratio_may_be_unbounded_where_few_materials_have_any_error() -> None:
    rows = [row("a", 0.1, baselines=(0.4,)), row("b", 0.1, baselines=(0.0,))]
    score = compare_rows(rows).scores["roughness/mae"]
    assert score.gain == pytest.approx(0.5)
    assert score.low == pytest.approx(0.25)
    assert score.high == math.inf


def test_draws_are_the_same_in_every_call() -> None:
    np.testing.assert_array_equal(resampled_weights(7), resampled_weights(7))
    assert (resampled_weights(7).sum(axis=1) == 7).all()


def test_tables_group_by_what_is_known_of_samples() -> None:
    rows = [
        row("a", 0.1, kind="no_flash"),
        row("b", 0.1, kind="phone", classes=("mirror-like metal", "bumpy")),
        row("a", 0.1),
        row("a", 0.2, condition="dirty"),
        row("a", 0.3, views=1),
    ]
    tables = group_tables(rows, 3)
    assert list(tables[BY_KIND]) == ["flash", "no_flash", "phone", "flash, dirty"]
    assert list(tables[BY_CONDITION]) == ["clean", "dirty"]
    assert list(tables[BY_CLASS]) == ["mirror-like metal", "non-metal", "flat", "bumpy"]
    assert {label: group.samples for label, group in tables[BY_VIEWS].items()} == {"1": 1, "3": 4}
    assert tables[BY_KIND]["flash"].samples == 1


def counts(scores: list[float], truth: list[float]) -> np.ndarray:
    shape = (1, 1, 1, len(scores))
    pair = RankStatistic.image_counts(
        torch.tensor(scores).view(shape), torch.tensor(truth).view(shape), torch.ones(shape)
    )
    return torch.stack(pair).numpy().astype(np.uint32)


def test_the_area_of_a_group_is_that_of_all_its_pixels() -> None:
    rows = [row("metal", 0.1), row("wood", 0.1), row("plain", 0.1)]
    histograms = {
        ("clean/metal", 3): counts([0.9, 0.6], [1.0, 1.0]),
        ("clean/wood", 3): counts([0.7, 0.1], [0.0, 0.0]),
        ("clean/plain", 3): counts([0.2, 0.1], [0.0, 0.0]),
    }
    score = compare_rows(rows, histograms).scores[AUC]
    assert (score.model, score.reference, score.reference_name) == (pytest.approx(7 / 8), 0.5, CHANCE)
    assert score.gain == pytest.approx(3 / 8)
    assert 0.2 < score.low < score.gain < score.high <= 0.5
    assert AUC not in compare_rows(rows[1:], histograms).scores
    assert AUC not in compare_rows(rows).scores
