"""Views in, maps out: from a trained run, through the command line and the API."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import small_run
import torch
from click.testing import CliRunner
from PIL import Image
from torch.nn import functional as F

import neuropbr_core
from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.errors import CheckpointError, DataError
from neuropbr_core.maps import MAPS
from neuropbr_core.recipe.sections import Recipe, Synthesize
from neuropbr_core.runs.run import run

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def trained(make_recipe: MakeRecipe) -> Path:
    return run(make_recipe("training.epochs=1", "export.torchscript=null"), run_name="small")


def infer(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from neuropbr_core.cli import main; main()", "infer", "--device", "cpu"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_infer_writes_the_four_maps(trained: Path, pool: Path, tmp_path: Path) -> None:
    views = pool / "input/clean/sample_0000"
    done = infer("--run", trained, "--input", views, "--output", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    for name, spec in MAPS.items():
        with Image.open(tmp_path / "maps" / f"{name}.png") as image:
            assert image.mode == spec.image_mode
            assert image.size == (32, 32)
            assert str(tmp_path / "maps" / f"{name}.png") in done.stdout
    normal = np.asarray(Image.open(tmp_path / "maps/normal.png")).astype(float) / 255 * 2 - 1
    assert np.abs(np.linalg.norm(normal, axis=2) - 1).max() < 0.02


def test_one_file_is_a_model_without_its_run(trained: Path, pool: Path, tmp_path: Path) -> None:
    loaded = neuropbr_core.load_generator(trained).to("cpu")
    views = neuropbr_core.read_views(pool / "input/clean/sample_0000")
    expected = loaded.predict(views)
    loaded.save(tmp_path / "model.safetensors")
    # A checkpoint's own file, copied away from everything beside it, is one too.
    shutil.copy(loaded.checkpoint / "model.safetensors", tmp_path / "copied.safetensors")
    for name in ("model.safetensors", "copied.safetensors"):
        model = neuropbr_core.load_generator(tmp_path / name).to("cpu")
        with torch.no_grad():
            maps = model(**model.prepare(views))
        assert all(torch.equal(maps[name], expected[name]) for name in MAPS)
    inputs = model.prepare(views)
    assert model(inputs["views"], inputs["visible"], inputs["directions"])["albedo"].requires_grad
    done = infer("--model", tmp_path / "model.safetensors", "--input", views.folder, "--output", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    with pytest.raises(CheckpointError, match="choose a name with that suffix"):
        loaded.save(tmp_path / "model.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"broken.safetensors: cannot be read .* is this a checkpoint or a model"):
        neuropbr_core.load_generator(tmp_path / "broken.safetensors")


def test_infer_refines(trained: Path, pool: Path, tmp_path: Path) -> None:
    views = pool / "input/clean/sample_0000"
    done = infer("--run", trained, views, "--output", tmp_path / "maps", "--refine", "6")
    assert done.returncode == 0, done.stderr
    assert "refined in 6 steps: error of the photos 0." in done.stdout
    assert re.search(r"^relief scaled by \d\.\d\d$", done.stdout, re.MULTILINE)
    assert sorted(path.stem for path in (tmp_path / "maps").glob("*.png")) == sorted([*MAPS, "confidence"])
    swallowed = infer("--run", trained, "--refine", views, "--output", tmp_path / "others")
    assert swallowed.returncode == 2
    assert "Write the photos before --refine" in swallowed.stderr


def test_the_api_equals_the_loaders_path(trained: Path, pool: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """What `infer` predicts for a dataset's sample is what validation predicts for it."""
    from neuropbr_core.data.batches.batch import collate
    from neuropbr_core.data.batches.prepare import prepare

    loaded = neuropbr_core.load_generator(trained)
    recipe = make_recipe()
    dataset = neuropbr_core.open_dataset(recipe)
    batch = collate([dataset[3]])
    prepared = prepare(batch, recipe.data, "cpu")
    with torch.no_grad():
        expected = loaded.generator(*prepared.inputs).maps
    found = loaded.predict(neuropbr_core.read_views(pool / "input" / batch.ids[0]))
    for name in MAPS:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=0)
    assert len(neuropbr_core.write_maps(found, tmp_path / "maps")) == 4


def test_views_without_cameras_are_refused_with_the_way_out(trained: Path, pool: Path, tmp_path: Path) -> None:
    views = tmp_path / "photos"
    shutil.copytree(pool / "input/clean/sample_0001", views)
    done = infer("--run", trained, "--input", views, "--output", tmp_path / "maps")
    assert done.returncode == 1
    assert "cameras.json" in done.stderr
    assert "--cameras" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "maps").exists()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos large enough to be registered, and their dataset two levels up."""
    material = Path(__file__).parents[2] / "examples/materials/t3_Pebbles_025"
    shutil.copytree(material, tmp_path / "materials/t3_Pebbles_025")
    synthesize(Synthesize(str(tmp_path / "materials"), samples=1, size=160, seed=3), tmp_path / "dataset")
    return tmp_path / "dataset/input/clean/sample_0000"


def test_a_photo_that_cannot_be_registered_is_left_out(trained: Path, photos: Path, tmp_path: Path) -> None:
    shutil.move(photos.parents[1] / "cameras.json", tmp_path / "cameras.json")
    Image.new("RGB", (160, 160), (90, 90, 90)).save(photos / "1b.webp")
    (photos / "notes.psd").write_bytes(b"8BPS")
    done = infer("--run", trained, "--input", photos, "--output", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert "notes.psd: not read: .psd files are not read" in done.stderr
    assert "1b.webp: cannot be registered to" in done.stderr
    assert "too few matches" in done.stderr
    assert "It is left out" in done.stderr
    assert "3 views of" in done.stdout
    strict = infer("--run", trained, "--input", photos, "--output", tmp_path / "strict", "--strict")
    assert strict.returncode == 1
    assert "--strict refuses these photos; no maps were written" in strict.stderr
    assert not (tmp_path / "strict").exists()


def test_fewer_photos_than_in_training_are_warned_of(trained: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "2.png").unlink()
    shutil.move(photos.parents[1] / "cameras.json", tmp_path / "cameras.json")
    done = infer("--run", trained, "--input", photos, "--output", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert "has 2 photos, and the model was trained with 3" in done.stderr


def test_photos_without_cameras_are_registered(trained: Path, photos: Path, tmp_path: Path) -> None:
    given = photos.parents[1] / "cameras.json"
    given.rename(tmp_path / "cameras.json")
    done = infer("--run", trained, "--input", photos, "--output", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert "no cameras found: registering the photos to 0.png\n  0.png: confidence 1.00\n  1.png: conf" in done.stderr
    wins = infer("--run", trained, "--input", photos, "--output", tmp_path / "known", "--cameras", given.name)
    assert wins.returncode == 1
    wins = infer(
        "--run", trained, "--input", photos, "--output", tmp_path / "known", "--cameras", tmp_path / given.name
    )
    assert "registering" not in wins.stderr
    views = neuropbr_core.register_views(neuropbr_core.read_views(photos))
    assert views.confidence is not None
    assert min(views.confidence) > 0.2
    truth = neuropbr_core.read_views(photos, tmp_path / given.name)
    assert views.positions is not None
    assert truth.positions is not None
    assert (F.cosine_similarity(views.positions, truth.positions) > 0.98).all()


def test_cameras_can_be_given(trained: Path, pool: Path, tmp_path: Path) -> None:
    views = tmp_path / "sample_0001"
    shutil.copytree(pool / "input/clean/sample_0001", views)
    cameras = pool / "input/cameras.json"
    done = infer("--run", trained, "--input", views, "--output", tmp_path / "maps", "--cameras", cameras)
    assert done.returncode == 0, done.stderr


def test_a_truncated_view_is_named_and_nothing_is_written(trained: Path, pool: Path, tmp_path: Path) -> None:
    views = tmp_path / "input" / "clean" / "sample_0001"
    shutil.copytree(pool / "input/clean/sample_0001", views)
    shutil.copy(pool / "input/cameras.json", tmp_path / "input")
    file = views / "1.png"
    file.write_bytes(file.read_bytes()[:300])
    done = infer("--run", trained, "--input", views, "--output", tmp_path / "maps")
    assert done.returncode == 1
    assert "1.png" in done.stderr
    assert not (tmp_path / "maps").exists()


def test_folders_that_are_none_are_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        neuropbr_core.read_views(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"holds no image that is read; allowed: \.png"):
        neuropbr_core.read_views(tmp_path)
    with pytest.raises(CheckpointError, match="is no run with a checkpoint"):
        neuropbr_core.load_generator(tmp_path)
    with pytest.raises(CheckpointError, match=r"no checkpoint 'epoch_0009'; there are: best, latest, epoch_0001"):
        neuropbr_core.load_generator(trained, "epoch_0009")


def test_a_damaged_checkpoint_is_not_loaded(trained: Path) -> None:
    file = trained / "checkpoints/epoch_0001/model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="is damaged"):
        neuropbr_core.load_generator(trained)


def test_a_sample_of_the_runs_dataset_is_named_by_its_index(trained: Path, pool: Path, tmp_path: Path) -> None:
    done = infer("--run", trained, "--sample-idx", 3, "--output", tmp_path / "three")
    assert done.returncode == 0, done.stderr
    assert "sample_0003: 3 views of" in done.stdout
    views = infer("--run", trained, "--input", pool / "input/clean/sample_0003", "--output", tmp_path / "folder")
    assert views.returncode == 0, views.stderr
    names = sorted(path.relative_to(tmp_path / "three") for path in (tmp_path / "three").rglob("*.png"))
    assert len(names) == 4 + 3
    for name in names:
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    first = infer("--run", trained / "checkpoints/epoch_0001", "--output", tmp_path / "first")
    assert "sample_0000: 3 views of" in first.stdout
    assert ("held back" if "Bricks102" in first.stdout or "Sci-Fi" in first.stdout else "trained on") in first.stdout


def test_the_views_are_written_as_the_network_saw_them(trained: Path, pool: Path, tmp_path: Path) -> None:
    from neuropbr_core.data.batches.batch import collate
    from neuropbr_core.data.batches.prepare import prepare
    from neuropbr_core.recipe import load_recipe

    infer("--run", trained, "--sample-idx", 3, "--output", tmp_path / "maps")
    recipe = load_recipe(trained / "recipe.yaml")
    seen = prepare(collate([neuropbr_core.open_dataset(recipe)[3]]), recipe.data, "cpu").views[0]
    for index, view in enumerate(seen):
        with Image.open(tmp_path / f"maps/views/{index}.png") as image:
            written = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(written, view, atol=0.51 / 255, rtol=0)


def test_a_sample_that_is_not_there_and_options_that_exclude_each_other(trained: Path, tmp_path: Path) -> None:
    done = infer("--run", trained, "--sample-idx", 8, "--output", tmp_path / "maps")
    assert done.returncode == 1
    assert "has 8 samples; found index 8, allowed 0 to 7" in done.stderr
    both = infer("--run", trained, "--sample-idx", 1, "--input", tmp_path, "--output", tmp_path / "maps")
    assert both.returncode == 2
    assert "give either PHOTOS or --sample-idx N" in both.stderr
    file = infer("--model", tmp_path / "model.pt", "--output", tmp_path / "maps")
    assert file.returncode == 2
    assert "only a run knows a dataset" in file.stderr
    assert not (tmp_path / "maps").exists()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A run that was never trained, of a model that takes plain photos."""
    return small_run.save_run(tmp_path / "plain", small_run.small_recipe(*small_run.PLAIN))


def maps_of(run: Path, folder: Path, out: Path) -> dict[str, bytes]:
    """What `infer` writes for a folder of photos, by name."""
    done = CliRunner().invoke(
        root, ["infer", "--run", str(run), "--input", str(folder), "--output", str(out), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.png")}


def test_refinement_is_refused_before_photos_are_read(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    arguments = ["infer", str(tmp_path / "photos"), "--output", str(tmp_path / "maps"), "--device", "cpu", "--refine=2"]
    unaligned = CliRunner().invoke(root, [*arguments, "--run", str(plain)])
    assert isinstance(unaligned.exception, DataError)
    assert "--refine needs a model that was trained on aligned views" in str(unaligned.exception)
    large = CliRunner().invoke(root, [*arguments, "--resolution", "8192"])
    assert large.exit_code == 2
    assert "give --resolution up to 4096 with it" in large.output
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_photos_of_any_kind_and_size_will_do(plain: Path, tmp_path: Path, count: int) -> None:
    names = ("a.png", "b.jpg", "c.HEIC", "d.jpeg", "e.png")[:count]
    random = np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for index, name in enumerate(names):
        side = 40 + 8 * index
        image = Image.fromarray(random.integers(0, 256, (side, side + 24, 3), dtype=np.uint8))
        if name.endswith("HEIC"):
            pillow_heif.from_pillow(image).save(tmp_path / "photos" / name, quality=95)
        else:
            image.save(tmp_path / "photos" / name)
    found = maps_of(plain, tmp_path / "photos", tmp_path / "maps")
    assert set(found) == {f"{name}.png" for name in MAPS} | {f"views/{index}.png" for index in range(count)}
    if count > 1:
        (tmp_path / "photos" / names[-1]).unlink()
        fewer = maps_of(plain, tmp_path / "photos", tmp_path / "fewer")
        assert fewer["albedo.png"] != found["albedo.png"], "every photo counts"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_views_than_in_training_will_do_with_cameras_too(
    trained: Path, pool: Path, tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "sample_0001"
    folder.mkdir()
    for index in range(count):
        shutil.copy(pool / f"input/clean/sample_0001/{index}.png", folder)
    sets = json.loads((pool / "input/cameras.json").read_text())
    (folder / "cameras.json").write_text(json.dumps({**sets, "sample_0001": sets["sample_0001"][:count]}))
    assert len(maps_of(trained, folder, tmp_path / "maps")) == 4 + count
