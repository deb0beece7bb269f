"""A pool of small real captures, rendered once, and the quickstart shrunk to seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe, Synthesize

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 8 captures (one of each example material) at 32 pixels."""
    root = tmp_path_factory.mktemp("pool")
    synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=32, seed=1), root)
    return root


@pytest.fixture
def make_recipe(pool: Path, tmp_path: Path) -> MakeRecipe:
    """The quickstart on the pool, two epochs of three steps; takes `--set` texts."""
    return small_quickstart(pool, tmp_path / "runs")


@pytest.fixture(scope="module")
def module_recipe(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeRecipe:
    """`make_recipe` for a run that the tests of a module share."""
    return small_quickstart(pool, tmp_path_factory.mktemp("runs"))


def small_quickstart(pool: Path, runs: Path) -> MakeRecipe:
    """A maker of small recipes whose runs go to `runs`."""

    def make(*overrides: str, base: str = "neuropbr:quickstart") -> Recipe:
        tiny = (
            "data.synthesize=null",
            "data.val_materials=[acg_Bricks102, t3_Sci-Fi_Wall_014]",
            f"data.root={pool}",
            "data.image_size=32",
            "data.output_size=32",
            "data.crop_size=16",
            "data.repeats=1",
            'data.oversample={"acg_*": 1, "t3_*": 1}',
            "data.num_workers=0",
            "model.encoder.channels=[8, 8]",
            "model.decoder.channels=[8]",
            "model.decoder.head_channels=8",
            "training.epochs=2",
            "training.batch_size=2",
            "training.log_every_n_steps=1",
            "training.log_images_every_n_epochs=1",
            "training.device=cpu",
            f"training.runs_dir={runs}",
        )
        return load_recipe(base, [*tiny, *overrides])

    return make
