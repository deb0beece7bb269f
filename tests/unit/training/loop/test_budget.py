"""What a step needs of a device's memory, and the batch that is found for it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import small_run
import torch

from neuropbr_core.errors import RunError
from neuropbr_core.model import ModelSpec, build_generator, parameter_count
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe, Teacher, Training
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.run import plan
from neuropbr_core.training.loop import budget
from neuropbr_core.training.loop.budget import (
    Need,
    available_memory,
    describe_batch,
    fixed_need,
    need,
    settle_batch,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_run.small_recipe("training.batch_size=4", "training.precision=fp32")


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which the fixed part and three and a half samples fit, of a network that needs 1,000 bytes each."""
    monkeypatch.setattr(budget, "need", lambda *_: Need(fixed=500, sample=1000))
    monkeypatch.setattr(budget, "fixed_need", lambda *_: 500)
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


def test_what_losses_keep_is_counted(recipe: Recipe) -> None:
    maps = 8 * 4 * recipe.data.crop_output_size**2

    def beside(*overrides: str) -> float:
        """Copies of the maps that losses keep beside those of the recipe."""
        changed = small_run.small_recipe("training.batch_size=4", "training.precision=fp32", *overrides)
        return (need(changed, CPU).sample - need(recipe, CPU).sample) / maps

    assert beside("losses.l1.weight=3") == 0
    renderings = [beside(f"losses.rendering={{random: {count}, mirrored: 0}}") for count in (1, 2, 3)]
    # Not 20, which is what a loss counts for that cannot be counted.
    assert 3 < renderings[0] < 15
    assert 3 < renderings[1] - renderings[0] < 15
    assert renderings[2] - renderings[1] == pytest.approx(renderings[1] - renderings[0], rel=0.05)
    # One of its three losses has no branch for tensors without values, so that it is taken for a usual one.
    assert 20 < beside("training.fused_losses=off") < 30


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
    (line,) = describe_batch(training, settled, processes)
    where = "here" if processes == 1 else f"on each of {processes} processes"
    step = batch * accumulate * processes
    assert line == f"training.batch_size: auto is {batch} {where}, accumulated {accumulate} times: {step} a step"
    assert effective in (None, step)
    assert describe_batch(settled, settled) == []


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    ("effective", "processes", "said"),
    [(4, 3, "found 4, which 3 processes .* multiple of 3, such as 3 or 6,"), (1, 2, "multiple of 2, such as 2, or")],
)
def test_samples_that_the_processes_cannot_share_equally_are_refused(
    recipe: Recipe, effective: int, processes: int, said: str
) -> None:
    training = replace(recipe.training, batch_size="auto", effective_batch=effective)
    with pytest.raises(RunError, match=f"training.effective_batch: .*{said}"):
        settle_batch(replace(recipe, training=training), CPU, processes)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    ("settings", "processes", "counts", "expected", "reason"),
    [
        ({}, 1, (2, 1, 1), (2, 1), ""),
        ({"accumulate": 4}, 1, (2, 4, 1), (2, 4), ""),
        ({"effective_batch": 6}, 1, (2, 3, 1), (2, 3), ""),
        ({"effective_batch": 8}, 2, (1, 4, 2), (1, 4), ""),
        ({}, 1, (4, 1, 1), (3, 1), "it does not fit into the memory that is free now"),
        ({"effective_batch": 8}, 1, (4, 2, 1), (2, 4), "it does not fit into the memory that is free now"),
        ({}, 2, (2, 1, 1), (3, 1), "it was trained on 1 processes, and 2 run now"),
        ({"accumulate": 2}, 1, (2, 1, 1), (3, 2), "training.accumulate is 2 now"),
        ({"effective_batch": 12}, 1, (2, 3, 1), (3, 4), "training.effective_batch is 12 now"),
    ],
)
def test_a_run_that_goes_on_keeps_its_batch_where_it_can(
    recipe: Recipe,
    settings: dict[str, int],
    processes: int,
    counts: tuple[int, int, int],
    expected: tuple[int, int],
    reason: str,
) -> None:
    training = replace(recipe.training, batch_size="auto", **settings)  # type: ignore[arg-type]
    resumed = dict(zip(("batch_size", "accumulate", "processes"), counts, strict=True))
    settled = settle_batch(replace(recipe, training=training), CPU, processes, resumed=resumed).training
    assert (settled.samples, settled.accumulate) == expected
    _, *lines = describe_batch(training, settled, processes, resumed)
    assert bool(lines) == bool(reason)
    for line in lines:
        assert line.startswith(
            f"the checkpoint's batch of {counts[0]}, accumulated {counts[1]} times, is not kept, because"
        )
        assert reason in line


def test_a_batch_that_fitted_once_is_kept_where_the_memory_is_not_known(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: None)
    automatic = replace(recipe, training=replace(recipe.training, batch_size="auto"))
    resumed = {"batch_size": 5, "accumulate": 1, "processes": 1}
    assert settle_batch(automatic, CPU, resumed=resumed).training.samples == 5


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


def test_large_networks_are_counted_however_small_their_input_is(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of this network need 4 GB with their gradients and the optimiser's state, and 2 GB are free."""
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 2 * 10**9)
    monkeypatch.setattr(budget, "fixed_need", lambda *_: 4 * 10**9)
    monkeypatch.setattr(budget, "need", lambda *_: Need(fixed=4 * 10**9, sample=10**6))
    with pytest.raises(RunError, match=r"a batch of 4 needs about 4.0 GB, and 2.0 GB are free"):
        settle_batch(recipe, CPU)


def test_an_online_teacher_takes_memory_too() -> None:
    student = small_run.small_recipe("training.precision=fp32", "model.decoder.head_channels=4")
    wide = small_run.small_recipe("model.encoder.channels=[64, 64]")
    spec = ModelSpec.from_recipe(wide)
    alone = need(student, CPU)
    assert need(student, CPU, teacher=spec) == alone, "predictions that are stored need no teacher beside the student"
    online = replace(student, teacher=Teacher(run="t", mode="online"))
    counted = need(online, CPU, teacher=spec)
    assert counted.fixed == alone.fixed + 4 * parameter_count(build_generator(spec))
    assert counted.sample > alone.sample
    larger = need(online, CPU, teacher=replace(spec, image_size=64))
    assert larger.sample > 2 * counted.sample, "its own input has four times the pixels"


def test_fsdp_shards_what_is_trained_and_no_teacher(recipe: Recipe) -> None:
    ddp = replace(recipe, training=replace(recipe.training, ema=None), teacher=Teacher(run="t", mode="online"))
    fsdp = replace(ddp, training=replace(ddp.training, strategy="fsdp"))
    assert fixed_need(ddp, 4) == fixed_need(ddp) == need(ddp, CPU, 4).fixed
    assert fixed_need(fsdp, 4) == fixed_need(ddp) // 4 == need(fsdp, CPU, 4).fixed
    spec = ModelSpec.from_recipe(recipe)
    teachers = 4 * parameter_count(build_generator(spec))
    assert fixed_need(fsdp, 4, spec) == fixed_need(ddp) // 4 + teachers


@pytest.mark.slow
def test_the_default_preset_does_not_fit_into_two_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_memory", lambda device, processes=1: 2 * 10**9)
    # The preset's critic needs 192 pixels.
    sizes = ["data.image_size=192", "data.output_size=192", "data.crop_size=null", "training.batch_size=1"]
    preset = load_recipe("neuropbr:teacher_default", [*sizes, "training.precision=fp32"])
    with pytest.raises(RunError, match="a batch of 1 needs about"):
        settle_batch(preset, CPU)


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


def test_a_recipe_that_no_machine_has_memory_for_is_told_before_it_starts(tmp_path: Path) -> None:
    """Nothing stands in for anything here: the networks are counted, and the memory is this machine's."""
    data = small_run.blank_dataset(tmp_path / "data", side=1024)
    sizes = ("data.image_size=1024", "data.output_size=1024", "training.batch_size=65536")
    settings = (f"data.root={data}", "training.device=cpu", "data.oversample={}", "export=null", *sizes)
    room = available_memory(CPU)
    assert room is not None
    counted = need(small_run.small_recipe(*settings), CPU).of(65536)
    assert counted > 100 * room
    said = rf"a batch of 65536 needs about {counted / 1e9:.1f} GB, and [\d.]+ GB are free"
    with pytest.raises(RunError, match=said):
        plan(small_run.small_recipe(*settings), tmp_path / "run")
    with reporting_to(RecordingReporter()) as reporter:
        plan(small_run.small_recipe(*settings, "training.memory_check=warn"), tmp_path / "run")
    (warning,) = [line for line in reporter.lines if "needs about" in line]
    assert re.match(rf"warning: out of memory on cpu, as counted before the first step: {said}", warning)
    assert not (tmp_path / "run").exists()
