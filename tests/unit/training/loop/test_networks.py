"""Switches and averages of the networks: the training that the plain path gives, and the formula of the average."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import small_run
import torch
from torch import nn

from neuropbr_core.errors import NeuroPBRError, RunError
from neuropbr_core.model import ModelSpec, build_generator, load_model, save_model
from neuropbr_core.recipe import load_recipe, resolve_recipe
from neuropbr_core.recipe.loading import Resolved
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.training.loop import networks
from neuropbr_core.training.loop.average import WeightAverage
from neuropbr_core.training.loop.budget import need
from neuropbr_core.training.loop.networks import apply_switches, check_buildable, check_networks

CPU = torch.device("cpu")
SETTINGS = [
    "model.encoder={use: unet, channels: [8, 16], norm: batch}",
    "model.fusion={use: vit, dim: 16, heads: 2, depth: 1, dropout: 0.5, position: none}",
    "model.decoder={channels: [8], head_channels: 8, norm: batch}",
]


def train(*extra: str, steps: int = 2) -> tuple[Any, list[float], torch.Tensor]:
    """A generator after some steps, the losses on the way, and where the random generator is."""
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, *extra])
    torch.manual_seed(0)
    generator = build_generator(ModelSpec.from_recipe(recipe))
    assert apply_switches(generator, recipe.training, CPU) == []
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1)
    views, directions = torch.rand(2, 2, 3, 16, 16), torch.rand(2, 2, 3, 16, 16)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        prediction = generator(views, None, directions)
        loss = torch.stack([value.square().mean() for value in prediction.maps.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return generator, losses, torch.get_rng_state()


ONLINE = "teacher: {{run: {run}, mode: online}}\nlosses: {{distillation: {{feature_weight: 0.1}}}}\n"


def online_student(folder: Path) -> Resolved:
    path = folder / "student.yaml"
    path.write_text("extends: neuropbr:quickstart\n" + ONLINE.format(run=folder / "teacher"))
    return resolve_recipe(path, small_run.SMALL)


def test_features_of_a_teacher_that_is_not_trained_yet_are_no_fault(tmp_path: Path) -> None:
    check_buildable(online_student(tmp_path), None)


def test_a_teacher_that_is_trained_is_looked_up(tmp_path: Path) -> None:
    small_run.save_run(tmp_path / "teacher", small_run.small_recipe())
    check_buildable(online_student(tmp_path), None)
    shutil.rmtree(tmp_path / "teacher")
    small_run.save_run(tmp_path / "teacher", small_run.small_recipe(*small_run.PLAIN))
    with pytest.raises(NeuroPBRError, match=r"teacher: it was trained with data\.alignment: none, the student has"):
        check_buildable(online_student(tmp_path), None)


TINY = [
    *("data.image_size=32", "data.output_size=32", "data.crop_size=null", "model.decoder.channels=null"),
    "model.encoder={use: unet, norm: batch, channels: [4, 4, 4, 4, 4, 4]}",
]


@pytest.mark.parametrize("views", [["data.views=1"], ["data.views=3", "data.random_views=true"]])
def test_a_step_that_gives_batch_norm_one_value_is_refused_before_it(views: list[str]) -> None:
    recipe = load_recipe("neuropbr:quickstart", [*TINY, *views, "training.batch_size=1"])
    with pytest.raises(RunError, match=r"training\.batch_size: found 1, but batch norm needs more than one value"):
        check_networks(recipe)


def test_larger_batches_of_such_crops_are_counted_and_allowed() -> None:
    recipe = load_recipe("neuropbr:quickstart", [*TINY, "data.views=1", "training.batch_size=4"])
    check_networks(recipe)
    assert need(recipe, CPU).sample > 0


@pytest.mark.parametrize("parts", ["[encoder]", "[fusion]", "[encoder, fusion, decoder]"])
def test_recomputed_activations_change_nothing_batch_norm_and_dropout_included(parts: str) -> None:
    plain, losses, random = train()
    recomputed, same, after = train(f"training.activation_checkpointing={parts}")
    assert same == losses
    assert torch.equal(random, after)
    for name, value in plain.state_dict().items():
        assert torch.equal(recomputed.state_dict()[name], value), name


def test_recomputing_keeps_less() -> None:
    def kept(*extra: str) -> int:
        sizes: list[int] = []
        pack = torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t)
        with pack:
            train(*extra, steps=1)
        return sum(sizes)

    assert kept("training.activation_checkpointing=[encoder, fusion, decoder]") < 0.7 * kept()


def test_without_a_compiler_the_run_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, "training.compile=true"])
    generator = build_generator(ModelSpec.from_recipe(recipe))
    with reporting_to(RecordingReporter()) as told:
        assert apply_switches(generator, recipe.training, CPU) == []
    (line,) = told.lines
    assert line == (
        "warning: training.compile: nothing can be compiled here, so the run goes on without "
        "(RuntimeError: InvalidCxxCompiler: No working C++ compiler found)"
    )


def test_auto_compiles_and_changes_layouts_on_cuda_only(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    monkeypatch.setattr(networks, "compiler_fault", lambda device: None)
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, "training.compile=auto"])
    generator = build_generator(ModelSpec.from_recipe(recipe))
    assert apply_switches(generator, recipe.training, torch.device("cpu")) == []
    assert compiled == []
    kernels = [p for p in generator.encoder.parameters() if p.dim() == 4 and min(p.shape) > 1]
    assert all(kernel.is_contiguous() for kernel in kernels)
    assert apply_switches(generator, recipe.training, torch.device("cuda")) == []
    assert len(compiled) == 3
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    monkeypatch.setattr(networks, "compiler_fault", lambda device: "no compiler")
    (note,) = apply_switches(generator, recipe.training, torch.device("cuda"))
    assert note == "Not compiled, because no compiler works here (no compiler)"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_generator_trains_alike_and_saves_clean_names(tmp_path: Any) -> None:
    dropless = "model.fusion={use: vit, dim: 16, heads: 2, depth: 1, dropout: 0, position: none}"
    plain, losses, _ = train(dropless)
    compiled, same, _ = train(dropless, "training.compile=true", "training.activation_checkpointing=[encoder]")
    assert same == pytest.approx(losses, rel=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, dropless])
    save_model(compiled, ModelSpec.from_recipe(recipe), tmp_path)
    loaded, _ = load_model(tmp_path)
    for name, value in compiled.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def make_module() -> Any:
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))


def test_it_is_the_sum_that_its_formula_says() -> None:
    module = make_module()
    average = WeightAverage(module, 0.5)
    values = [1.0, 3.0, -2.0, 4.0, 0.5, 7.0, 2.0, 2.5, 9.0, 1.0, 6.0, 3.5]
    expected = values[0]
    for n, value in enumerate(values):
        nn.init.constant_(module[0].weight, value)
        average.update(module)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = expected if n == 0 else decay * expected + (1 - decay) * value
    assert average.module[0].weight.item() == pytest.approx(expected)  # type: ignore[index]


def test_statistics_are_copied_and_the_average_takes_no_gradient() -> None:
    module = make_module()
    average = WeightAverage(module, 0.9)
    for _ in range(3):
        module(torch.randn(8, 1))
        average.update(module)
    averaged: Any = average.module
    assert torch.equal(averaged[1].running_mean, module[1].running_mean)
    assert averaged[1].num_batches_tracked == 3
    assert not averaged.training
    assert not any(p.requires_grad for p in averaged.parameters())
    assert all(p.requires_grad for p in module.parameters())


def test_a_resumed_average_goes_on_alike() -> None:
    module = make_module()
    first = WeightAverage(module, 0.99)
    for value in (1.0, 2.0):
        nn.init.constant_(module[0].weight, value)
        first.update(module)
    second = WeightAverage(module, 0.99)
    second.module.load_state_dict(first.module.state_dict())
    second.load_state_dict(first.state_dict())
    for average in (first, second):
        nn.init.constant_(module[0].weight, 5.0)
        average.update(module)
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)
