"""Which files decide whether a recipe's networks can be built."""

from collections.abc import Callable
from pathlib import Path

import pytest

import neuropbr_core
from neuropbr_core.recipe import Recipe, resolve_recipe
from neuropbr_core.recipe.watched import python_files, watched_files
from neuropbr_core.registry.catalog import Registry
from tests.unit.conftest import Declare

RECIPE = "extends: neuropbr:quickstart\n"
LOSS = """
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @hookimpl
    def create_loss(options, setup):
        raise NotImplementedError
"""
CORE = Path(neuropbr_core.__file__).parent

Watched = Callable[..., set[Path] | None]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """The files of a recipe with overrides."""
    Path(tmp_path / "a.yaml").write_text(RECIPE)

    def of(*overrides: str, registry: Registry | None = None, teacher: Recipe | None = None) -> set[Path] | None:
        return watched_files(resolve_recipe(tmp_path / "a.yaml", overrides, registry).recipe, teacher)

    return of


def test_sources_of_core_and_components(watched: Watched) -> None:
    files = watched() or set()
    assert CORE / "cli" / "recipe.py" in files
    families = {part for path in files for part in path.parts if part.startswith("neuropbr_") and "." not in part}
    assert families == {f"neuropbr_{name}" for name in ("core", "encoders", "fusion", "losses", "exporters")}


def test_files_that_the_recipe_or_its_teachers_names(watched: Watched, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    named = f"model.encoder={{use: resnet, variant: resnet18, weights: {weights}}}"
    assert weights in (watched(named) or set())
    teacher = resolve_recipe(tmp_path / "a.yaml", [named]).recipe
    assert weights in (watched(teacher=teacher) or set())
    assert weights not in (watched() or set())


def test_references_to_what_ships_are_no_files(watched: Watched) -> None:
    assert not [path for path in watched() or set() if "neuropbr:" in str(path)]


def test_python_files_are_found_behind_links_too(tmp_path: Path) -> None:
    package = tmp_path / "package"
    elsewhere = tmp_path / "elsewhere"
    for folder in (package, elsewhere):
        folder.mkdir()
        (folder / "a.py").write_text("")
        (folder / "a.txt").write_text("")
    (package / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(package)
    linked = package / "linked"
    assert set(python_files(package)) == {package / "a.py", linked / "a.py"}
    assert list(python_files(package / "a.py")) == [package / "a.py"]


def test_components_of_others_are_watched_by_nobody(declare: Declare, watched: Watched) -> None:
    declare("nbr-far", "neuropbr.losses", "far = nbr_far", LOSS)
    assert watched("losses.far={}", registry=Registry()) is None


def test_each_reading_warns_of_namesakes(declare: Declare, watched: Watched) -> None:
    declare("nbr-far", "neuropbr.losses", "l1 = nbr_far", LOSS)
    assert watched(registry=Registry()) is None


def test_a_trained_teacher_is_looked_at_each_time(watched: Watched, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert watched(f"teacher={{run: {run}}}", "losses.distillation={}") is None
