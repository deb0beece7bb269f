"""Commands and snippets of pages without a test file of their own run as they are written.

Commands that need several machines, a cluster, a forge or hours are not run: those of `docs/scale.md` and
`docs/plugins/publishing.md`, `make model` in `docs/models.md`, the benchmarks. `test_commands.py` reads them. Tests in
`tests/integration/` run what `docs/evaluation.md` and `docs/training.md` describe.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_run
import yaml
from click.testing import CliRunner

from neuropbr_core import contracts
from neuropbr_core.cli import root
from neuropbr_core.inference import effort
from neuropbr_core.recipe import load_recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, *languages: str) -> list[str]:
    texts = []
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            texts.append(text)
    return texts


def run_commands(text: str, **places: str) -> list[str]:
    """Run the commands of a block; words such as PHOTOS stand for places."""
    outputs = []
    for line in text.splitlines():
        words = [places.get(word, word) for word in shlex.split(line, comments=True)]
        assert words[0] == "neuropbr"
        done = CliRunner().invoke(root, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        outputs.append(done.output)
    return outputs


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of examples, in a current folder of its own; the photos of the bricks in it."""
    shutil.copytree(ROOT / "examples" / "captures", tmp_path / "examples" / "captures")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "examples" / "captures" / "bricks"


@pytest.mark.slow
def test_models(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The page is about models; a short fit shows as much, and the next test runs a whole one.
    monkeypatch.setattr(effort, "REFINE_STEPS", 2)
    commands, ensemble, export = blocks(DOCS / "models.md", "text")
    run_commands(commands, PHOTOS=str(photos))
    for folder in ("bricks_maps", "maps", "small"):
        assert {path.name for path in (tmp_path / folder).glob("*.png")} >= {"albedo.png", "normal.png"}
    # Exports in three formats take a minute and are tested elsewhere; one of them shows that the command is right.
    three = "coreml,onnx,torchscript --option coreml.precision=mixed"
    assert three in export
    run_commands(export.replace(three, "torchscript"))
    assert [path.suffix for path in (tmp_path / "exports").iterdir() if path.suffix != ".json"] == [".pt"]
    run_commands(ensemble.replace("infer PHOTOS", "infer PHOTOS --output sides"), PHOTOS=str(photos))
    (snippet,) = blocks(DOCS / "models.md", "python")
    shutil.rmtree(tmp_path / "maps")
    exec(snippet, {})  # noqa: S102 - a page of this repository
    assert len(list((tmp_path / "maps").glob("*.png"))) == 4


@pytest.mark.slow
def test_refinement(photos: Path, tmp_path: Path) -> None:
    run = small_run.save_run(tmp_path / "run", small_run.small_recipe())
    (commands,) = blocks(DOCS / "refinement.md", "text")
    for number, line in enumerate(commands.splitlines()):
        # Each into a folder of its own, because maps that exist are not replaced unasked.
        run_commands(
            line.replace("infer PHOTOS", f"infer PHOTOS --output maps{number}"), PHOTOS=str(photos), RUN=str(run)
        )
        assert (tmp_path / f"maps{number}" / "albedo.png").is_file()
    (snippet,) = blocks(DOCS / "refinement.md", "python")
    made: dict[str, Any] = {}
    exec(snippet, made)  # noqa: S102 - as above
    assert made["refinement"].error_after < made["refinement"].error_before


@pytest.mark.slow
def test_procedural_materials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture, folders = blocks(DOCS / "procedural.md", "console")
    assert len(run_commands(picture.replace("docs/images/procedural.png", "sheet.png --kinds bricks,sand"))) == 1
    assert (tmp_path / "sheet.png").is_file()
    for written, smaller in (("--count 100 --size 512", "--count 2 --size 32"), ("--count 20", "--count 2 --size 32")):
        assert written in folders
        folders = folders.replace(written, smaller)
    run_commands(folders)
    names = ["proc_brushed_metal_40", "proc_rusty_metal_40"]
    assert sorted(path.name for path in (tmp_path / "my_metals").glob("proc_*")) == names
    (recipe,) = blocks(DOCS / "procedural.md", "yaml")
    Path("mine.yaml").write_text("extends: neuropbr:teacher_default\n" + recipe, encoding="utf-8")
    synthesize = load_recipe("mine.yaml").data.synthesize
    assert synthesize is not None
    assert (synthesize.procedural, synthesize.seed) == (50, 7)
    (snippet,) = blocks(DOCS / "procedural.md", "python")
    made: dict[str, Any] = {}
    exec(snippet.replace("1024", "64", 1), made)  # noqa: S102 - as above
    assert made["maps"]["albedo"].shape == (1, 3, 64, 64)


@pytest.mark.slow
def test_alignment(photos: Path) -> None:
    (commands,) = re.findall(r"^    neuropbr data align PHOTOS$", (DOCS / "alignment.md").read_text(), re.MULTILINE)
    (photos / "cameras.json").unlink()
    run_commands(commands.strip(), PHOTOS=str(photos))
    assert (photos / "cameras.json").is_file()


def test_core_ml(tmp_path: Path) -> None:
    text = (DOCS / "coreml.md").read_text(encoding="utf-8")
    recipe, imports = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)[:2]
    tree = {"extends": "neuropbr:quickstart", **yaml.safe_load(recipe)}
    assert load_recipe(tree).export["coreml"].options.author == "Jane Doe"
    assert imports.count("import") == 2
    exec("\n".join(line.strip() for line in imports.splitlines() if "import" in line), {})  # noqa: S102 - as above


def test_live_captures() -> None:
    (sketch,) = blocks(DOCS / "live.md", "python")
    names = dict(vars(contracts))
    exec(sketch, names)  # noqa: S102 - as above
    # The sketch overrides what the contract has, under the same names and with the same parameters.
    drawer = names["Checkerboards"]
    assert issubclass(drawer, contracts.VisitDrawer)
    assert drawer.draw.__code__.co_varnames[:3] == contracts.VisitDrawer.draw.__code__.co_varnames[:3]


MORE_MODULES = """
import neuropbr_losses
neuropbr_losses.__path__.append({folder!r})
"""
"""Gives a package one more module, as if the module were in its folder."""


@pytest.mark.slow
def test_the_loss_of_the_contributing_page_works(tmp_path: Path) -> None:
    page = ROOT / "CONTRIBUTING.md"
    section = page.read_text(encoding="utf-8").partition("## Add a key")[0]
    sources = re.findall(r"`(plugins/losses/[\w/.]+)`[^`]*?(?:`[^`]*`[^`]*?)*?```python\n(.*?)```", section, re.DOTALL)
    assert len(sources) == 3
    for place, text in sources:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        # Code in a list is indented as the list is.
        path.write_text(re.sub(r"^   ", "", text, flags=re.MULTILINE), encoding="utf-8")
    (entry,) = re.findall(r"```toml\n\s*(.*?)\n", section)
    # What `make install` would write for this line.
    declared = tmp_path / "huber-1.0.dist-info"
    declared.mkdir()
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: huber\nVersion: 1.0\n")
    (declared / "entry_points.txt").write_text(f"[neuropbr.losses]\n{entry.replace(chr(34), '')}\n")
    (commands,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    folder = str(tmp_path / "plugins" / "losses" / "neuropbr_losses")
    # Python imports a module of this name when it starts, and the suite starts processes of its own.
    (tmp_path / "sitecustomize.py").write_text(MORE_MODULES.format(folder=folder))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    scripts = Path(sys.executable).parent
    for line in commands.strip().splitlines():
        program, *words = shlex.split(line.strip().removeprefix(".venv/bin/"))
        command = [sys.executable, str(scripts / program), *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
