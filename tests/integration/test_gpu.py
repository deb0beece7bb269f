"""What must hold on a CUDA device: the same numbers as on the CPU, and whole runs in mixed precision."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neuropbr_core.contracts import LossSetup
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.materials.alignment import identity_frame, view_directions, warp_views
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import default_registry
from neuropbr_core.testing import example_loss_input
from neuropbr_core.training.run import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", ["l1", "ssim", "normal", "rendering"])
def test_losses_and_their_gradients_equal_those_of_the_cpu(name: str) -> None:
    registry = default_registry()
    loss = registry.create("loss", name, registry.options("loss", name)(), setup=LossSetup(MAP_NAMES, 64))
    found = []
    for device in ("cpu", "cuda"):
        x = example_loss_input(size=(64, 64))
        maps = {key: value.detach().to(device).requires_grad_() for key, value in x.prediction.maps.items()}
        moved = type(x)(
            x.prediction._replace(maps=maps),
            {key: value.to(device) for key, value in x.target.items()},
            x.views.to(device),
            x.visible.to(device),
            x.valid.to(device),
        )
        torch.manual_seed(0)
        total = loss.to(device)(moved, None).total
        total.backward()
        gradients = [value.grad.cpu() for value in maps.values() if value.grad is not None]
        found.append([total.detach().cpu(), *gradients])
    for cpu, cuda in zip(*found, strict=True):
        torch.testing.assert_close(cuda, cpu, atol=1e-5, rtol=1e-4)


def test_alignment_equals_that_of_the_cpu() -> None:
    cameras = sample_cameras(torch.Generator().manual_seed(0), 3)
    homographies = torch.stack([camera.homography for camera in cameras])[None]
    positions = torch.stack([camera.position for camera in cameras])[None]
    views = torch.rand(1, 3, 3, 64, 64)
    cpu = (*warp_views(views, homographies, identity_frame(1), 48), view_directions(positions, identity_frame(1), 48))
    frame = identity_frame(1).cuda()
    cuda = (*warp_views(views.cuda(), homographies.cuda(), frame, 48), view_directions(positions.cuda(), frame, 48))
    for one, other in zip(cpu, cuda, strict=True):
        torch.testing.assert_close(other.cpu(), one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_with_a_critic_trains_and_exports(make_recipe: Callable[..., Recipe], precision: str) -> None:
    recipe = make_recipe("training.device=cuda", f"training.precision={precision}", "losses.gan={layers: 2, width: 8}")
    folder = run(recipe, run_name=precision, report=lambda _: None)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["scores"]["albedo"]["model"]["psnr"] > 10
    assert (folder / "exports" / "torchscript.pt").is_file()


def test_a_run_resumes_on_the_device(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    short = make_recipe("training.device=cuda", "training.epochs=1", "export.torchscript=null")
    run(short, run_name="resumed", report=lambda _: None)
    longer = make_recipe("training.device=cuda", "training.epochs=2", "export.torchscript=null")
    run(longer, run_name="resumed", resume=True, report=lambda _: None)
    assert (tmp_path / "runs" / "resumed" / "checkpoints" / "epoch_0002").is_dir()
