import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from neuropbr_core.contracts import EpochSummary, StepInfo, ValidationSummary
from neuropbr_core.observers.tensorboard.events import TensorBoardObserver
from neuropbr_core.testing.observer import ExampleRun, ObserverSuite, tell


class TestTensorBoard(ObserverSuite):
    use = "tensorboard"


def read(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def scalars(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(run_dir).Scalars(tag)]


def test_every_metric_has_a_tag_and_its_step(tmp_path: Path) -> None:
    tell(TensorBoardObserver(tmp_path), ExampleRun(tmp_path, epochs=2).calls())
    assert scalars(tmp_path, "train/loss/total") == [(2, 0.25), (4, 0.25), (6, 0.25), (8, 0.25)]
    assert [step for step, _ in scalars(tmp_path, "train/lr")] == [2, 4, 6, 8]
    assert scalars(tmp_path, "epoch/critic/total") == [(4, 0.25), (8, 0.25)]
    assert scalars(tmp_path, "epoch/seconds") == [(4, 2.5), (8, 2.5)]
    assert scalars(tmp_path, "validation/normal/angle") == [(4, 0.25), (8, 0.25)]
    assert scalars(tmp_path, "best/albedo/psnr") == [(8, 0.25)]


def test_pictures_are_kept_pixel_for_pixel(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    observer = TensorBoardObserver(tmp_path)
    observer.validation_finished(ValidationSummary(0, 7, {}, {"brick": picture}, {"brick/views": picture[::-1]}))
    events = read(tmp_path)
    for tag, expected in (("grids/brick", picture), ("pictures/brick/views", picture[::-1])):
        (event,) = events.Images(tag)
        path = tmp_path / "picture.png"
        path.write_bytes(event.encoded_image_string)
        assert event.step == 7
        np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_recipe_and_facts_can_be_read(tmp_path: Path) -> None:
    TensorBoardObserver(tmp_path).run_started(ExampleRun(tmp_path).info())
    events = read(tmp_path)
    texts = {
        tag: events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode() for tag in ("recipe", "facts")
    }
    assert texts["recipe"] == "    training:\n      epochs: 3\n"
    assert "| parameters | 1,234 |" in texts["facts"]


def test_values_are_on_disk_as_soon_as_they_were_told(tmp_path: Path) -> None:
    observer = TensorBoardObserver(tmp_path)
    observer.metrics_logged(StepInfo(0, 9, 100, 10), {"loss/total": 0.5})
    assert scalars(tmp_path, "train/loss/total") == [(10, 0.5)]
    observer.epoch_finished(EpochSummary(0, 100, {"loss/total": 0.25}))
    assert scalars(tmp_path, "epoch/loss/total") == [(100, 0.25)]


@pytest.mark.parametrize("cut", [0, 5])
def test_a_resumed_run_has_every_step_once_and_in_order(tmp_path: Path, cut: int) -> None:
    calls = list(ExampleRun(tmp_path, epochs=3).calls())
    tell(TensorBoardObserver(tmp_path), iter(calls[:16]))  # killed within the second epoch, after step 8
    (file,) = (tmp_path / "tensorboard").iterdir()
    os.truncate(file, file.stat().st_size - cut)
    assert scalars(tmp_path, "train/loss/total")[-1][0] > 4
    tell(TensorBoardObserver(tmp_path), ExampleRun(tmp_path, start_epoch=1, metric=0.5).calls())
    steps = [(2, 0.25), (4, 0.25), (6, 0.5), (8, 0.5), (10, 0.5), (12, 0.5)]
    assert scalars(tmp_path, "train/loss/total") == steps
    assert scalars(tmp_path, "validation/loss") == [(4, 0.25), (8, 0.5), (12, 0.5)]
    assert [event.step for event in read(tmp_path).Images("grids/clean/brick_0001")] == [4, 8, 12]


def test_a_full_disk_is_an_error_of_the_call_and_of_no_thread(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    observer = TensorBoardObserver(tmp_path)
    observer.run_started(ExampleRun(tmp_path).info())
    picture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            observer.validation_finished(ValidationSummary(0, 7, {}, {"brick": picture}, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "Traceback" not in capfd.readouterr().err
    assert read(tmp_path).Tensors("recipe/text_summary")
