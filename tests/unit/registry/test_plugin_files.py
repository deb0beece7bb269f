"""Components of single files: `--plugin FILE`, and `plugins:` in a recipe."""

import json
import os
import pickle
import sys
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neuropbr_core.cli import root
from neuropbr_core.errors import PluginBroken, PluginCollision, PluginNotFound, RecipeError, RunError
from neuropbr_core.kinds import KINDS, Kind
from neuropbr_core.recipe import dump_recipe, load_recipe
from neuropbr_core.registry import Registry, set_default_registry
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.train import check_same_plugin_files
from neuropbr_core.training.provenance import write_provenance

LOSS = '''
    """Absolute error of albedo."""
    from dataclasses import dataclass
    import torch
    from neuropbr_core.contracts import Loss, LossResult
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        power: int = 1

    class Absolute(Loss):
        def forward(self, x, critic=None):
            seen = x.valid.expand_as(x.target["albedo"]) > 0
            error = torch.where(seen, x.prediction.maps["albedo"] - x.target["albedo"], 0.0).abs()
            return LossResult(error.sum() / seen.sum().clamp_min(1), {})

    @hookimpl
    def loss_options():
        return Options

    @hookimpl
    def create_loss(options):
        return Absolute()
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "absolute.py"
    path.write_text(dedent(LOSS))
    return path


@pytest.fixture
def recipe(tmp_path: Path, file: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("extends: neuropbr:quickstart\nplugins: [absolute.py]\nlosses: {absolute: {power: 2}}\n")
    return path


def call(*args: str) -> Result:
    set_default_registry(None)
    return CliRunner().invoke(root, args)


class TestCommandLine:
    def test_listed_checked_and_used(self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done = call("--plugin", str(file), "list-plugins", "--kind", "loss", "--check")
        assert done.exit_code == 0, done.output
        (row,) = [line for line in done.output.splitlines() if line.split()[1:2] == ["absolute"]]
        assert row.split()[:3] == ["loss", "absolute", "plugin-file"]
        assert "Absolute error of albedo." in row
        done = call("--plugin", str(file), "recipe", "check", "neuropbr:quickstart", "--set", "losses.absolute={}")
        assert done.exit_code == 0, done.output
        done = call("recipe", "check", "neuropbr:quickstart", "--set", "losses.absolute={}")
        assert "no installed distribution offers loss/absolute" in done.output

    def test_passes_the_suite(self, file: Path) -> None:
        done = call("--plugin", str(file), "plugin", "check", "loss/absolute")
        assert done.exit_code == 0, done.output

    def test_a_missing_file(self, tmp_path: Path) -> None:
        done = call("--plugin", str(tmp_path / "gone.py"), "list-plugins")
        assert isinstance(done.exception, PluginNotFound)
        reason = "is no plugin file that can be read (No such file or directory)"
        assert str(done.exception) == f"{tmp_path}/gone.py: {reason}"


class TestFile:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("def create_loss(:", "is not Python"),
            ("x = 1", "this one defines none of these hooks"),
            ("def create_loss(): ...\ndef create_fusion(): ...", "defines create_fusion and create_loss"),
        ],
    )
    def test_what_is_no_plugin(self, tmp_path: Path, source: str, message: str) -> None:
        path = tmp_path / "wrong.py"
        path.write_text(source)
        with pytest.raises(PluginBroken, match=message):
            Registry().add_file(path)

    @pytest.mark.parametrize(("name", "found"), [("/dev/zero", "is a device"), ("pipe.py", "is a named pipe")])
    def test_devices_and_pipes_are_not_waited_for(self, tmp_path: Path, name: str, found: str) -> None:
        path = tmp_path / name
        if name == "pipe.py":
            os.mkfifo(path)
        with pytest.raises(PluginNotFound, match=rf"{found}, and a file is needed"):
            Registry().add_file(path)

    def test_a_source_that_the_parser_cannot_hold(self, tmp_path: Path) -> None:
        path = tmp_path / "deep.py"
        path.write_text(f"a = {'-' * 100_000}1")
        with pytest.raises(PluginBroken, match=r"deep\.py: is not Python"):
            Registry().add_file(path)

    def test_errors_when_it_runs_name_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "wrong.py"
        path.write_text("def create_loss(): ...\nraise OSError('no disk')")
        registry = Registry()
        registry.add_file(path)
        with pytest.raises(PluginBroken, match=f"OSError: no disk. It is the file {path}"):
            registry.options("loss", "wrong")

    def test_two_files_of_one_name(self, file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other" / "absolute.py"
        other.parent.mkdir()
        other.write_text(file.read_text())
        registry = Registry()
        registry.add_file(file)
        with pytest.raises(PluginCollision, match="rename one of the files"):
            registry.add_file(other)

    def test_one_file_in_two_spellings(self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "recipes").mkdir()
        (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
        monkeypatch.chdir(tmp_path)
        registry = Registry()
        entry = registry.add_file(Path("absolute.py"))
        assert registry.add_file(tmp_path / "recipes" / ".." / "absolute.py") == entry
        assert entry.file == str(file)
        registry.add_file(tmp_path / "link" / "absolute.py")
        assert registry.find("loss", "absolute").version == entry.version

    def test_a_file_that_changed_since_it_was_added_is_not_run(self, file: Path) -> None:
        # A text that no other test has: what has been run once in this process is not run again.
        file.write_text(file.read_text().replace("power: int = 1", "power: int = 7"))
        registry = Registry()
        registry.add_file(file)
        other = pickle.loads(pickle.dumps(registry))  # noqa: S301 - our own bytes
        file.write_text(file.read_text().replace("power: int = 7", "power: int = 4"))
        # The component of a process that a sweep starts later, and of this one.
        for place in (other, registry):
            with pytest.raises(PluginBroken, match=r"absolute\.py has changed since this command began"):
                place.options("loss", "absolute")
        registry.add_file(file)
        assert registry.options("loss", "absolute")().power == 4

    def test_cached_bytecode_of_an_earlier_text_is_not_run(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", False)
        # Python takes the bytecode for that of a text of the same length that was written in the same second.
        for power in (5, 6):
            file.write_text(dedent(LOSS).replace("power: int = 1", f"power: int = {power}"))
            os.utime(file, (1, 1))
            registry = Registry()
            registry.add_file(file)
            assert registry.options("loss", "absolute")().power == power

    def test_a_registry_is_the_same_in_another_process(self, file: Path) -> None:
        registry = Registry(["loss/ssim"])
        entry = registry.add_file(file)
        registry.options("loss", "absolute")  # a component that was loaded is loaded anew over there
        other = pickle.loads(pickle.dumps(registry))  # noqa: S301 - our own bytes
        assert other.find("loss", "absolute") == entry
        assert "ssim" in {found.name for found in other.entries("loss") if other.blocked_by(found)}
        assert [field.name for field in fields(other.options("loss", "absolute"))] == ["power"]

    def test_a_changed_file_takes_its_own_place(self, file: Path) -> None:
        registry = Registry()
        before = registry.add_file(file)
        assert registry.add_file(file) == before
        file.write_text(file.read_text().replace("power: int = 1", "power: int = 3"))
        after = registry.add_file(file)
        assert after.version != before.version
        assert registry.options("loss", "absolute")().power == 3


class TestRecipe:
    def test_paths_are_relative_to_the_recipe(self, recipe: Path, file: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir("/")
        checked = load_recipe(recipe, registry=Registry())
        assert checked.losses["absolute"].use == "plugin-file:absolute"
        assert checked.tree["plugins"] == [str(file)]

    def test_the_resolved_recipe_loads_alone(self, recipe: Path, tmp_path: Path) -> None:
        checked = load_recipe(recipe, registry=Registry())
        written = tmp_path / "elsewhere" / "recipe.yaml"
        written.parent.mkdir()
        written.write_text(dump_recipe(checked))
        assert load_recipe(written, registry=Registry()) == checked

    def test_a_file_of_the_command_line_is_written_down(self, file: Path) -> None:
        registry = Registry()
        registry.add_file(file)
        checked = load_recipe("neuropbr:quickstart", ["losses.absolute={}"], registry)
        assert checked.tree["plugins"] == [str(file)]

    def test_a_missing_file_has_a_place(self, recipe: Path, file: Path) -> None:
        file.unlink()
        with pytest.raises(RecipeError) as caught:
            load_recipe(recipe, registry=Registry())
        assert str(caught.value).startswith(f"{recipe}:2:11 plugins: {file}: is no plugin file")

    def test_a_wrong_type(self, tmp_path: Path) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text("extends: neuropbr:quickstart\nplugins: absolute.py\n")
        with pytest.raises(RecipeError, match="plugins"):
            load_recipe(path, registry=Registry())

    def test_a_recipe_without_files_has_no_such_key(self) -> None:
        assert "plugins" not in load_recipe("neuropbr:quickstart", registry=Registry()).tree


def test_the_recipe_of_a_run_runs_no_file(recipe: Path, file: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.write_recipe(load_recipe(recipe, registry=Registry()))
    set_default_registry(None)
    with pytest.raises(RecipeError, match=r"loss/plugin-file:absolute is the component of a file absolute\.py"):
        run.recipe()
    registry = Registry()
    registry.add_file(file)
    set_default_registry(registry)
    try:
        assert run.recipe().losses["absolute"].use == "plugin-file:absolute"
    finally:
        set_default_registry(None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.in_recipes], ids=lambda kind: kind.name)
def test_resuming_refuses_a_changed_file(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from neuropbr_core.plugin import hookimpl\nNEUROPBR_API = 1\n"
        f"@hookimpl\ndef {kind.create_hook}(options): raise NotImplementedError\n"
    )
    registry = Registry()
    registry.add_file(file)
    section = ".".join(kind.section)
    override = f"{section}.mine={{}}" if kind.many else f"{section}={{use: mine}}"
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    started = load_recipe("neuropbr:quickstart", [override], registry)
    write_provenance(run.path, started, {})
    check_same_plugin_files(run, started)
    file.write_text(file.read_text() + "\n# another idea\n")
    registry = Registry()
    registry.add_file(file)
    changed = load_recipe("neuropbr:quickstart", [override], registry)
    with pytest.raises(RunError, match=f"cannot resume: {file} has changed since the run was started"):
        check_same_plugin_files(run, changed)
    # What somebody has taken out of the record by hand is not compared, and the rest is.
    record = json.loads(run.provenance.read_text())
    (component,) = [component for component in record["components"] if component["name"] == "mine"]
    record["components"] = [{"kind": kind.name}, {}, component]
    run.provenance.write_text(json.dumps(record))
    with pytest.raises(RunError, match="cannot resume"):
        check_same_plugin_files(run, changed)
    del component["name"]
    run.provenance.write_text(json.dumps(record))
    check_same_plugin_files(run, changed)
