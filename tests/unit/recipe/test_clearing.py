"""Empty mappings, `null` and `off` clear what a recipe inherits; `check` finds what a run would refuse."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from neuropbr_core.cli.recipe import recipe as command
from neuropbr_core.errors import RecipeError
from neuropbr_core.recipe import load_recipe

BASE = "neuropbr:quickstart"


@pytest.mark.parametrize("empty", ["{}", "null"])
@pytest.mark.parametrize("keys", [("data", "oversample"), ("data", "jitter"), ("export",), ("observers",)])
def test_an_inherited_mapping_is_cleared(empty: str, keys: tuple[str, ...]) -> None:
    before = load_recipe(BASE, ["data.groups={oak: [a, b]}", "data.jitter.exposure=0.5", "export.onnx={}"]).tree
    after = load_recipe(BASE, ["data.jitter.exposure=0.5", "export.onnx={}", f"{'.'.join(keys)}={empty}"]).tree
    for key in keys:
        before = before[key]
        after = after[key]
    assert before != after
    assert after in ({}, {"exposure": 0.0, "color": 0.0, "alignment": 0.0})


def test_a_file_clears_what_it_extends(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        f"extends: {BASE}\ndata: {{oversample: {{}}, source: null}}\nlosses: {{ssim: off, normal: false}}\n"
    )
    recipe = load_recipe(path)
    assert recipe.data.oversample == {}
    assert recipe.source.use == "neuropbr:layout"
    assert not {"ssim", "normal"} & set(recipe.losses)


@pytest.mark.parametrize("value", ["off", "null", "false"])
def test_what_is_not_inherited_cannot_be_switched_off(value: str) -> None:
    with pytest.raises(RecipeError, match=r"losses\.nope: .* removes an inherited entry, but none is inherited"):
        load_recipe(BASE, [f"losses.nope={value}"])


@pytest.mark.parametrize("value", ["nonsense", "7", "[1]"])
def test_an_entry_is_no_scalar(value: str) -> None:
    with pytest.raises(RecipeError, match=r"losses\.ssim: found .*; allowed: a mapping or null"):
        load_recipe(BASE, [f"losses.ssim={value}"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "model:\n  encoder: {use: unet, channels: [8, 16, 16]}\n  decoder: {channels: [16, 16, 16, 16, 16]}\n",
            "a.yaml:4:23 model.decoder.channels: lists 5 widths, but this encoder needs",
        ),
        ("data: {image_size: 33, output_size: 33, crop_size: null}\n", "a.yaml:2:20 data.image_size: found 33, but"),
        (f"model: {{encoder: {{use: unet, channels: {[8] * 40}}}}}\n", "encoder/unet of neuropbr"),
    ],
)
def test_check_finds_what_a_run_would_refuse(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(f"extends: {BASE}\n{text}")
    result = CliRunner().invoke(command, ["check", "a.yaml"])
    assert result.exit_code == 1
    assert said in result.stderr


def test_a_recipe_without_a_loss_that_counts_is_refused() -> None:
    losses = ", ".join(f"{name}: {{weight: 0}}" for name in load_recipe(BASE).losses)
    result = CliRunner().invoke(command, ["check", BASE, "--set", f"losses={{{losses}}}"])
    assert result.exit_code == 1
    assert "losses: no loss counts within" in result.stderr
