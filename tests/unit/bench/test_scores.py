"""The numbers of the bench are those of an independent computation, and its tables say what they are about."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_maps import true_maps
from click.testing import CliRunner, Result
from PIL import Image
from small_run import save_run, small_recipe

from neuropbr_core import load_generator
from neuropbr_core.bench import protocol as protocol_module
from neuropbr_core.bench.entries import entry_of_model
from neuropbr_core.bench.protocol import BenchCaptures
from neuropbr_core.bench.scores import describe, score
from neuropbr_core.cli import root
from neuropbr_core.data.splits import Split
from neuropbr_core.training.provenance import write_provenance

MATERIALS = ("acg_MetalPlates006", "acg_Rock053", "t3_Wood_027")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["bench", *map(str, arguments)])


@pytest.fixture
def noisy(captures: BenchCaptures, tmp_path: Path) -> Path:
    """A tool whose roughness is wrong by another amount for each capture."""
    folder = true_maps(captures, tmp_path / "noisy")
    for index, name in enumerate(captures.names):
        file = folder / name / "roughness.png"
        with Image.open(file) as image:
            values = np.asarray(image).astype(int)
        Image.fromarray(np.clip(values - 10 * index, 0, 255).astype(np.uint8)).save(file)
    return folder


def test_means_and_deviations_over_materials(small_bench: BenchCaptures, noisy: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench("--maps", noisy, "--maps", true_maps(small_bench, tmp_path / "truth"), "--output", file)
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert document["protocol"] == small_bench.protocol.digest
    entry, perfect = document["entries"]
    assert (entry["name"], perfect["name"]) == ("noisy", "truth")
    assert (entry["trained_on"], entry["trained_on_is_complete"]) == ([], False)
    errors: dict[str, list[float]] = {}
    for name, sample in small_bench.names.items():
        with Image.open(noisy / name / "roughness.png") as image:
            wrong = np.asarray(image) / 255
        with Image.open(small_bench.folder / "output" / sample.material / "roughness.png") as image:
            errors.setdefault(sample.material, []).append(float(abs(wrong - np.asarray(image) / 255).mean()))
    means = [np.mean(values) for values in errors.values()]
    spread = entry["unseen"]["roughness/mae"]
    # Every pixel of these captures is visible, so the error is that of the whole map.
    assert spread["mean"] == pytest.approx(np.mean(means), abs=1e-5)
    assert spread["deviation"] == pytest.approx(np.std(means, ddof=1), abs=1e-5)
    assert spread["materials"] == 3
    assert perfect["unseen"]["roughness/mae"]["mean"] == 0
    assert document["baselines"]["flat normal"]["normal/angle"]["mean"] > 0
    assert "rerender/lpips" not in spread
    assert "noisy: nobody knows whether it was trained on materials of the bench" in done.stdout
    assert f"{np.mean(means):.3f} ± {np.std(means, ddof=1):.3f}" in done.stdout


def test_the_shipped_model_is_scored_on_what_it_has_not_seen(small_bench: BenchCaptures, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench("--device", "cpu", "--output", file)
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert document["unseen"] == ["acg_MetalPlates006", "t3_Wood_027"]
    (entry,) = document["entries"]
    assert (entry["name"], entry["refined"], entry["trained_on"]) == ("flash-3", 0, ["acg_Rock053"])
    assert entry["chosen_on"] == ["acg_MetalPlates006"]
    assert entry["unseen"]["albedo/psnr"]["materials"] == 2
    assert "no entry is known to have trained on: acg_MetalPlates006, t3_Wood_027\n" in done.stdout
    assert "acg_Rock053 *" in done.stdout
    assert "* flash-3: was trained on acg_Rock053, whose numbers measure memory" in done.stdout
    assert "choices about it were made on acg_MetalPlates006" in done.stdout
    assert "LPIPS is left out" in done.stdout


@pytest.mark.slow
def test_maps_of_a_model_score_alike_as_files(small_bench: BenchCaptures, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    assert bench("--photos", photos).exit_code == 0
    refining = ["--refine=3", "--device", "cpu"]
    predicted = CliRunner().invoke(
        root, ["batch", str(photos / "photos"), "--output", str(tmp_path / "maps"), *refining], catch_exceptions=False
    )
    assert predicted.exit_code == 0, predicted.output
    done = bench("--model", "flash-3", "--maps", tmp_path / "maps", *refining, "--json")
    assert done.exit_code == 0, done.output
    model, files = json.loads(done.stdout)["entries"]
    assert (model["name"], model["refined"]) == ("flash-3, refined", 3)
    for metric, limit in {"albedo/psnr": 0.2, "roughness/mae": 2e-3, "normal/angle": 0.2, "rerender/psnr": 0.3}.items():
        assert files["unseen"][metric]["mean"] == pytest.approx(model["unseen"][metric]["mean"], abs=limit)


def test_numbers_that_cannot_be_compared_come_with_a_warning(small_bench: BenchCaptures, tmp_path: Path) -> None:
    folder = true_maps(small_bench, tmp_path / "some")
    for file in (folder / "t3_Wood_027_flash").iterdir():
        file.unlink()
    done = bench("--maps", folder)
    assert "warning: some: 1 of 6 captures have no maps, so that its numbers cannot be compared" in done.stdout
    assert "t3_Wood_027_flash: there are no maps of that name" in done.stdout


def test_places_and_names_are_checked_before_anything_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rendered() -> BenchCaptures:
        pytest.fail("captures were rendered")

    monkeypatch.setattr(protocol_module, "prepare_captures", rendered)
    first, second, shipped = (tmp_path / name for name in ("a/tool", "b/tool", "flash-3"))
    for folder in (first, second, shipped):
        folder.mkdir(parents=True)
    for words in (("--maps", first, "--maps", second), ("--model", "flash-3", "--device", "cpu", "--maps", shipped)):
        assert "two entries have that name" in str(bench(*words).exception)
    assert "no such folder" in str(bench("--maps", tmp_path / "nowhere").exception)


def run_trained_on(folder: Path, materials: list[str]) -> Path:
    """A run of random weights whose record names the materials."""
    recipe = small_recipe()
    save_run(folder, recipe)
    write_provenance(folder, recipe, {"split": asdict(Split(tuple(materials), (), 0, None)), "drawn": []})
    return folder


def test_the_tables_are_over_what_no_run_was_trained_on(captures: BenchCaptures, tmp_path: Path) -> None:
    first = entry_of_model(load_generator(run_trained_on(tmp_path / "first", ["acg_Rock053", "mine"])), captures)
    second = entry_of_model(load_generator(run_trained_on(tmp_path / "second", ["t3_Wood_027"])), captures)
    assert (first.name, first.trained_on) == ("first", (("acg_Rock053", "mine"), True))
    assert score([first], captures).unseen == ("acg_MetalPlates006", "t3_Wood_027")
    assert score([second], captures).unseen == ("acg_MetalPlates006", "acg_Rock053")
    both = score([first, second], captures)
    document = both.to_dict()
    assert document["unseen"] == ["acg_MetalPlates006"]
    assert [entry["trained_on"] for entry in document["entries"]] == [["acg_Rock053"], ["t3_Wood_027"]]
    text = describe(both)
    assert "no entry is known to have trained on: acg_MetalPlates006\n" in text
    assert "nobody knows" not in text


def test_nothing_is_compared_when_every_material_was_trained_on(captures: BenchCaptures, tmp_path: Path) -> None:
    model = load_generator(run_trained_on(tmp_path / "all", list(MATERIALS)))
    result = score([entry_of_model(model, captures)], captures)
    assert result.unseen == ()
    assert json.loads(json.dumps(result.to_dict()))["baselines"] == {}
    text = describe(result)
    assert "Every material was trained on by one of the entries" in text
    assert text.count(" *  ") == 3


def test_a_damaged_file_in_the_hubs_cache_leaves_lpips_out(
    small_bench: BenchCaptures, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    done = bench("--maps", noisy)
    assert done.exit_code == 0, done.output
    assert "holds no weights that PyTorch reads" in done.stderr
    assert "LPIPS is left out" in done.stdout
    assert "holds no weights" in str(bench("--maps", noisy, "--lpips-weights", file).exception)


@pytest.mark.slow
def test_lpips_is_computed_with_given_weights(
    small_bench: BenchCaptures, noisy: Path, alexnet_at_random: Path, tmp_path: Path
) -> None:
    truth = true_maps(small_bench, tmp_path / "truth")
    file = tmp_path / "bench.json"
    done = bench("--maps", noisy, "--maps", truth, "--lpips-weights", alexnet_at_random, "--output", file)
    document: dict[str, Any] = json.loads(file.read_text())
    first, perfect = document["entries"]
    assert document["lpips"]["usual"] is False
    assert first["unseen"]["rerender/lpips"]["mean"] > 0
    assert perfect["unseen"]["rerender/lpips"]["mean"] == 0
    assert "rerender LPIPS" in done.stdout
    assert "are not those of alexnet-owt-7be5be79.pth" in done.stdout
    torch.save({}, tmp_path / "nothing.pth")
    assert "holds no state of an AlexNet" in str(bench("--lpips-weights", tmp_path / "nothing.pth").exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--photos", "here", "--model", "flash-3"), "--photos scores nothing"),
        (("--photos", "here", "--json"), "--photos scores nothing"),
        (("--photos", "here", "--device", "auto"), "--photos scores nothing"),
        (("--maps", "there", "--refine"), "--refine is for a model"),
        (("--run", "runs/a", "--model", "flash-3"), "either --run DIR or --model"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.exit_code == 2
    assert message in done.output
