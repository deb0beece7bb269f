"""Training with losses that are computed together, and one after the other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuropbr_core.contracts import FusedResult
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.run import run
from neuropbr_losses.fused.together import FusedMeasures

LOSSES = """losses={l1: {roughness: 2}, ssim: {weight: 0.3, maps: [albedo, normal], window: 5}, normal: {weight: 0.5},
rendering: {weight: 0.2, random: 1, mirrored: 1}}"""
"""Three losses that are fused, and one that is not."""


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_the_same_with_and_without_fusing(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    compute = FusedMeasures.__call__

    def counted(self: FusedMeasures, x: Any, *, measured: bool = False) -> FusedResult:
        calls.append(measured)
        return compute(self, x, measured=measured)

    monkeypatch.setattr(FusedMeasures, "__call__", counted)
    rows = {}
    for fused in ("off", "auto"):
        recipe = make_recipe(LOSSES, f"training.fused_losses={fused}", "export.torchscript=null")
        rows[fused] = logged(run(recipe, run_name=fused))
        assert bool(calls) == (fused == "auto")
    assert any(calls)  # the logged errors come out of the same pass
    assert len(rows["auto"]) == len(rows["off"])
    compared = 0
    for row, expected in zip(rows["auto"], rows["off"], strict=True):
        assert list(row) == list(expected)
        for key, value in expected.items():
            # Rounding differs, and six steps of an optimiser that divides by small numbers amplify it.
            if "/" in key and isinstance(value, float) and "time" not in key and "seconds" not in key:
                compared += 1
                assert row[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    assert compared > 100
