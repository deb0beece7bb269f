"""The first signal is noted, the second one does what it always does."""

import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from neuropbr_core.training.loop.trainer import StopSignals


def fabric(world_size: int = 1) -> Any:
    """A Fabric whose other processes were told SIGTERM."""

    def all_reduce(value: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        return torch.maximum(value, torch.tensor(int(signal.SIGTERM)))

    return SimpleNamespace(world_size=world_size, is_global_zero=True, device="cpu", all_reduce=all_reduce)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_second_is_obeyed(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    obeyed: list[int] = []
    before = signal.signal(number, lambda received, _: obeyed.append(received))
    try:
        with StopSignals(fabric()) as signals:
            assert signals.received() == 0
            os.kill(os.getpid(), number)
            assert signals.received() == number
            assert obeyed == []
            os.kill(os.getpid(), number)
            assert obeyed == [number]
            assert signals.received() == number
    finally:
        signal.signal(number, before)
    assert capfd.readouterr().err.count("Stopping after this step, then saving") == 1


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals(fabric()):
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_ignored_signal_stays_ignored() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopSignals(fabric()) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.received() == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_takes_over_no_signal() -> None:
    handlers: list[object] = []

    def enter() -> None:
        with StopSignals(fabric()):
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [before]


def test_what_one_process_was_told_all_know() -> None:
    assert StopSignals(fabric(world_size=2)).received() == signal.SIGTERM
