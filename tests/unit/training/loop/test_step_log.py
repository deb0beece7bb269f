"""A step's scalars: means, the step that broke and its samples, and what a resumed run takes over."""

import math

import pytest
import torch

from neuropbr_core.errors import RunError
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.step import Stepped
from neuropbr_core.training.loop.step_log import StepLog


def make_log(every: int = 2, *, max_skips: int = 3, overflows: bool = False) -> StepLog:
    return StepLog(Fabric(accelerator="cpu", devices=1), every, max_skips=max_skips, overflows=overflows)


def stepped(*, skipped: bool = False, **scalars: float) -> Stepped:
    return Stepped({name.replace("__", "/"): torch.tensor(value) for name, value in scalars.items()}, skipped)


def test_means_since_the_last_flush_and_over_the_epoch() -> None:
    log = make_log()
    log.add(0, 0, stepped(loss__total=1.0), ["a"])
    log.add(1, 0, stepped(loss__total=2.0, critic__total=5.0), ["b"])
    assert log.flush(0) == {"loss/total": 1.5, "critic/total": 5.0}
    assert log.flush(0) == {}
    log.add(2, 0, stepped(loss__total=6.0), ["c"])
    assert log.flush(0) == {"loss/total": 6.0}
    assert log.end_epoch(0) == {"loss/total": 3.0, "critic/total": 5.0}
    assert log.end_epoch(1) == {}


def test_a_step_that_was_not_logged_in_its_epoch_is_in_the_next_log() -> None:
    log = make_log()
    log.add(0, 0, stepped(loss__total=1.0), ["a"])
    assert log.end_epoch(0) == {"loss/total": 1.0}
    resumed = make_log()
    resumed.load_state_dict(log.state_dict())
    for continued in (log, resumed):
        continued.add(0, 1, stepped(loss__total=3.0), ["b"])
        assert continued.flush(1) == {"loss/total": 2.0}
        assert continued.end_epoch(1) == {"loss/total": 3.0}
    log.add(0, 2, stepped(loss__total=3.0), ["c"])
    log.clear()
    assert log.flush(2) == log.end_epoch(2) == {}


def test_logs_are_due_at_their_interval_over_all_epochs_and_at_the_end_of_the_run() -> None:
    log = make_log(every=2)
    assert [step for step in range(1, 6) if log.due(step, last=step == 5)] == [2, 4, 5]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_term_the_step_and_the_samples_of_that_very_step_are_named(value: float) -> None:
    log = make_log(every=10)
    log.add(6, 1, stepped(loss__total=1.0, loss__l1__albedo=1.0, grad_norm=1.0), ["before"])
    log.add(
        7, 1, stepped(loss__total=value, loss__l1__albedo=1.0, loss__ssim__normal=value, grad_norm=value), ["x", "y"]
    )
    log.add(8, 1, stepped(loss__total=math.nan, loss__l1__albedo=math.nan, grad_norm=math.nan), ["after"])
    expected = r"^loss/ssim/normal is not finite in step 8 of epoch 2 \(samples x, y\); lower optimizer\.lr .* skip"
    with pytest.raises(RunError, match=expected):
        log.check(1)


def test_a_loss_of_others_is_named_with_its_check() -> None:
    log = StepLog(Fabric(accelerator="cpu", devices=1), 1, authors={"edges": "loss/edge of acme 1.0"})
    log.add(0, 0, stepped(loss__edges__sum=math.nan), ["a"])
    with pytest.raises(
        RunError, match=r"^loss/edges/sum of loss/edge of acme 1\.0 .*`neuropbr plugin check loss/edge`"
    ):
        log.flush(0)


def test_where_only_a_gradient_is_not_finite_components_of_others_are_named_with_their_checks() -> None:
    log = StepLog(
        Fabric(accelerator="cpu", devices=1),
        1,
        authors={"edges": "loss/edge of acme 1.0"},
        networks=["encoder/tiny of acme 1.0"],
    )
    log.add(0, 0, stepped(loss__total=1.0, loss__edges__sum=1.0, grad_norm=math.nan), ["a"])
    with pytest.raises(RunError) as caught:
        log.flush(0)
    message = str(caught.value)
    assert message.startswith("grad_norm is not finite in step 1 of epoch 1 (samples a); ")
    assert "All losses are finite" in message
    assert "Of others are encoder/tiny of acme 1.0, loss/edge of acme 1.0: " in message
    assert "`neuropbr plugin check encoder/tiny` and `neuropbr plugin check loss/edge`" in message


def test_of_our_own_components_alone_nobody_is_named() -> None:
    log = make_log()
    log.add(0, 0, stepped(loss__total=1.0, grad_norm=math.nan), ["a"])
    with pytest.raises(RunError, match=r"are intact$"):
        log.flush(0)


def test_an_infinite_gradient_norm_stops_unless_a_scaler_deals_with_it() -> None:
    log = make_log()
    log.add(0, 0, stepped(loss__total=1.0, grad_norm=math.inf), ["a"])
    with pytest.raises(RunError, match=r"^grad_norm is not finite in step 1"):
        log.flush(0)
    log = make_log(overflows=True)
    log.add(0, 0, stepped(loss__total=1.0, grad_norm=math.inf), ["a"])
    log.add(1, 0, stepped(loss__total=3.0, grad_norm=2.0), ["b"])
    assert log.flush(0) == {"loss/total": 2.0, "grad_norm": 2.0}


def test_dropped_steps_are_counted_and_end_the_run_when_there_are_too_many_in_a_row() -> None:
    log = make_log(max_skips=3)
    for step in range(2):
        log.add(step, 0, stepped(skipped=True), ["a"])
    log.add(2, 0, stepped(loss__total=4.0), ["b"])
    assert log.flush(0) == {"skipped": 2.0, "loss/total": 4.0}
    for step in (3, 4):
        log.add(step, 0, stepped(skipped=True), ["c", "d"])
    with pytest.raises(RunError, match=r"3 steps in a row were not finite, the last one step 6 of epoch 1 .*e, f"):
        log.add(5, 0, stepped(skipped=True), ["e", "f"])


def test_a_resumed_log_goes_on_where_the_other_was() -> None:
    first = make_log()
    for step, value in enumerate((0.1, 0.7, 0.2)):
        first.add(step, 0, stepped(loss__total=value), ["a"])
        if step == 1:
            first.flush(0)
    first.check(0)
    second = make_log()
    second.load_state_dict(first.state_dict())
    for log in (first, second):
        log.add(3, 0, stepped(loss__total=0.3), ["b"])
    assert second.flush(0) == first.flush(0)
    assert second.end_epoch(0) == first.end_epoch(0)


def test_gradients_that_overflow_under_every_scale_stop_the_run() -> None:
    log = make_log(overflows=True)
    overflow = stepped(loss__total=1.0, grad_norm=math.nan)
    for step in range(49):
        log.add(step, 0, overflow, ["a"])
    log.add(49, 0, stepped(loss__total=1.0, grad_norm=1.0), ["a"])
    for step in range(50, 99):
        log.add(step, 0, overflow, ["a"])
    log.check(0)
    resumed = make_log(overflows=True)
    resumed.load_state_dict(log.state_dict())
    for continued in (log, resumed):
        continued.add(99, 0, overflow, ["x", "y"])
        with pytest.raises(RunError) as caught:
            continued.check(0)
        assert str(caught.value).startswith(
            "grad_norm was not finite in 50 steps in a row, the last one step 100 of epoch 1 (samples x, y), so the "
        )
        assert "set training.precision: bf16 or fp32" in str(caught.value)


def test_a_critic_that_always_overflows_stops_the_run_too() -> None:
    log = make_log(overflows=True)
    for step in range(50):
        log.add(step, 0, stepped(grad_norm=1.0, critic__gan__grad_norm=math.inf), ["a"])
    with pytest.raises(RunError, match=r"^critic/gan/grad_norm was not finite in 50 steps in a row"):
        log.check(0)
