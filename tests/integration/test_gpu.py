"""What must hold on a CUDA device: the same numbers as on the CPU, and whole runs in mixed precision."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neuropbr_core.contracts import LossSetup
from neuropbr_core.inference.refine import linear_photos, refine
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.materials.alignment import identity_frame, view_directions, warp_views
from neuropbr_core.materials.cameras import sample_cameras
from neuropbr_core.materials.color import linear_to_srgb
from neuropbr_core.model import load_model
from neuropbr_core.recipe import dump_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.registry import default_registry
from neuropbr_core.runs.run import run
from neuropbr_core.testing import example_loss_input
from neuropbr_core.training.loop.step import Stepper

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


def test_refinement_equals_that_of_the_cpu() -> None:
    random = torch.Generator().manual_seed(0)
    albedo = 0.3 + 0.4 * torch.rand(1, 3, 32, 32, generator=random)
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(1, 1, 32, 32)
    truth = {
        "albedo": albedo,
        "roughness": torch.full((1, 1, 32, 32), 0.6),
        "metallic": torch.zeros(1, 1, 32, 32),
        "normal": flat,
    }
    positions = torch.stack([camera.position for camera in sample_cameras(random, 3)]).float()
    # Photos of a relief, and a prediction of its opposite, which is flattened wholly.
    relief = torch.nn.functional.normalize(torch.cat((albedo[:, :2] - 0.5, flat[:, 2:]), dim=1), dim=1)
    opposite = torch.cat((-relief[:, :2], relief[:, 2:]), dim=1)
    rendered = linear_photos({**truth, "normal": relief}, positions, torch.full((3,), 0.1))
    photos = linear_to_srgb(rendered.clamp(0, 1))
    found = []
    for device in ("cpu", "cuda"):
        found.append(refine({**truth, "normal": opposite}, photos.to(device), positions, steps=20))
    on_cpu, on_device = found
    assert on_cpu.relief == on_device.relief == 0
    for name, value in on_cpu.maps.items():
        torch.testing.assert_close(on_device.maps[name], value, atol=0.01, rtol=0)


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
    folder = run(recipe, run_name=precision)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["scores"]["albedo"]["model"]["psnr"] > 10
    assert (folder / "exports" / "torchscript.pt").is_file()


def test_a_run_resumes_on_the_device(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    short = make_recipe("training.device=cuda", "training.epochs=1", "export.torchscript=null")
    run(short, run_name="resumed")
    longer = make_recipe("training.device=cuda", "training.epochs=2", "export.torchscript=null")
    run(longer, run_name="resumed", resume=True)
    assert (tmp_path / "runs" / "resumed" / "checkpoints" / "epoch_0002").is_dir()


def test_the_scaler_of_fp16_drops_overflows_and_survives_a_resume(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale that is far too large overflows the first steps; the run goes on, finite, and keeps the smaller scale."""
    settings = ("training.device=cuda", "training.precision=fp16", "export.torchscript=null")
    gan = "losses.gan={layers: 2, width: 8}"
    scales: list[float] = []
    step = Stepper.step

    def watch(self: Stepper, *details: Any, **options: Any) -> Any:
        scaler = self.fabric.strategy.precision.scaler
        if not scales:
            scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**60})
        result = step(self, *details, **options)
        scales.append(scaler.get_scale())
        return result

    monkeypatch.setattr(Stepper, "step", watch)
    run(make_recipe(*settings, gan, "training.epochs=1"), run_name="fp16")
    assert scales[-1] < 2.0**60
    last = scales[-1]
    folder = run(make_recipe(*settings, gan, "training.epochs=2"), run_name="fp16", resume=True)
    assert scales[3] <= last
    state = torch.load(folder / "checkpoints" / "epoch_0002" / "training_state.pt", weights_only=True)
    assert state["scaler"]["scale"] == scales[-1]
    assert all(
        value.isfinite().all() for value in load_model(folder / "checkpoints" / "epoch_0002")[0].state_dict().values()
    )


def launch(recipe: Recipe, file: Path, name: str, processes: int) -> None:
    """A run in processes of torchrun, so that it is distributed on a single device too."""
    file.write_text(dump_recipe(recipe))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    code = "from neuropbr_core.cli import main; raise SystemExit(main())"
    script = file.with_suffix(".py")
    script.write_text(code)
    command = [*torchrun, str(script), "run", str(file), "--run-name", name]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sharded_training_equals_that_of_one_process(
    make_recipe: Callable[..., Recipe], tmp_path: Path, precision: str
) -> None:
    processes = min(2, torch.cuda.device_count())
    plain = ("training.device=cuda", f"training.precision={precision}", "export.torchscript=null", "losses.ssim=null")
    one = run(make_recipe(*plain, "training.batch_size=2"), run_name="one")
    sharded = make_recipe(*plain, "training.strategy=fsdp", f"training.batch_size={2 // processes}")
    launch(sharded, tmp_path / "fsdp.yaml", "fsdp", processes)
    first, second = (load_model(folder / "checkpoints" / "epoch_0002")[0] for folder in (one, one.with_name("fsdp")))
    tolerance = 2e-3 if precision == "fp32" else 5e-2
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, atol=tolerance, rtol=tolerance)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_synchronised_batch_norm_sees_the_global_batch(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    norms = ("model.encoder.norm=batch", "model.decoder.norm=batch", "training.device=cuda", "export.torchscript=null")
    one = run(make_recipe(*norms, "training.batch_size=2"), run_name="one")
    two = make_recipe(*norms, "training.batch_size=1", "training.sync_batch_norm=true")
    launch(two, tmp_path / "two.yaml", "two", 2)
    first, second = (load_model(folder / "checkpoints" / "epoch_0002")[0] for folder in (one, one.with_name("two")))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name].float(), value.float(), atol=2e-3, rtol=2e-3)


def test_switches_change_nothing_on_the_device(make_recipe: Callable[..., Recipe]) -> None:
    plain = make_recipe("training.device=cuda", "training.precision=fp32", "export.torchscript=null")
    parts = "training.activation_checkpointing=[encoder, fusion, decoder]"
    switched = make_recipe(
        "training.device=cuda", "training.precision=fp32", "export.torchscript=null", parts, "training.compile=true"
    )
    one = run(plain, run_name="plain")
    two = run(switched, run_name="switched")
    first, second = (load_model(folder / "checkpoints" / "epoch_0002")[0] for folder in (one, two))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, atol=2e-3, rtol=2e-3)
