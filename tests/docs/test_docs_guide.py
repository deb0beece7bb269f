"""`docs/guide.md` has a counterpart for everything that the training guide names, and every counterpart is real."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from guide_rows import GUIDE, PAGE, table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neuropbr_core.cli import root
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.runs.run import run
from neuropbr_core.shipped import recipe_names


def codes(name: str) -> list[Any]:
    """Each row's first cell with the texts in backticks of its second."""
    return [pytest.param(re.findall(r"`([^`]+)`", counterpart), id=guide) for guide, counterpart in table(name).items()]


def commands() -> list[str]:
    """Every command of ours that the page shows."""
    return sorted(set(re.findall(r"`(neuropbr [^`]+)`", PAGE)))


@pytest.mark.parametrize("name", GUIDE)
def test_nothing_that_the_guide_names_is_missing(name: str) -> None:
    assert list(table(name)) == GUIDE[name] or set(table(name)) == set(GUIDE[name])
    assert all(table(name).values())


@pytest.mark.parametrize("texts", [*codes("keys"), *codes("losses")[:3], *codes("troubles")])
def test_settings_are_real(texts: list[str]) -> None:
    assert all("=" in text for text in texts)
    load_recipe("neuropbr:teacher_default", texts)


def test_values_that_the_notes_list_are_allowed() -> None:
    for text in (
        *(f"model.encoder.variant=resnet{depth}" for depth in (18, 34, 50, 101, 152)),
        *(f"optimizer.scheduler={name}" for name in ("cosine", "step", "plateau", "none")),
        *(f"model.encoder={{use: unet, downsampling: {name}}}" for name in ("max_pool", "strided")),
        *(f"training.precision={name}" for name in ("auto", "fp32", "bf16", "fp16")),
        *(f"losses.gan.mode={name}" for name in ("hinge", "bce")),
        *(f"data.render_curriculum={name}" for name in ("0", "1", "2", "clean", "mixed", "dirty")),
        "losses.gan.critic=simple",
        "losses.gan.ramp_epochs=5",
        "observers.tensorboard=null",
    ):
        load_recipe("neuropbr:teacher_default", [text])


@pytest.mark.parametrize("texts", codes("presets"))
def test_presets_ship(texts: list[str]) -> None:
    (reference,) = texts
    assert reference.removeprefix("neuropbr:") in recipe_names()


@pytest.mark.parametrize("text", commands())
def test_commands_and_flags_exist(text: str) -> None:
    _, *words = shlex.split(text)
    context = click.Context(root)
    command: click.Command = root
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, text
        command = found
    flags = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    used = [word for word in words if word.startswith("--")]
    assert [flag for flag in used if flag not in flags] == []
    for word, value in pairwise([*words, ""]):
        if word == "--to":
            assert value in {entry.name for entry in _registry_entries("exporter")}
        elif word == "--set" and value != "KEY=VALUE":
            key = value.partition("=")[0]
            load_recipe(
                "neuropbr:teacher_default", ["teacher={run: runs/teacher}", "losses.distillation={}", f"{key}=here"]
            )


def test_options_of_exporters_are_real() -> None:
    from neuropbr_core.kinds import KINDS
    from neuropbr_core.registry import default_registry

    keys = set(KINDS["exporter"].entry_options.__dataclass_fields__)
    keys |= set(default_registry().options("exporter", "coreml").__dataclass_fields__)
    named = re.findall(r"--option (\w+)=", PAGE)
    assert named
    assert [key for key in named if key not in keys] == []


def _registry_entries(kind: str) -> Any:
    from neuropbr_core.registry import default_registry

    return default_registry().entries(kind)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart with a GAN, made small."""
    base = tmp_path_factory.mktemp("guide")
    synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=32), base / "data")
    small = [
        *("data.synthesize=null", "data.image_size=32", "data.output_size=32", "data.crop_size=32", "data.repeats=1"),
        *("model.encoder.channels=[8, 8]", "model.decoder={channels: [8], head_channels: 8}"),
        *("losses.gan={layers: 2, width: 8}", "training.epochs=1", "training.device=cpu", "export.torchscript=null"),
    ]
    places = [f"data.root={base / 'data'}", f"training.runs_dir={base / 'runs'}"]
    recipe = load_recipe("neuropbr:quickstart", [*small, *places])
    return run(recipe)


def test_signals_are_written(finished: Path) -> None:
    tags = EventAccumulator(str(finished / "tensorboard")).Reload().Tags()
    written = [*tags["scalars"], *tags["images"]]
    patterns = {"MAP": f"({'|'.join(MAP_NAMES)})", "MATERIAL": "[^/]+", "LOSS": "[^/]+", "TERM": "[^/]+"}
    for texts in (param.values[0] for param in codes("signals")):
        assert texts
        for text in texts:
            pattern = re.sub(r"MATERIAL|MAP|LOSS|TERM", lambda word: patterns[word[0]], text)
            assert any(re.fullmatch(pattern, tag) for tag in written), text


def test_outputs_of_a_run_are_there(finished: Path) -> None:
    named = [text for texts in (param.values[0] for param in codes("outputs")) for text in texts]
    inside = [text.removeprefix("RUN/") for text in named if text.startswith("RUN/")]
    elsewhere = ("wandb.json", "exports/coreml.mlpackage")  # theirs are tests of the observer and of the exporter
    for text in inside:
        if text not in elsewhere:
            assert list(finished.glob(text.replace("NNNN", "*"))), text


def test_common_issues_are_answered_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    views = tmp_path / "input" / "clean"
    answers = {}
    views.mkdir(parents=True)
    answers['"No samples found"'] = check(tmp_path)
    (views / "sample_0001").mkdir()
    answers["FileNotFoundError: render_metadata.json"] = check(tmp_path)
    (tmp_path / "input" / "render_metadata.json").write_text(json.dumps({"sample_0000": "oak"}))
    answers["KeyError: sample_XXXX"] = check(tmp_path)
    for guide, counterpart in table("issues").items():
        (text,) = re.findall(r"`([^`]+)`", counterpart)
        assert text in answers[guide]


def check(dataset: Path) -> str:
    result = CliRunner().invoke(root, ["data", "check", str(dataset)])
    return " ".join((result.output + str(result.exception or "")).split())
