"""What is saved, what is kept, and in which order the pointers are written."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small_run
import torch
from torch import nn

from neuropbr_core.errors import CheckpointError, RunStopped
from neuropbr_core.model import ModelSpec, build_generator
from neuropbr_core.recipe.sections import Optimizer
from neuropbr_core.training.checkpoints.saving import (
    Position,
    Saver,
    load_optimizer_state,
    optimizer_state,
    random_state,
    read_resume_counts,
    refuse_nonfinite,
    restore_random_state,
)
from neuropbr_core.training.checkpoints.store import BEST, LATEST, CheckpointStore
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.average import WeightAverage
from neuropbr_core.training.loop.schedule import LearningRates
from neuropbr_core.training.loop.step import make_optimizer


def make_saver(folder: Path, *overrides: str, **changes: Any) -> Saver:
    """A saver of a small generator without losses."""
    recipe = small_run.small_recipe(*overrides)
    spec = ModelSpec.from_recipe(recipe)
    torch.manual_seed(0)
    generator = build_generator(spec)
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1, momentum=0.9)
    fabric = Fabric(accelerator="cpu", devices=1)
    stepper: Any = SimpleNamespace(
        fabric=fabric,
        generator=generator,
        optimizer=optimizer,
        objective=SimpleNamespace(terms=[]),
        critic_optimizers={},
    )
    average = None
    if recipe.training.ema is not None:
        average = WeightAverage(generator, recipe.training.ema)
    rates = LearningRates(recipe.optimizer, recipe.training.epochs, [(optimizer, 0.1)])
    return Saver(CheckpointStore(folder), spec, recipe.training, average, stepper, rates, {"seed": 1}, **changes)


def weight(saver: Saver) -> torch.Tensor:
    return next(iter(saver.stepper.generator.parameters()))


@pytest.mark.parametrize("ema", ["null", "0.5"])
def test_what_was_saved_comes_back(tmp_path: Path, ema: str) -> None:
    saver = make_saver(tmp_path, f"training.ema={ema}")
    with torch.no_grad():
        weight(saver).fill_(0.25)
    position = Position(epoch=2, step=3, global_step=17, best=0.5, best_metrics={"loss": 0.5}, best_name="")
    saver.save(position, best=True, log={"recent": {}})
    torch.rand(5)
    expected = torch.rand(3)
    other = make_saver(tmp_path, f"training.ema={ema}")
    resumed = other.load()
    assert resumed.position == position
    assert resumed.resume_counts == {"seed": 1}
    assert read_resume_counts(tmp_path / position.name) == {"seed": 1}
    assert resumed.log == {"recent": {}}
    assert resumed.problems == []
    assert torch.equal(weight(other), weight(saver))
    torch.rand(5)
    assert torch.equal(torch.rand(3), expected), "random numbers go on where they were"
    if other.average is not None:
        assert saver.average is not None
        saved = saver.average.module.state_dict()
        assert all(torch.equal(value, saved[name]) for name, value in other.average.module.state_dict().items())


def test_resume_counts_of_a_damaged_state_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"training_state.pt: cannot be read .* use another checkpoint"):
        read_resume_counts(tmp_path)


def test_latest_is_written_after_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So where `latest` names the last epoch, `best` is what it should be."""
    saver = make_saver(tmp_path)
    pointers: list[str] = []
    point = CheckpointStore.point

    def watch(store: CheckpointStore, pointer: str, name: str) -> None:
        pointers.append(pointer)
        point(store, pointer, name)

    monkeypatch.setattr(CheckpointStore, "point", watch)
    saver.save(Position(epoch=1), best=True)
    assert pointers == [BEST, LATEST]
    saver.save(Position(epoch=2), best=False)
    assert saver.store.pointed(BEST) == "epoch_0001"
    assert saver.store.is_complete(2)
    assert not saver.store.is_complete(3)


def test_pointers_that_a_killed_process_did_not_write_are_settled(tmp_path: Path) -> None:
    saver = make_saver(tmp_path)
    saver.save(Position(epoch=1), best=True)
    saver.save(Position(epoch=2, best_name="epoch_0002"), best=False)
    saver.store.point(LATEST, "epoch_0001")
    assert not saver.store.is_complete(2)
    make_saver(tmp_path).load()
    assert (saver.store.pointed(BEST), saver.store.pointed(LATEST)) == ("epoch_0002", "epoch_0002")
    assert saver.store.is_complete(2)


def test_periodic_checkpoints_are_kept(tmp_path: Path) -> None:
    saver = make_saver(tmp_path, "training.save_every_n_epochs=2")
    for epoch in range(1, 6):
        saver.save(Position(epoch=epoch), best=epoch == 1)
    saver.save(Position(epoch=5, step=2), best=False)
    assert saver.store.names() == ["epoch_0001", "epoch_0002", "epoch_0004", "epoch_0005_step_000002"]


def test_who_may_not_save_leaves_everything_as_it_was(tmp_path: Path) -> None:
    def refuse() -> None:
        raise RunStopped("another process writes this run")

    make_saver(tmp_path).save(Position(epoch=1), best=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunStopped, match="another process"):
        make_saver(tmp_path, before_save=refuse).save(Position(epoch=2), best=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_not_finite_are_refused() -> None:
    position = Position(global_step=9)
    refuse_nonfinite([{"count": torch.tensor(3), "weight": torch.ones(2)}, {}], position)
    with pytest.raises(RunStopped, match="no longer finite after 9 steps"):
        refuse_nonfinite([{"a": torch.ones(2)}, {"b": torch.tensor([0.0, math.nan])}], position)


def test_a_part_of_a_larger_tensor_is_taken_back() -> None:
    """Gathered states are rows of one tensor; torch's own function ends the process on such a row."""
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(3)
    (state,) = random_state(fabric)
    expected = torch.rand(4)
    rows = torch.stack([torch.zeros_like(state["cpu"]), state["cpu"]])
    restore_random_state(fabric, [{"cpu": rows[1]}])
    assert torch.equal(torch.rand(4), expected)


def test_a_process_that_was_not_there_keeps_its_seed() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    restore_random_state(fabric, [])
    assert torch.equal(torch.rand(2), expected)


def make_layer(options: Optimizer, *, steps: int, fused: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A layer after steps of its optimiser."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 1)
    optimizer = make_optimizer(options, list(layer.parameters()), 0.1, fused=fused)
    for _ in range(steps):
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer, optimizer


def options_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Its options; a pair may have become a list on the way."""
    groups = []
    for group in optimizer.param_groups:
        options = {name: value for name, value in group.items() if name != "params"}
        if "betas" in options:
            options["betas"] = tuple(options["betas"])
        groups.append(options)
    return groups


OPTIONS = [
    (Optimizer(weight_decay=0.01), Optimizer(weight_decay=0.3, betas=(0.5, 0.9))),
    (Optimizer(name="adam"), Optimizer(name="adamw")),
    (Optimizer(name="sgd"), Optimizer(name="sgd", momentum=0.5)),
]


class FSDPStrategy:
    """What `is_sharded` recognises a strategy by that shards weights."""


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(("before", "after"), OPTIONS, ids=["decay and betas", "adam to adamw", "momentum"])
def test_a_resumed_optimiser_keeps_its_moments_and_has_the_recipes_options(
    before: Optimizer, after: Optimizer, sharded: bool
) -> None:
    layer, saved = make_layer(before, steps=2, fused=True)
    other, resumed = make_layer(after, steps=0)
    wanted = options_of(resumed)
    moments = saved.state_dict()["state"]
    fabric: Any = SimpleNamespace(strategy=None)
    if sharded:
        # The same functions of PyTorch gather and scatter the state; one process has all of it.
        fabric.strategy = FSDPStrategy()
        modules: list[Any] = []
        for module, optimizer in ((layer, saved), (other, resumed)):
            wrapped = nn.Module()
            wrapped._forward_module = module
            modules.append((wrapped, SimpleNamespace(optimizer=optimizer, param_groups=optimizer.param_groups)))
    else:
        modules = [(layer, saved), (other, resumed)]
    load_optimizer_state(fabric, *modules[1], optimizer_state(fabric, *modules[0]))
    assert options_of(resumed) == wanted
    for position, state in resumed.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, moments[position][name]), name
    other(torch.ones(1, 2)).sum().backward()
    resumed.step()
