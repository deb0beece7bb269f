"""Training on photos whose cameras nobody recorded, with all jitter on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

import neuropbr_core
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.recipe.sections import Recipe, Synthesize
from neuropbr_core.runs.run import run

MakeRecipe = Callable[..., Recipe]


def test_a_run_on_estimated_cameras(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    for name in ("t3_Pebbles_025", "acg_Bricks102"):
        shutil.copytree(Path(__file__).parents[2] / "examples/materials" / name, tmp_path / "materials" / name)
    synthesize(Synthesize(str(tmp_path / "materials"), samples=2, size=160, seed=3), tmp_path / "pool")
    overrides = (
        f"data.root={tmp_path / 'pool'}",
        "data.image_size=160",
        "data.output_size=160",
        "data.val_materials=[acg_Bricks102]",
        "training.epochs=1",
        "export.torchscript=null",
    )
    recorded = neuropbr_core.open_dataset(make_recipe(*overrides))
    (tmp_path / "pool/input/cameras.json").unlink()
    recipe = make_recipe(
        *overrides,
        "data.alignment=estimated",
        "data.jitter.exposure=0.3",
        "data.jitter.color=0.05",
        "data.jitter.alignment=1",
    )
    estimated = neuropbr_core.open_dataset(recipe)
    for known, found in zip((recorded[0], recorded[1]), (estimated[0], estimated[1]), strict=True):
        assert known.homographies is not None
        assert found.homographies is not None
        torch.testing.assert_close(found.homographies, known.homographies, atol=0.02, rtol=0)
        torch.testing.assert_close(found.positions, known.positions, atol=0.05, rtol=0)
        assert found.gains is None
    assert estimated.train[0].gains is not None
    assert (tmp_path / "pool/input/cameras.estimated.json").is_file()
    folder = run(recipe, run_name="estimated")
    assert neuropbr_core.load_generator(folder).needs_cameras
