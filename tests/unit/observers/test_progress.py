import io
import os
import pty
import re
import select
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest

from neuropbr_core.contracts import EpochSummary, StepInfo, ValidationSummary
from neuropbr_core.observers.progress import Options
from neuropbr_core.observers.progress.console import ProgressObserver
from neuropbr_core.reporting import reporter
from neuropbr_core.testing.observer import ExampleRun, ObserverSuite, tell


class TestProgress(ObserverSuite):
    use = "progress"
    option_sets = ({}, {"bar": "on"}, {"bar": "off"})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_are_lines_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = ExampleRun(tmp_path / "runs" / "brick", epochs=1, metric=0.25)
    tell(ProgressObserver(Options()), run.calls())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Run brick: 1 epoch of 4 steps",
        "  device      cpu",
        "  parameters  1,234",
        "Epoch 1: 4 steps in 00:02 (1.60it/s)",
        "Epoch 1 Summary:",
        "  Generator Loss: 0.250",
        "  Discriminator Loss: 0.250",
        "[Validation] Epoch 1 - Loss: 0.250",
        "  albedo 0.2 dB, roughness MAE 0.250, metallic MAE 0.250, normal 0.2°",
        f"Saved checkpoint: {tmp_path / 'runs/brick/checkpoints/epoch_0001'}",
        f"Saved best model: {tmp_path / 'runs/brick/checkpoints/epoch_0001'}",
        "Best checkpoint: loss 0.250, albedo 0.2 dB, roughness MAE 0.250, metallic MAE 0.250, normal 0.2°",
    ]


def test_a_terminal_gets_a_bar_with_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    observer = ProgressObserver(Options())
    for step in range(1000):
        info = StepInfo(9, step, 1000, 9001 + step)
        observer.step_finished(info)
    observer.metrics_logged(info, {"loss/total": 0.5, "critic/total": 0.75})
    observer.epoch_finished(EpochSummary(9, 10000, {"loss/total": 0.123, "critic/total": 0.568, "seconds": 754.0}))
    bar, *lines = terminal.getvalue().split("\r")[-1].splitlines()
    assert re.fullmatch(
        r"Epoch 10: 100%\|[#█]+\| 1000/1000 \[\d\d:\d\d<00:00, +[\d.]+it/s, G_loss=0\.123, D_loss=0\.568\] *", bar
    )
    assert lines == ["Epoch 10 Summary:", "  Generator Loss: 0.123", "  Discriminator Loss: 0.568"]
    assert "G_loss=0.500, D_loss=0.750" in terminal.getvalue()


def test_off_has_no_bar_on_a_terminal_and_on_has_one_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream, mode in ((terminal, "off"), (file, "on")):
        monkeypatch.setattr(sys, "stderr", stream)
        observer = ProgressObserver(Options(bar=mode))  # type: ignore[arg-type]
        observer.step_finished(StepInfo(0, 0, 1, 1))
        observer.epoch_finished(EpochSummary(0, 1, {"loss/total": 1.0}))
    assert "%" not in terminal.getvalue()
    assert "Epoch 1: 100%" in file.getvalue()


def test_a_run_that_resumes_within_an_epoch_starts_the_bar_there(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    observer = ProgressObserver(Options())
    for step in (6, 7):
        observer.step_finished(StepInfo(1, step, 8, 8 + step))
    observer.epoch_finished(EpochSummary(1, 16, {}))
    assert "8/8" in terminal.getvalue()


def test_without_a_critic_there_is_no_discriminator(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tell(ProgressObserver(Options()), ExampleRun(tmp_path, critic=False).calls())
    out = capsys.readouterr().err
    assert "Generator Loss" in out
    assert "Discriminator" not in out


def test_paths_below_the_current_folder_are_short(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ProgressObserver(Options()).checkpoint_saved(Path("runs/brick/checkpoints/epoch_0010"), best=False)
    ProgressObserver(Options()).checkpoint_saved(tmp_path / "runs/brick/checkpoints/epoch_0010", best=True)
    shown = "runs/brick/checkpoints/epoch_0010"
    assert capsys.readouterr().err.splitlines() == [
        f"Saved checkpoint: {shown}",
        f"Saved checkpoint: {shown}",
        f"Saved best model: {shown}",
    ]


def test_small_losses_keep_their_digits(capsys: pytest.CaptureFixture[str]) -> None:
    observer = ProgressObserver(Options())
    for loss in (0.00123, 0.0, 12.3456, float("nan")):
        observer.validation_finished(ValidationSummary(9, 1, {"loss": loss}, {}))
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("[Validation] Epoch 10 - Loss: ") for line in lines] == [
        "0.00123", "0.000", "12.346", "nan",
    ]  # fmt: skip


def test_a_failed_run_closes_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    observer = ProgressObserver(Options())
    observer.step_finished(StepInfo(0, 0, 10, 1))
    observer.run_failed(KeyboardInterrupt())
    assert terminal.getvalue().endswith("\n")


def test_only_checkpoints_that_stay_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    info = ExampleRun(tmp_path, epochs=12).info()
    for training, kept in (
        ({}, ["epoch_0005", "epoch_0010", "epoch_0012"]),
        ({"save_every_n_epochs": 4}, ["epoch_0004", "epoch_0008", "epoch_0012"]),
        ({"save_best_only": True}, ["epoch_0012"]),
    ):
        observer = ProgressObserver(Options())
        observer.run_started(replace(info, recipe={"training": training}))
        capsys.readouterr()
        for epoch in range(1, 13):
            observer.checkpoint_saved(tmp_path / f"epoch_{epoch:04d}", best=False)
            observer.checkpoint_saved(tmp_path / f"epoch_{epoch:04d}_step_000005", best=False)
        assert [line.split("/")[-1] for line in capsys.readouterr().err.splitlines()] == kept


def test_a_terminal_of_unknown_width_gets_a_bar_too() -> None:
    """A pseudo-terminal reports 0 columns until somebody sets its size."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal, redirect_stderr(terminal):
        assert os.get_terminal_size(slave).columns == 0
        bar = reporter().bar(4, "Epoch 1", keep=True, shown=True)
        for _ in range(4):
            bar.advance()
        bar.close()
        terminal.flush()
        shown = b""
        # The kernel may deliver the bar in parts, and a read of an empty terminal would wait for ever.
        while b"4/4" not in shown and select.select([master], [], [], 5)[0]:
            shown += os.read(master, 10_000)
        assert re.search(rb"Epoch 1: 100%\|.+\| 4/4", shown)
    os.close(master)
