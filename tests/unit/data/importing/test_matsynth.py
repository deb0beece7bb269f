"""MatSynth, from a small local data set of the same form."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core.cli import root
from neuropbr_core.data.importing import matsynth
from neuropbr_core.data.importing.import_sets import import_materials
from neuropbr_core.data.importing.matsynth import import_matsynth
from neuropbr_core.errors import DataError

datasets = pytest.importorskip("datasets")


def picture(mode: str, value: Any, side: int = 32) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new(mode, (side, side), value).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


COLUMNS = ("basecolor", "normal", "roughness", "metallic", "displacement")


def write_rows(folder: Path, names: tuple[str, ...]) -> Path:
    """Write materials of these names; one called `broken` has no picture of its surface."""
    rows: dict[str, list[Any]] = {key: [] for key in ("name", "category", "metadata", *COLUMNS)}
    for index, name in enumerate(names):
        rows["name"].append(name)
        rows["category"].append(index)
        rows["metadata"].append({"license": "CC0" if index else "CC-BY 4.0", "authors": "Ada", "link": None})
        whole = name != "broken"
        rows["basecolor"].append(picture("RGB", (200, 100, 50)) if whole else None)
        rows["normal"].append(picture("RGB", (128, 128, 255)) if whole else None)
        rows["roughness"].append(picture("L", 64 * (index + 1)))
        rows["metallic"].append(picture("L", 0))
        rows["displacement"].append(picture("L", 0))
    features = datasets.Features(
        {
            "name": datasets.Value("string"),
            "category": datasets.Value("int64"),
            "metadata": {key: datasets.Value("string") for key in ("license", "authors", "link")},
            **{column: datasets.Image() for column in COLUMNS},
        }
    )
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000.parquet")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three materials: two whole ones, and one without any picture of its surface."""
    return write_rows(tmp_path_factory.mktemp("matsynth"), ("acg/bricks 001", "plaster_02", "broken"))


def test_materials_are_imported_with_their_licences_and_the_rest_is_refused(source: Path, tmp_path: Path) -> None:
    report = import_matsynth(str(source), tmp_path, size=16)
    assert {material.name: material.status for material in report.materials} == {
        "acg_bricks_001": "imported",
        "plaster_02": "imported",
        "broken": "refused",
    }
    roughness = np.asarray(Image.open(tmp_path / "output/plaster_02/roughness.png"))
    assert roughness.shape == (16, 16)
    assert roughness.max() == 128
    licences = json.loads((tmp_path / "matsynth.json").read_text())
    assert licences["acg_bricks_001"] == {"category": 0, "license": "CC-BY 4.0", "authors": "Ada"}
    assert set(licences) == {"acg_bricks_001", "plaster_02"}


def test_the_same_command_continues_an_import(source: Path, tmp_path: Path) -> None:
    def command(*words: str) -> Any:
        result = CliRunner().invoke(
            root, ["data", "import", str(source), "--matsynth", "--output", str(tmp_path), "--json", *words]
        )
        return {material["name"]: material["status"] for material in json.loads(result.stdout)["materials"]}

    assert command("--limit", "1") == {"acg_bricks_001": "imported"}
    (tmp_path / "output/acg_bricks_001/normal.png").unlink()
    # A material that is not whole counts as there for the import of files, which replaces nothing without being told.
    assert command("--limit", "2", "--overwrite") == {"acg_bricks_001": "imported", "plaster_02": "imported"}
    assert command("--limit", "2") == {"acg_bricks_001": "exists", "plaster_02": "exists"}


def test_materials_of_others_are_not_credited_to_it(tmp_path: Path) -> None:
    """A material of the user's own of the same name, and the second of two rows whose names become one."""
    (tmp_path / "rows").mkdir()
    source = write_rows(tmp_path / "rows", ("plaster_02", "a b", "a_b"))
    import_matsynth(str(source), tmp_path / "data", size=16, limit=1)
    (tmp_path / "data/matsynth.json").unlink()
    report = import_matsynth(str(source), tmp_path / "data", size=16)
    assert [material.status for material in report.materials] == ["imported", "exists", "exists"]
    licences = json.loads((tmp_path / "data/matsynth.json").read_text())
    assert {name: entry["category"] for name, entry in licences.items()} == {"a_b": 1}


def test_a_list_of_licences_of_another_form_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "matsynth.json").write_text("[]")
    with pytest.raises(DataError, match=r"matsynth\.json: .*move it away"):
        import_matsynth(str(source), tmp_path, size=16)
    assert (tmp_path / "matsynth.json").read_text() == "[]"


def test_other_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no parquet files"):
        import_matsynth(str(tmp_path), tmp_path / "out")
    datasets.Dataset.from_dict({"name": ["a"], "text": ["b"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="has no columns basecolor, normal, roughness, metallic, as MatSynth has"):
        import_matsynth(str(tmp_path), tmp_path / "out")
    (tmp_path / "other.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cannot be read .* damaged or of another form"):
        import_matsynth(str(tmp_path), tmp_path / "out")


def test_names_that_look_like_roles_are_names(tmp_path: Path) -> None:
    """The column tells what a picture shows, whatever the material is called."""
    (tmp_path / "rows").mkdir()
    source = write_rows(tmp_path / "rows", ("old_base", "brushed_metallic", "normal"))
    report = import_matsynth(str(source), tmp_path / "data", size=16)
    assert {material.name: material.status for material in report.materials} == {
        "old_base": "imported",
        "brushed_metallic": "imported",
        "normal": "imported",
    }


def test_an_interruption_leaves_no_material_without_its_licence(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*sources: Any, **options: Any) -> None:
        import_materials(*sources, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(matsynth, "import_materials", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_matsynth(str(source), tmp_path, size=16)
    written = {path.name for path in (tmp_path / "output").iterdir() if path.is_dir()}
    assert written == {"acg_bricks_001"}
    assert written <= set(json.loads((tmp_path / "matsynth.json").read_text()))
