import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.baselines import Baselines
from neuropbr_core.evaluation.heldout import Evaluator, bumpier_half
from neuropbr_core.evaluation.metrics import PSNR_CAP
from neuropbr_core.evaluation.summary import EvaluationRecord, describe, format_summary, load_record, save_record

MEAN = {"albedo": (0.5, 0.5, 0.5), "roughness": (0.5,), "metallic": (0.3,)}


def sample(bump: float, seed: int) -> dict[str, Tensor]:
    """The maps of one sample; `bump` scales its normals' slopes."""
    random = torch.Generator().manual_seed(seed)
    albedo = torch.rand((1, 3, 16, 16), generator=random)
    roughness = torch.rand((1, 1, 16, 16), generator=random)
    metallic = (torch.rand((1, 1, 16, 16), generator=random) > 0.5).float()
    slopes = bump * (torch.rand((1, 2, 16, 16), generator=random) - 0.5)
    normal = F.normalize(torch.cat([slopes, torch.ones(1, 1, 16, 16)], dim=1), dim=1)
    return {"albedo": albedo, "roughness": roughness, "metallic": metallic, "normal": normal}


def evaluate(noise: float = 0.0, bumps: tuple[float, ...] = (0.1, 0.4, 1.0, 2.0)) -> EvaluationRecord:
    """Score predictions that are the truth plus noise."""
    evaluator = Evaluator(Baselines(MEAN))
    for i, bump in enumerate(bumps):
        target = sample(bump, i)
        prediction = {name: value + noise for name, value in target.items() if name != "normal"}
        # Normalising again would round, and without noise the prediction must equal the truth.
        prediction["normal"] = target["normal"]
        if noise:
            prediction["normal"] = F.normalize(target["normal"] + noise, dim=1)
        evaluator.add(
            [f"s{i}"],
            [("wood", "brick")[i % 2]],
            prediction,
            target,
            valid=torch.ones(1, 1, 16, 16),
            views=(target["albedo"] * 0.8).unsqueeze(1).repeat(1, 3, 1, 1, 1),
            visible=torch.ones(1, 3, 1, 16, 16),
        )
    return evaluator.record()


def test_each_map_is_scored_beside_its_baselines() -> None:
    scores = evaluate(0.05).scores
    assert list(scores) == ["albedo", "roughness", "metallic", "normal", "rerender"]
    assert list(scores["albedo"]) == ["model", "per-map training mean", "median of the aligned views", "best constant"]
    assert list(scores["roughness"]) == ["model", "per-map training mean", "best constant"]
    assert list(scores["metallic"]) == ["model", "per-map training mean", "metallic always 0", "best constant"]
    assert list(scores["normal"]) == ["model", "flat normal"]
    assert list(scores["rerender"]) == ["model", "median, mean roughness, no metal, flat"]
    assert scores["albedo"]["model"]["mae"] == pytest.approx(0.05, abs=1e-6)
    assert scores["metallic"]["model"]["auc"] == 1.0
    assert scores["normal"]["flat normal"]["angle"] > scores["normal"]["model"]["angle"] > 0


def test_the_truth_is_perfect_and_beats_every_baseline() -> None:
    record = evaluate()
    for rows in record.scores.values():
        assert rows["model"]["mae"] == 0
        assert rows["model"]["psnr"] == PSNR_CAP
        for name, row in rows.items():
            assert name == "model" or rows["model"]["mae"] < row["mae"]
    assert record.bumpier["model"]["angle"] == 0


def test_each_sample_has_the_metrics_of_the_baselines_too() -> None:
    record = evaluate(0.05)
    assert record.views == 3
    for row in record.per_sample:
        assert row.views == 3
        assert row.classes[0] in ("non-metal", "rough metal")
    for name in ("flat normal", "metallic always 0", "median of the aligned views", "best constant"):
        for key, mean in ((f"{m}/{k}", v) for m, rows in record.scores.items() for k, v in rows.get(name, {}).items()):
            own = [row.baselines[name][key] for row in record.per_sample]
            assert sum(own) / len(own) == pytest.approx(mean, abs=1e-6), (name, key)


def test_groups_repeat_what_the_scores_say_of_all() -> None:
    record = evaluate(0.05)
    (group,) = record.groups["number of views"].values()
    assert (group.samples, group.materials) == (4, 2)
    normal = group.scores["normal/angle"]
    assert normal.model == pytest.approx(record.scores["normal"]["model"]["angle"])
    assert normal.reference == pytest.approx(record.scores["normal"]["flat normal"]["angle"])
    assert group.scores["metallic/auc"].model == pytest.approx(record.scores["metallic"]["model"]["auc"])
    assert group.scores["roughness/mae"].reference_name == "best constant"


def test_a_record_from_before_there_were_groups_is_read(tmp_path: Path) -> None:
    record = evaluate(0.05)
    plain = record.to_dict()
    for key in ("views", "cameras", "refused", "groups", "other", "comparison"):
        del plain[key]
    plain["per_sample"] = [{key: row[key] for key in ("sample", "material", "values")} for row in plain["per_sample"]]
    (tmp_path / "summary.json").write_text(json.dumps(plain))
    old = load_record(tmp_path / "summary.json")
    assert old.scores == record.scores
    assert [row.values for row in old.per_sample] == [row.values for row in record.per_sample]


def test_the_bumpier_half_is_that_of_the_bumpiest_samples() -> None:
    record = evaluate(0.05)
    assert record.bumpier_samples == 2
    angles = [row.values["normal/angle"] for row in record.per_sample]
    assert record.bumpier["model"]["angle"] == pytest.approx(sum(angles[2:]) / 2)
    assert record.bumpier["flat normal"]["angle"] > record.scores["normal"]["flat normal"]["angle"]


@pytest.mark.parametrize(
    ("angles", "chosen"),
    [
        ([], []),
        ([4.0], [0]),
        ([4.0, 4.0, 2.0], [0, 1]),
        ([3.0, 1.0], [0]),
        ([3.0, 1.0, 2.0], [0]),
        ([5.0, 1.0, 4.0, 2.0], [0, 2]),
        ([2.0, 2.0, 2.0], [0, 1, 2]),
        ([0.0, 0.0, 0.0, 9.0], [3]),
    ],
)
def test_the_bumpier_half_with_ties_and_few_samples(angles: list[float], chosen: list[int]) -> None:
    assert bumpier_half(angles) == chosen


def test_maps_that_are_not_predicted_are_left_out() -> None:
    evaluator = Evaluator(Baselines(MEAN))
    target = sample(1.0, 0)
    evaluator.add(
        ["s"],
        ["wood"],
        {"roughness": target["roughness"]},
        target,
        valid=torch.ones(1, 1, 16, 16),
        views=torch.rand(1, 3, 3, 16, 16),
        visible=torch.ones(1, 3, 1, 16, 16),
    )
    record = evaluator.record()
    assert set(record.scores) == {"roughness"}
    assert record.bumpier == {}
    assert "normal" not in format_summary(record)


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    record = evaluate(0.05)
    save_record(record, tmp_path / "summary.json")
    assert load_record(tmp_path / "summary.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_record_with_nan_is_still_json(tmp_path: Path) -> None:
    record = evaluate(math.nan)
    save_record(record, tmp_path / "summary.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    plain = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert plain["scores"]["albedo"]["model"]["mae"] is None
    assert math.isnan(load_record(tmp_path / "summary.json").scores["albedo"]["model"]["mae"])
    assert "NaN" in format_summary(record)


@pytest.mark.parametrize("text", [None, "not json", "[]", '{"samples": 1}'])
def test_a_file_without_a_record_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"summary\.json: .*it is no evaluation record; evaluate the run again"):
        load_record(path)


def test_the_summary_marks_the_best_of_each_column_and_fits_a_terminal() -> None:
    text = format_summary(evaluate(0.05))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "Errors on the held-back set: 4 samples, 2 materials (* best of its column)"
    albedo = lines[2:7]
    assert albedo[0].split() == ["albedo", "PSNR", "dB", "MAE", "RMSE", "SSIM", "seam"]
    assert albedo[1].split()[:3] == ["model", "26.02*", "0.0500*"]
    assert "per-map training mean" in albedo[2]
    assert "*" not in "".join(albedo[2:])
    assert "normal, bumpier half (2 of 4 samples)" in text
    assert any(line.split()[:2] == ["wood", "(2)"] for line in lines)


def test_the_columns_of_the_summary_are_aligned() -> None:
    lines = format_summary(evaluate(0.05)).splitlines()
    table = lines[2:7]
    column = table[0].index("MAE") + len("MAE")
    assert all(line[column - 1].isdigit() and line[column] in " *" for line in table[1:])


def test_a_tie_marks_all_and_long_names_are_shortened() -> None:
    record = evaluate(0.05)
    rows = {"model": {"mae": 0.5}, "x" * 60: {"mae": 0.5}, "metallic always 0": {"mae": 0.75}}
    text = format_summary(dataclasses.replace(record, scores={"metallic": rows}, bumpier={}))
    marked = [line for line in text.splitlines() if "0.5000*" in line]
    assert len(marked) == 2
    assert "xxx…" in marked[1]
    assert max(map(len, text.splitlines())) <= 100


def test_the_summary_of_nothing_says_so() -> None:
    assert format_summary(Evaluator(Baselines(MEAN)).record()) == "No held-back sample was scored."


def test_what_was_not_fitted_and_what_nobody_knows_is_told(tmp_path: Path) -> None:
    record = dataclasses.replace(evaluate(), refined=20, unfitted=3)
    save_record(record, tmp_path / "record.json")
    assert load_record(tmp_path / "record.json").unfitted == 3
    text = describe(record, ("wood",), is_complete=False)
    assert "in 20 steps before they were scored, except those of 3 of 4 samples, whose photos look as if" in text
    assert "warning: the model was trained on 1 of 2 materials" in text
    assert "Nobody knows all materials that the model was trained on" in text
    known = describe(dataclasses.replace(record, unfitted=0), ())
    assert "in 20 steps before they were scored." in known
    assert "Nobody" not in known
