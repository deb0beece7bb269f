"""A quarantine moves nothing into or out of other folders than the dataset's, whatever its log and links say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuropbr_core.data.checking.quarantine import quarantine, restore
from neuropbr_core.data.layout.findings import Finding
from neuropbr_core.errors import DataError
from neuropbr_core.recipe.sections import Data


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "dataset"
    for name in ("sample_0000", "sample_0001"):
        (root / "input" / "clean" / name).mkdir(parents=True)
        (root / "input" / "clean" / name / "0.png").write_bytes(b"x")
    (root / "output" / "oak").mkdir(parents=True)
    metadata = {"sample_0000": "oak", "sample_0001": "oak"}
    (root / "input" / "render_metadata.json").write_text(json.dumps(metadata))
    return root


BAD = Finding("error", "code", "x", "is bad", sample="clean/sample_0001")


def test_there_and_back(dataset: Path) -> None:
    quarantine(Data(root=str(dataset)), [BAD], dataset / "quarantine")
    assert not (dataset / "input/clean/sample_0001").exists()
    restore(dataset / "quarantine")
    assert (dataset / "input/clean/sample_0001/0.png").exists()


def test_a_sample_that_is_a_link_moves_as_a_link(dataset: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (dataset / "input/clean/sample_0001").rename(photos)
    (dataset / "input/clean/sample_0001").symlink_to(photos)
    quarantine(Data(root=str(dataset)), [BAD], dataset / "quarantine")
    assert (photos / "0.png").exists()
    restore(dataset / "quarantine")
    assert (dataset / "input/clean/sample_0001").is_symlink()


def test_a_condition_that_is_a_link_is_refused(dataset: Path, tmp_path: Path) -> None:
    (dataset / "input/clean").rename(tmp_path / "elsewhere")
    (dataset / "input/clean").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"is outside .* is a link"):
        quarantine(Data(root=str(dataset)), [BAD], dataset / "quarantine")
    assert (tmp_path / "elsewhere/sample_0001/0.png").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"source": "OUT/new"},
        {"source": "OUT/clean/../../new"},
        {"source": "OUT/input/clean/sample_0001"},
        {"target": "OUT/secret"},
        {"target": "QUARANTINE/input/clean/.."},
        {"target": "QUARANTINE/input/clean/../../../../outside/secret"},
        {"metadata": "OUT/other.json"},
        {"cameras": "OUT/other.json"},
    ],
)
def test_a_log_that_leads_elsewhere_is_refused(change: dict[str, str], dataset: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "secret").mkdir(parents=True)
    folder = dataset / "quarantine"
    quarantine(Data(root=str(dataset)), [BAD], folder)
    log: dict[str, Any] = json.loads((folder / "quarantine.json").read_text())
    for key, value in change.items():
        place = value.replace("OUT", str(outside)).replace("QUARANTINE", str(folder))
        if key in log:
            log[key] = place
        else:
            log["moved"][0][key] = place
    (folder / "quarantine.json").write_text(json.dumps(log))
    with pytest.raises(DataError):
        restore(folder)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (folder / "input/clean/sample_0001/0.png").exists()


@pytest.mark.parametrize("name", ["cameras.json", "captures.json"])
@pytest.mark.parametrize("text", ['{"sample_0000": [1],}', "[]"])
def test_entries_that_cannot_be_read_are_never_written_over(name: str, text: str, dataset: Path) -> None:
    file = dataset / "input" / name
    file.write_text(json.dumps({"sample_0000": [1], "sample_0001": [2]}))
    folder = dataset / "quarantine"
    quarantine(Data(root=str(dataset)), [BAD], folder)
    file.write_text(text)
    with pytest.raises(DataError, match=rf"{name}: .*mend it, or move it away"):
        restore(folder)
    assert file.read_text() == text
    assert not (dataset / "input/clean/sample_0001").exists()
    file.write_text(json.dumps({"sample_0000": [3]}))
    restore(folder)
    assert json.loads(file.read_text()) == {"sample_0000": [3], "sample_0001": [2]}


def test_entries_in_the_quarantine_that_cannot_be_read_are_never_written_over(dataset: Path) -> None:
    (dataset / "input/cameras.json").write_text(json.dumps({"sample_0000": [1], "sample_0001": [2]}))
    folder = dataset / "quarantine"
    quarantine(Data(root=str(dataset)), [BAD], folder)
    (dataset / "input/clean/sample_0002").mkdir()
    (dataset / "input/clean/sample_0002/0.png").write_bytes(b"x")
    kept = folder / "input/cameras.json"
    kept.write_text("{")
    with pytest.raises(DataError, match=r"quarantine/input/cameras\.json: .*mend it"):
        quarantine(Data(root=str(dataset)), [replace(BAD, sample="clean/sample_0000")], folder)
    assert kept.read_text() == "{"
    assert (dataset / "input/clean/sample_0000").exists()
