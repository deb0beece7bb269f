"""`neuropbr recipe check` builds networks once; what may change the answer makes it build them again."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import neuropbr_core
from neuropbr_core.cli.recipe import recipe as command
from neuropbr_core.recipe import Recipe, resolve_recipe
from neuropbr_core.recipe import built_before as memory
from neuropbr_core.recipe.built_before import build_digest
from neuropbr_core.registry.catalog import Registry
from neuropbr_core.training.loop import networks
from neuropbr_core.user_data import data_home
from tests.unit.conftest import Declare

RECIPE = "extends: neuropbr:quickstart\n"
LOSS = """
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @hookimpl
    def create_loss(options, setup):
        raise NotImplementedError
"""

Check = Callable[..., int]
Digest = Callable[..., str | None]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Checks `a.yaml` and returns how many recipes' networks were built."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(tmp_path / "home"))
    Path("a.yaml").write_text(RECIPE)
    built = []
    build = networks.check_buildable

    def count(*arguments: object) -> None:
        built.append(arguments)
        build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "check_buildable", count)

    def run(*words: str, code: int = 0) -> int:
        built.clear()
        result = CliRunner().invoke(command, ["check", "a.yaml", *words], catch_exceptions=False)
        assert result.exit_code == code
        assert (result.stdout == "recipe ok: a.yaml\n") == (code == 0)
        return len(built)

    return run


@pytest.fixture
def digest(tmp_path: Path) -> Digest:
    """The digest of a recipe, with overrides; its file says nothing about places."""
    Path(tmp_path / "a.yaml").write_text(RECIPE)

    def of(*overrides: str, registry: Registry | None = None, teacher: Recipe | None = None) -> str | None:
        return build_digest(resolve_recipe(tmp_path / "a.yaml", overrides, registry), teacher)

    return of


def test_networks_are_built_once(check: Check) -> None:
    assert check() == 1
    assert check() == 0
    assert check("--build") == 1
    assert len((data_home() / "built.txt").read_text().splitlines()) == 1
    assert check("--set", "optimizer.lr=1e-4", "--set", "observers.wandb={}") == 0
    assert check("--set", "data.view_size=320") == 1


def test_a_second_check_loads_no_torch(check: Check) -> None:
    assert check() == 1
    program = (
        "import sys\nfrom neuropbr_core.cli import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    words = [sys.executable, "-c", program, "recipe", "check", "a.yaml"]
    # The first puts its own folders on the path of modules, so that it cannot know the answer of this process.
    outputs = [subprocess.run(words, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert outputs == ["recipe ok: a.yaml\nTrue\n", "recipe ok: a.yaml\nFalse\n"]


def test_what_is_wrong_is_found_each_time(check: Check) -> None:
    odd = ("--set", "model.encoder={use: resnet, variant: resnet18, freeze: true}")
    assert check(*odd, code=1) == 1
    assert check(*odd, code=1) == 1


def test_a_list_that_cannot_be_written_stops_nothing(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(tmp_path / "a.yaml"))
    assert check() == 1
    assert check() == 1


def test_the_digest_knows_files_that_the_recipe_names(digest: Digest, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    name = f"model.encoder={{use: resnet, variant: resnet18, weights: {weights}}}"
    missing = digest(name)
    weights.write_bytes(b"1")
    first = digest(name)
    weights.write_bytes(b"12")
    assert len({missing, first, digest(name)}) == 3
    assert digest(name) == digest(name)


def test_the_digest_knows_what_is_installed(digest: Digest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = digest()
    (site / "torch-9.dist-info").mkdir()
    assert digest() != before


def test_the_digest_knows_sources_behind_links_too(
    digest: Digest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = tmp_path / "neuropbr_core"
    elsewhere = tmp_path / "elsewhere"
    for folder in (core, elsewhere):
        folder.mkdir()
        (folder / "a.py").write_text("")
    (core / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(core)
    monkeypatch.setattr(neuropbr_core, "__file__", str(core / "__init__.py"))
    digests = [digest()]
    for changed in (core / "a.py", elsewhere / "a.py"):
        os.utime(changed, (1, 1))
        digests.append(digest())
    assert len(set(digests)) == 3
    assert None not in digests


def test_components_of_others_are_built_each_time(declare: Declare, digest: Digest) -> None:
    declare("nbr-far", "neuropbr.losses", "far = nbr_far", LOSS)
    assert digest("losses.far={}", registry=Registry()) is None


@pytest.mark.parametrize("part", ["encoder", "fusion"])
def test_own_components_are_known_by_their_whole_package(
    digest: Digest, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    seen: list[Path] = []

    def note(package: Path) -> list[tuple[str, object]]:
        seen.append(package)
        return []

    monkeypatch.setattr(memory, "_sources", note)
    digest()
    packages = {path.name for path in seen}
    family = {"encoder": "neuropbr_encoders", "fusion": "neuropbr_fusion"}[part]
    assert {"neuropbr_core", family} <= packages


def test_a_trained_teacher_is_looked_at_each_time(digest: Digest, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    taught = (f"teacher={{run: {run}}}", "losses.distillation={}")
    assert digest(*taught) is None
    teachers = [
        resolve_recipe(tmp_path / "a.yaml", [f"model.decoder.head_channels={count}"]).recipe for count in (8, 9)
    ]
    assert digest(teacher=teachers[0]) != digest(teacher=teachers[1])
