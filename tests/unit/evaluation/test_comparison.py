import dataclasses
import re
from pathlib import Path

import pytest

from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.comparison import ALL, OTHER, compare_with
from neuropbr_core.evaluation.groups import BY_KIND, group_tables
from neuropbr_core.evaluation.metrics import Row
from neuropbr_core.evaluation.summary import EvaluationRecord, Refusal, describe, load_record, save_record


def row(index: int, error: float, *, kind: str = "flash", photos: str = "p") -> Row:
    values = {"roughness/mae": error, "rerender/psnr": 20 - error, "normal/angle": 10 * error}
    baselines = {"best constant": {"roughness/mae": 0.2}, "flat normal": {"normal/angle": 3.0}}
    return Row(
        f"clean/sample_{index:04d}",
        f"m{index % 5}",
        values,
        baselines,
        capture_kind=kind,
        condition="clean",
        views=3,
        classes=("non-metal", "flat"),
        photos=f"{photos}{index}",
    )


def record(rows: list[Row]) -> EvaluationRecord:
    materials = tuple(sorted({each.material for each in rows}))
    return EvaluationRecord(
        len(rows), materials, {}, {}, 0, {}, {}, tuple(rows), views=3, cameras="recorded", groups=group_tables(rows, 3)
    )


def errors(shift: float, count: int = 10) -> list[Row]:
    # The materials differ much more than the two evaluations do.
    return [row(i, 0.1 + 0.2 * (i % 5) + shift, kind=("flash", "auto")[i // 5 % 2]) for i in range(count)]


def test_a_small_difference_shows_when_samples_are_paired(tmp_path: Path) -> None:
    save_record(record(errors(0.01)), tmp_path / "other.json")
    compared = compare_with(record(errors(0.0)), tmp_path / "other.json")
    (group,) = compared.comparison[ALL].values()
    score = group.scores["roughness/mae"]
    assert (group.samples, group.materials, score.reference_name) == (10, 5, OTHER)
    assert score.gain == pytest.approx(0.5 / 0.51)
    assert score.low < score.gain < score.high < 1
    assert group.scores["rerender/psnr"].gain == pytest.approx(0.01)
    assert group.scores["rerender/psnr"].low > 0
    assert list(compared.comparison[BY_KIND]) == ["flash", "auto"]
    save_record(compared, tmp_path / "compared.json")
    assert load_record(tmp_path / "compared.json") == compared
    text = describe(compared, [])
    assert f"Against {tmp_path / 'other.json'}:" in text
    assert re.search(
        r"^  10 of 10 samples +10 \(5\) +0\.5000 +0\.5100 +0\.98× +\[0\.\d\d×, 0\.\d\d×\] *\+$", text, re.MULTILINE
    )


def test_equal_evaluations_differ_by_nothing(tmp_path: Path) -> None:
    save_record(record(errors(0.0)), tmp_path / "other.json")
    compared = compare_with(record(errors(0.0)), tmp_path / "other.json")
    (group,) = compared.comparison[ALL].values()
    assert [(score.low, score.gain, score.high) for score in group.scores.values()] == [
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0),
    ]
    assert not re.search(r"[+-]$", describe(compared, []).partition("Against")[2], re.MULTILINE)


def test_only_samples_that_both_scored_are_paired(tmp_path: Path) -> None:
    save_record(record(errors(0.1, 14)[8:]), tmp_path / "other.json")
    compared = compare_with(record(errors(0.0)), tmp_path / "other.json")
    assert list(compared.comparison[ALL]) == ["2 of 10 samples"]


def test_other_photos_and_other_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    save_record(record([row(0, 0.1, photos="q"), row(1, 0.1)]), path)
    with pytest.raises(DataError, match=r"other\.json: shows other photos .* of 1 samples, such as clean/sample_0000;"):
        compare_with(record(errors(0.0)), path)
    save_record(record([row(20, 0.1)]), path)
    with pytest.raises(DataError, match=r"other\.json: has no sample in common"):
        compare_with(record(errors(0.0)), path)


def test_the_text_fits_a_terminal_and_names_what_was_refused() -> None:
    scored = record([*errors(0.0), row(10, 9.0, kind="a kind with a very long name indeed")])
    refused = (Refusal("clean/sample_0011", "leather", "auto", "1.png: cannot be registered\n2.png: too"),)
    text = describe(dataclasses.replace(scored, refused=refused), [])
    assert "Not scored: 1 of 12 samples, whose photos could not be registered:" in text
    assert "\n  clean/sample_0011 (leather, auto): 1.png: cannot be registered\n" in text
    assert "Photos: 3 views, recorded cameras." in text
    assert max(map(len, text.splitlines())) <= 100
    assert "by capture kind" in text
    assert "by condition" not in text  # all are clean
