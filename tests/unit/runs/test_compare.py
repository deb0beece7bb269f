"""`neuropbr compare`: runs side by side."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from neuropbr_core import __version__
from neuropbr_core.cli import root
from neuropbr_core.errors import RunError
from neuropbr_core.runs.compare import compare_runs

ROOT = Path(__file__).parents[3]


def write_run(
    folder: Path,
    *,
    seed: int,
    mae: float,
    lr: float = 1e-3,
    sample: str = "a",
    photos: str = "1f",
    size: int = 256,
    constant: float = 0.3,
) -> Path:
    """A run's folder as far as comparisons read it."""
    folder.mkdir(parents=True)
    recipe = {
        "name": folder.name,
        "data": {"output_size": size},
        "optimizer": {"lr": lr},
        "training": {"seed": seed, "device": "cpu", "runs_dir": str(folder.parent)},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    scores = {"roughness": {"model": {"mae": mae}, "best constant": {"mae": constant}}}
    row = {"sample": sample, "material": "m", "values": {"roughness/mae": mae}, "photos": photos}
    record: dict[str, Any] = {
        "samples": 1,
        "materials": ["m"],
        "scores": scores,
        "training_mean": {},
        "bumpier_samples": 0,
        "bumpier": {},
        "per_material": {},
        "per_sample": [row],
        "weights": "",
    }
    (folder / "summary.json").write_text(json.dumps(record))
    return folder


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a1", seed=1, mae=0.1)
    second = write_run(tmp_path / "a2", seed=2, mae=0.2)
    other = write_run(tmp_path / "b", seed=1, mae=0.4, lr=2e-3)
    comparison = compare_runs([first, other, second, first])
    joined, alone = comparison.rows
    assert (joined.name, joined.seeds) == ("a1, a2", (1, 2))
    assert joined.means == {"roughness/mae": pytest.approx(0.15)}
    assert joined.spreads == {"roughness/mae": pytest.approx(0.0707107)}
    assert (alone.name, alone.spreads) == ("b", {})
    assert [row.name for row in comparison.baselines] == ["best constant"]
    assert comparison.notes == []


def test_mean_and_spread_over_seeds_are_those_of_numpy(tmp_path: Path) -> None:
    errors = np.random.default_rng(5).uniform(0.05, 0.4, size=(4, 3))
    folders = []
    for group, row in enumerate(errors):
        for seed, mae in enumerate(row):
            folder = tmp_path / f"{group}-{seed}"
            folders.append(write_run(folder, seed=seed, mae=float(mae), lr=1e-3 * (group + 1)))
    # The order in which runs are named, and the runs between them, make no difference.
    comparison = compare_runs(folders[::2] + folders[1::2])
    rows = {row.name.split("-")[0]: row for row in comparison.rows}
    for group, row in enumerate(errors):
        found = rows[str(group)]
        assert sorted(found.seeds) == [0, 1, 2]
        assert found.means["roughness/mae"] == pytest.approx(np.mean(row), rel=1e-12)
        assert found.spreads["roughness/mae"] == pytest.approx(np.std(row, ddof=1), rel=1e-12)


def test_runs_of_one_seed_in_two_places_are_one_row_with_a_note(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "here/a", seed=1, mae=0.1),
        write_run(tmp_path / "there/b", seed=1, mae=0.1),
        write_run(tmp_path / "there/c", seed=2, mae=0.2),
    ]
    comparison = compare_runs(runs)
    assert [row.seeds for row in comparison.rows] == [(1, 1, 2)]
    assert comparison.notes == ["seed 1 counts 2 times in a, b, c; repeated runs make ± too small"]


def test_the_table_and_its_notes(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a1", seed=1, mae=0.1),
        write_run(tmp_path / "a2", seed=2, mae=0.2, sample="b"),
    ]
    result = CliRunner().invoke(root, ["compare", *map(str, runs)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "0.1500 ± 0.0707" in lines[1]
    assert lines[2].startswith("best constant")
    assert lines[3].startswith("note: the runs were scored on different samples or photos (a1, a2)")
    rows = json.loads(CliRunner().invoke(root, ["compare", "--json", *map(str, runs)]).stdout)["rows"]
    assert rows[0]["seeds"] == [1, 2]


def test_equal_names_of_other_photos_are_noted(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a1", seed=1, mae=0.1)
    same = write_run(tmp_path / "a2", seed=2, mae=0.2)
    other = write_run(tmp_path / "b", seed=1, mae=0.2, lr=2e-3, photos="2e")
    assert compare_runs([first, same]).notes == []
    note = "the runs were scored on different samples or photos (a1, b); compare with care"
    assert compare_runs([first, same, other]).notes == [note]


def test_other_sizes_are_noted(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1, mae=0.1)
    other = write_run(tmp_path / "b", seed=1, mae=0.2, size=512)
    note = "the runs were scored on maps of different sizes (256 pixels in a, 512 pixels in b); compare with care"
    assert compare_runs([first, other]).notes == [note]


def test_other_baselines_than_those_that_are_shown_are_noted(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1, mae=0.1)
    rounded = write_run(tmp_path / "b", seed=2, mae=0.1, constant=0.3000001)
    assert compare_runs([first, rounded]).notes == []
    # The training mean is another one, for example.
    other = write_run(tmp_path / "c", seed=3, mae=0.1, constant=0.31)
    comparison = compare_runs([first, rounded, other])
    assert comparison.notes == ["the baselines are those of a; other runs have other ones"]
    assert comparison.baselines[0].means == {"roughness/mae": 0.3}


def test_other_versions_of_components_within_a_row_are_noted(tmp_path: Path) -> None:
    runs = []
    for seed, version, distribution in ((1, "sha256-1f", "1.0"), (2, "sha256-2e", "1.1"), (3, "sha256-2e", "1.1")):
        run = write_run(tmp_path / f"a{seed}", seed=seed, mae=0.1)
        components = [
            {"kind": "loss", "name": "mine", "distribution": "plugin-file", "version": version},
            {"kind": "loss", "name": "other", "distribution": "plugin-file", "version": "sha256-00"},
            {"kind": "encoder", "name": "swin", "distribution": "acme", "version": distribution},
            {},
        ]
        (run / "provenance.json").write_text(json.dumps({"components": components}))
        runs.append(run)
    note = "used different versions of plugin-file:mine, acme; their mean is of no single version"
    assert compare_runs(runs).notes == [f"a1, a2, a3 {note}"]
    assert compare_runs(runs[1:]).notes == []
    # A run without its record is compared all the same.
    (runs[2] / "provenance.json").write_text("damaged")
    assert compare_runs(runs[1:]).notes == []


def test_what_is_no_run_or_has_no_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run"):
        compare_runs([tmp_path])
    run = write_run(tmp_path / "a", seed=1, mae=0.1)
    (run / "recipe.yaml").write_text("training: 3\n")
    with pytest.raises(RunError, match=r"has no training\.seed"):
        compare_runs([run])
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match="has no scores yet"):
        compare_runs([run])


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
