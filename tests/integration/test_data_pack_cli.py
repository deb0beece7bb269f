"""`neuropbr data pack`, and what a run makes of the pack."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from neuropbr_core import open_dataset
from neuropbr_core.cli.data import data
from neuropbr_core.data.images import write_png
from neuropbr_core.errors import DataError
from neuropbr_core.reporting import RecordingReporter, reporting_to


@pytest.fixture
def dataset(pool, tmp_path):
    """The pool of the other tests, without what they may have packed."""
    return shutil.copytree(pool, tmp_path / "dataset", ignore=shutil.ignore_patterns(".pack"))


def invoke(*arguments):
    return CliRunner().invoke(data, ["pack", *map(str, arguments)], catch_exceptions=False)


def test_a_run_finds_what_the_command_packed(dataset, make_recipe):
    result = invoke(dataset, "--size", "32", "--json")
    report = json.loads(result.stdout)
    assert (report["folder"], report["samples"], report["kept"]) == (str(dataset / ".pack"), 8, 0)
    assert report["packed"] > 40
    with reporting_to(RecordingReporter()) as told:
        opened = open_dataset(make_recipe(f"data.root={dataset}"))
    lines = told.lines
    assert (lines, opened.train.images.instant) == ([], True)


def test_packing_twice_keeps_everything(dataset):
    first = invoke(dataset, "--size", "32").stdout
    assert first.startswith("Packed ")
    assert f" images of 8 samples into {dataset / '.pack'}: " in first
    assert first.endswith(" s; kept 0\n")
    packed = first.split()[1]
    assert invoke(dataset, "--size", "32").stdout == (
        f"Packed 0 images of 8 samples into {dataset / '.pack'}; kept {packed}\n"
    )


def test_a_recipe_says_what_to_pack(dataset, tmp_path):
    sizes = {"image_size": "16", "output_size": "16", "crop_size": "null", "synthesize": "null"}
    settings = [word for key, value in sizes.items() for word in ("--set", f"data.{key}={value}")]
    result = invoke(dataset, "--recipe", "neuropbr:quickstart", *settings, "--output", tmp_path / "pack", "--json")
    report = json.loads(result.stdout)
    assert (report["folder"], report["samples"]) == (str(tmp_path / "pack"), 8)
    assert report["nbytes"] < 8 * 17 * 16**2 + 1


def test_pruning_removes_what_is_not_used_any_more(dataset):
    invoke(dataset, "--size", "32")
    (old,) = (dataset / ".pack").glob("*.pack")
    rng = np.random.default_rng(0)
    paths = [*dataset.rglob("*.png")]
    assert "Removed" not in invoke(dataset, "--size", "32", "--prune").stdout
    for path in paths:
        with Image.open(path) as image:
            shape = np.asarray(image).shape
        write_png(path, rng.integers(0, 256, shape, np.uint8))
    result = invoke(dataset, "--size", "32", "--prune")
    assert result.stdout.startswith(f"Packed {len(paths)} images")
    assert result.stdout.endswith("Removed 0.1 MB that the dataset does not use\n")
    assert not old.exists()


def test_a_dataset_must_be_named():
    result = CliRunner().invoke(data, ["pack"])
    assert result.exit_code == 2
    assert "name a DATASET, or a recipe with --recipe" in result.stderr


def test_a_folder_without_a_dataset_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no samples found"):
        invoke(tmp_path)
