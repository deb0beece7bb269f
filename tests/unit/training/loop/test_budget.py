"""What a step needs of a device's memory, and the batch that is found for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import small_run
import torch

from neuropbr_core.errors import RunError
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe, Training
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.run import plan
from neuropbr_core.training.loop import budget
from neuropbr_core.training.loop.budget import Need, available_memory, describe_batch, need, settle_batch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_run.small_recipe("training.batch_size=4", "training.precision=fp32")


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which the fixed part and three and a half samples fit, of a network that needs 1,000 bytes each."""
    monkeypatch.setattr(budget, "need", lambda recipe, device: Need(fixed=500, sample=1000))
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 4000)


def test_the_memory_of_this_machine_is_known() -> None:
    room = available_memory(CPU)
    assert room is not None
    assert 10**7 < room < 10**13
    shared = available_memory(CPU, processes=2)
    assert shared is not None
    assert shared < room


def test_a_step_is_counted_by_parts(recipe: Recipe) -> None:
    counted = need(recipe, CPU)
    without_average = need(replace(recipe, training=replace(recipe.training, ema=None)), CPU)
    assert counted.fixed > without_average.fixed
    recomputed = need(
        replace(recipe, training=replace(recipe.training, activation_checkpointing=("encoder", "fusion", "decoder"))),
        CPU,
    )
    assert recomputed.sample < counted.sample
    half = need(replace(recipe, training=replace(recipe.training, precision="bf16")), CPU)
    assert half.sample < counted.sample
    assert counted.of(3) == counted.fixed + 3 * counted.sample


@pytest.mark.usefixtures("tight")
def test_a_batch_that_does_not_fit_is_refused_with_what_helps(recipe: Recipe, tmp_path: Path) -> None:
    message = r"(?s)before the first step: a batch of 4 needs about .* GB are free.*training.batch_size=2 \(now 4\)"
    with pytest.raises(RunError, match=message):
        settle_batch(recipe, CPU)
    small_run.blank_dataset(tmp_path / "data")
    planned = small_run.small_recipe("training.batch_size=4", f"data.root={tmp_path / 'data'}", "training.device=cpu")
    with pytest.raises(RunError, match=message):
        plan(planned, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fitting = replace(recipe, training=replace(recipe.training, batch_size=3))
    assert settle_batch(fitting, CPU) is fitting
    off = replace(recipe, training=replace(recipe.training, memory_check="off"))
    assert settle_batch(off, CPU) is off
    with reporting_to(RecordingReporter()) as reporter:
        settle_batch(replace(recipe, training=replace(recipe.training, memory_check="warn")), CPU)
    assert "a batch of 4 needs" in reporter.lines[0]


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    ("effective", "processes", "batch", "accumulate"),
    [(None, 1, 3, 1), (1, 1, 1, 1), (4, 1, 2, 2), (6, 1, 3, 2), (7, 1, 1, 7), (8, 2, 2, 2), (12, 2, 3, 2)],
)
def test_the_largest_batch_that_fits_divides_the_samples_of_a_step(
    recipe: Recipe, effective: int | None, processes: int, batch: int, accumulate: int
) -> None:
    training = replace(recipe.training, batch_size="auto", effective_batch=effective)
    settled = settle_batch(replace(recipe, training=training), CPU, processes).training
    assert (settled.samples, settled.accumulate) == (batch, accumulate)
    (line,) = describe_batch(training, settled)
    assert line.startswith(f"training.batch_size: auto is {batch} here")
    assert describe_batch(settled, settled) == []


def test_one_sample_that_does_not_fit_is_refused(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 1000)
    automatic = replace(recipe, training=replace(recipe.training, batch_size="auto"))
    with pytest.raises(RunError, match="a batch of 1 needs about"):
        settle_batch(automatic, CPU)


def test_where_the_memory_is_not_known_one_sample_is_taken(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: None)
    automatic = replace(recipe, training=replace(recipe.training, batch_size="auto", effective_batch=4))
    settled = settle_batch(automatic, CPU).training
    assert (settled.samples, settled.accumulate) == (1, 4)


def test_a_small_run_is_not_counted(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes seconds, and a run of minutes on small crops is far from any limit."""
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 10**12)
    monkeypatch.setattr(budget, "need", None)
    assert settle_batch(recipe, CPU) is recipe


def test_an_open_batch_has_no_number_yet() -> None:
    with pytest.raises(ValueError, match="is settled when the device is known"):
        Training(batch_size="auto").samples  # noqa: B018


@pytest.mark.slow
def test_the_default_preset_fits_a_large_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted as for a GPU of 80 GB; no GPU is needed to count."""
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: int(80e9 * 0.93))
    preset = load_recipe("neuropbr:teacher_default", ["training.precision=bf16"])
    settled = settle_batch(preset, CPU).training
    assert settled.samples * settled.accumulate == 4
