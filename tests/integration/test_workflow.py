"""Evaluation, exports and packages from Python."""

from collections.abc import Callable
from pathlib import Path

import pytest
import small_run
import torch

import neuropbr_core as neuropbr
from neuropbr_core.errors import ExportError, PackageError, RecipeError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network takes photos as they are."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    return small_run.save_run(folder, small_run.small_recipe(*small_run.PLAIN))


def test_an_evaluation_shows_its_tables_and_worst_samples(make_recipe: MakeRecipe) -> None:
    run = neuropbr.run(make_recipe("training.epochs=1", "export.torchscript=null"))
    evaluation = neuropbr.evaluate(run, worst=1)
    assert "albedo" in repr(evaluation)
    shown = evaluation._repr_html_()
    assert shown.startswith("<pre>")
    assert shown.count("data:image/png;base64,") == 1


def test_exports_come_back_with_their_comparison(plain: Path, tmp_path: Path) -> None:
    (file,) = neuropbr.export(plain, {"neuropbr:torchscript": {"resolution": 64}}, output=tmp_path)
    assert file.path == tmp_path / "torchscript-64px.pt"
    assert file.path.is_file()
    assert str(file.verification)
    assert neuropbr.load_exported(file.path).signature.image_size == 64
    with pytest.raises(RecipeError, match="exporter torchscrip"):
        neuropbr.export(plain, "torchscrip", output=tmp_path)
    with pytest.raises(ExportError, match="say where the files shall be"):
        neuropbr.export("neuropbr:flash-3", "torchscript")


def test_a_prediction_is_packaged_without_files_between(tmp_path: Path) -> None:
    maps = {name: torch.full((1, spec.channels, 32, 32), 0.5) for name, spec in MAPS.items()}
    maps["normal"] = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    prediction = neuropbr.Prediction("oak", maps, None, {"model": "mine"}, ())
    (folder,) = neuropbr.package(prediction, {"ambientcg": {"depth": 16}}, tmp_path / "packages")
    assert "mine" in (folder / "manifest.json").read_text()
    prediction.write(tmp_path / "maps")
    written = neuropbr.package(tmp_path / "maps", ["plain", "unity"], tmp_path / "packages", name="elm")
    assert [path.name for path in written] == ["plain", "unity"]
    (folder,) = neuropbr.package(prediction, {"neuropbr:plain": {"depth": 16}}, tmp_path / "qualified")
    assert folder.name == "plain"
    with pytest.raises(RecipeError, match="is named twice"):
        neuropbr.package(prediction, ["plain", "neuropbr:plain"], tmp_path / "qualified")
    with pytest.raises(RecipeError, match="no installed distribution offers packager/acme:plain"):
        neuropbr.package(prediction, "acme:plain", tmp_path / "qualified")
    with pytest.raises(RecipeError, match="packager blendr"):
        neuropbr.package(prediction, "blendr", tmp_path / "packages")
    (tmp_path / "packages" / "mine").mkdir()
    (tmp_path / "packages" / "ambientcg" / "notes.txt").write_text("mine")
    with pytest.raises(PackageError, match=r"notes\.txt"):
        neuropbr.package(prediction, "ambientcg", tmp_path / "packages")
