"""`neuropbr recipe …` and the overrides of commands that take a recipe."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from neuropbr_core.cli.overrides import collect_overrides, override_options
from neuropbr_core.cli.recipe import recipe
from neuropbr_core.recipe import load_recipe, resolve_recipe

RECIPE = """\
description: tiny
data: {image_size: 64, output_size: 64}
model:
  encoder: {use: resnet, variant: resnet18}
  fusion: {use: vit, dim: 32, heads: 2, depth: 1}
losses: {l1: {}, gan: {layers: 3, width: 8}}
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    return lambda *words: CliRunner().invoke(recipe, words, catch_exceptions=False)


def test_check_reports_good_files_and_all_problems_of_bad_ones(run: Run) -> None:
    Path("bad.yaml").write_text("extends: tiny.yaml\ntraining: {epochs: 0, sede: 1}\n")
    result = run("check", "tiny.yaml", "bad.yaml", "neuropbr:teacher_default")
    assert result.exit_code == 1
    assert result.stdout == "recipe ok: tiny.yaml\nrecipe ok: neuropbr:teacher_default\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "bad.yaml:2:20 training.epochs: found 0; allowed: an integer from 1 to 1000000"
    assert lines[1].startswith("bad.yaml:2:23 training.sede: unknown key; allowed: epochs, batch_size, ")
    assert lines[1].endswith("did you mean `seed`?")


def test_check_looks_at_the_recipe_that_makes_the_teacher(run: Run, tmp_path: Path) -> None:
    student = "extends: tiny.yaml\nteacher: {recipe: %s}\nlosses: {distillation: {}}\n"
    Path("student.yaml").write_text(student % "tiny.yaml")
    assert run("check", "student.yaml").stdout == "recipe ok: student.yaml\n"
    overrides = 'teacher.overrides=["training.epochs=0", "model.fusion.deep=3"]'
    lines = run("check", "student.yaml", "--set", overrides).stderr.splitlines()
    assert len(lines) == 2
    assert "model.fusion.deep: unknown key; " in lines[1]
    assert lines[0].endswith(
        "training.epochs: found 0; allowed: an integer from 1 to 1000000 (from `teacher.overrides training.epochs=0`)"
    )
    gone = run("check", "student.yaml", "--set", "teacher.recipe=tniy.yaml")
    assert gone.exit_code == 1
    assert gone.stderr == (f"{tmp_path}/tniy.yaml:1:1: there is no such file; did you mean `{tmp_path}/tiny.yaml`?\n")
    Path("grandchild.yaml").write_text(student % "student.yaml")
    result = run("check", "grandchild.yaml")
    assert "student.yaml:1:1 teacher: has a teacher itself; train that first, and name teacher.run" in result.stderr


def test_check_takes_overrides(run: Run) -> None:
    assert run("check", "tiny.yaml", "--set", "losses.gan=null").exit_code == 0
    result = run("check", "tiny.yaml", "--set", "losses.gna=null")
    assert result.exit_code == 1
    assert result.stderr.startswith("--set:1:1 losses.gna: null removes an inherited entry, but none is inherited")


def test_show_says_where_every_value_came_from(run: Run) -> None:
    lines = run("show", "tiny.yaml", "--set", "training.epochs=3").stdout.splitlines()
    assert "    use: neuropbr:resnet                      # tiny.yaml:4" in lines
    assert "    freeze: false                             # default" in lines
    assert "  epochs: 3                                   # --set training.epochs=3" in lines
    values = [line for line in lines if line and not line.endswith(":")]
    assert all("  # " in line for line in values)


def test_what_show_prints_is_the_same_recipe(run: Run) -> None:
    Path("shown.yaml").write_text(run("show", "tiny.yaml").stdout)
    assert load_recipe("shown.yaml") == load_recipe("tiny.yaml")


def test_cost_adds_up(run: Run) -> None:
    head, columns, *rows = run("cost", "tiny.yaml", "--set", "data.crop_size=32").stdout.splitlines()
    assert head == "tiny.yaml: 3 views of 64×64 to maps of 64×64, trained on crops of 32"
    assert columns.split() == ["part", "parameters", "GFLOP", "activations", "MB"]
    counts = {name.strip(): values.split() for name, values in ((row[:12], row[12:]) for row in rows)}
    assert list(counts) == ["encoder", "fusion", "decoder", "heads", "other", "critic gan", "total"]
    total = counts.pop("total")
    assert int(total[0].replace(",", "")) == sum(int(count.replace(",", "")) for count, *_ in counts.values())
    assert counts.pop("critic gan")[2] == "-"
    for column in (1, 2):
        parts = [float(values[column]) for values in counts.values()]
        assert sum(parts) <= float(total[column]) + 0.05 * len(parts)
        assert float(total[column]) > 0


def test_cost_takes_several_recipes(run: Run) -> None:
    lines = run("cost", "tiny.yaml", "neuropbr:student_mobilenetv3_512").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == ["tiny.yaml", "neuropbr"]


def test_schema_describes_the_installed_components(run: Run) -> None:
    assert run("schema", "--output", "s.json").stdout == "wrote s.json\n"
    schema = json.loads(Path("s.json").read_text())
    assert json.loads(run("schema").stdout) == schema
    assert {"resnet", "neuropbr:resnet"} <= set(schema["$defs"]["encoder"]["properties"]["use"]["enum"])
    assert "l1" in schema["properties"]["losses"]["properties"]


def test_diff_lists_changed_values(run: Run) -> None:
    Path("other.yaml").write_text("extends: tiny.yaml\ntraining: {epochs: 7}\n")
    assert run("diff", "tiny.yaml", "other.yaml").stdout == "training.epochs: 100 -> 7\n"
    assert run("diff", "tiny.yaml", "tiny.yaml").stdout == "no differences\n"


def test_list_names_the_shipped_recipes(run: Run) -> None:
    lines = run("list").stdout.splitlines()
    teacher = next(line for line in lines if line.startswith("neuropbr:teacher_default "))
    assert "ResNet50" in teacher


@click.command()
@override_options
def command(**overrides: Any) -> None:
    resolved = resolve_recipe("tiny.yaml", collect_overrides(**overrides))
    data, training = resolved.recipe.data, resolved.recipe.training
    click.echo(json.dumps([data.root, data.render_curriculum, training.device, training.epochs, training.seed]))
    click.echo(resolved.origin(("data", "root")))


def test_flags_are_overrides_that_keep_their_words(run: Run) -> None:
    words = ["--data", "1e3", "--render-curriculum", "1", "--device", "cpu", "--epochs", "2", "--seed", "0"]
    result = CliRunner().invoke(command, [*words, "--set", "training.epochs=9"], catch_exceptions=False)
    assert result.output.splitlines() == ['["1e3", 1, "cpu", 2, 0]', "--data 1e3"]


def test_use_dirty_means_curriculum_two(run: Run) -> None:
    assert json.loads(CliRunner().invoke(command, ["--use-dirty"]).output.splitlines()[0])[1] == 2
    result = CliRunner().invoke(command, ["--use-dirty", "--render-curriculum", "1"])
    assert result.exit_code == 2
    assert "--use-dirty means --render-curriculum 2; give only one of them" in result.output


def test_no_flag_changes_nothing(run: Run) -> None:
    result = CliRunner().invoke(command, [], catch_exceptions=False)
    assert result.output.splitlines() == ['[null, 0, "auto", 100, 42]', "default"]


def test_a_check_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    script = (
        "import sys; from neuropbr_core.recipe import load_recipe; "
        "assert 'jsonschema' not in sys.modules; load_recipe('tiny.yaml'); "
        "print([name for name in ('torch', 'timm', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_training_spares_the_start_of_torchmetrics() -> None:
    script = (
        "import sys, neuropbr_core.training.lightning; "
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('torchmetrics', 'scipy')]; "
        "from torchmetrics.functional.image import structural_similarity_index_measure"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_program_exits_with_one_and_no_traceback(run: Run) -> None:
    words = ["-c", "from neuropbr_core.cli import main; main()", "recipe", "check", "missing.yaml"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "missing.yaml:1:1: there is no such file; did you mean `tiny.yaml`?\n"
