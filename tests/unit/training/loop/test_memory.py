"""What is said when memory runs out."""

from dataclasses import replace

import pytest
import torch

from neuropbr_core.model import ModelSpec
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.training.loop import memory
from neuropbr_core.training.loop.memory import advice, is_out_of_memory, out_of_memory, peak, validation_advice
from neuropbr_core.training.loop.networks import check_networks

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("expected scalar type Float but found Half"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_every_backends_way_to_say_it_is_known(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ((), 1000 + 200 + 30 + 4 + 50),
        (("encoder",), 1000 + 7),  # all else has been given back
        (("decoder",), 1000 + 200 + 7 + 50 + 4),  # between the passes; later 1000 + 200 + 30 + 7
        (("encoder", "decoder"), 1000 + 7),
        (("heads",), 1000 + 200 + 30 + 7 + 50),
    ],
)
def test_the_worst_moment_of_a_step(again: tuple[str, ...], expected: int) -> None:
    kept = {"encoder": 1000, "fusion": 200, "decoder": 30, "heads": 4}
    assert peak(kept, again, losses=50, features=7) == expected
    assert peak({**kept, "other": 10**6}, again, losses=50, features=7) == expected + 10**6


def said(error: BaseException, recipe: Recipe, device: torch.device = CPU) -> str:
    """What a run says that is out of memory in a step."""
    return out_of_memory(error, "in step 1 of epoch 1", advice(recipe, device), device)


def test_the_three_settings_come_from_the_recipe() -> None:
    changes = [
        "losses.gan=null",
        "training.batch_size=6",
        "training.precision=fp32",
        "data.image_size=256",
        "data.output_size=256",
    ]
    recipe = load_recipe("neuropbr:quick_test", changes)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    text = said(error, recipe, torch.device("cuda", 0))
    first, second, *lines = text.splitlines()
    assert first == "out of memory on cuda:0 in step 1 of epoch 1 (CUDA out of memory. Tried to allocate 2.00 GiB.)"
    assert second == "What helps most here, then continue with --resume:"
    assert lines[0].startswith("  data.crop_size=128 (now none, so 256): ")
    assert lines[0].endswith("% of the activations)")
    assert lines[1].startswith("  training.batch_size=3 (now 6) with training.accumulate=2 (now 1): ")
    assert lines[2].startswith("  training.precision=bf16 (now fp32): ")
    assert len(lines) == 3


def test_what_is_small_already_is_not_advised() -> None:
    recipe = load_recipe("neuropbr:quickstart", ["training.batch_size=1", "data.crop_size=32"])
    text = said(MemoryError(), recipe)
    assert "batch_size" not in text
    assert "crop_size" not in text
    assert "PYTORCH_CUDA" not in text
    assert "a model.encoder half as heavy (now neuropbr:unet)" in text


def settings(recipe: Recipe) -> dict[str, float]:
    """What is advised: each setting with the share of memory that it leaves."""
    found = advice(recipe, CPU)
    return {one.text.split(" (now")[0]: one.left for one in found}


@pytest.mark.parametrize(
    ("changes", "crop"),
    [
        (["data.crop_size=208"], "data.crop_size=96"),  # half of it is no multiple of the encoder's 16
        (["data.crop_size=176", "losses.gan={layers: 5}"], None),  # that critic needs 96 pixels
    ],
)
def test_only_crops_that_the_networks_take_are_advised(changes: list[str], crop: str | None) -> None:
    small = ("data.image_size=256", "data.output_size=256", "model.encoder.channels=[4, 4, 4, 4, 4]")
    decoder = "model.decoder={channels: [4, 4, 4, 4], head_channels: 4}"
    recipe = load_recipe("neuropbr:quickstart", [*small, decoder, *changes])
    found = [setting for setting in settings(recipe) if setting.startswith("data.crop_size")]
    assert found == ([crop] if crop else [])
    for setting in found:
        check_networks(load_recipe("neuropbr:quickstart", [*small, decoder, *changes, setting]))


def test_a_student_with_an_online_teacher_is_advised_crops_that_its_teacher_takes() -> None:
    small = ("data.image_size=256", "data.output_size=256", "data.crop_size=208")
    losses = "losses.distillation.feature_weight=0.1"
    recipe = load_recipe("neuropbr:quickstart", [*small, losses, "teacher={run: t, mode: online}"])
    # A teacher that is not known is taken to be like its student.
    assert "data.crop_size=104" in " ".join(setting.text for setting in advice(recipe, CPU))
    teacher = replace(ModelSpec.from_recipe(recipe), image_size=250)
    assert "data.crop_size" not in " ".join(setting.text for setting in advice(recipe, CPU, teacher))


def test_what_a_setting_leaves_is_counted_on_the_recipe() -> None:
    """A recipe nearly all of whose activations are the encoder's gains little from computing them again."""
    small = ("data.image_size=64", "data.output_size=64", "data.crop_size=null")
    wide = load_recipe("neuropbr:quickstart", [*small, "model.encoder.channels=[128, 16, 16]"])
    narrow = load_recipe("neuropbr:quickstart", [*small, "model.encoder.channels=[8, 16, 16]"])
    setting = "training.activation_checkpointing=[encoder, fusion, decoder]"
    assert settings(wide)[setting] > settings(narrow)[setting] + 0.1
    assert settings(wide)["a model.encoder half as heavy"] < settings(narrow)["a model.encoder half as heavy"]
    assert settings(wide).keys() == settings(narrow).keys()


def test_a_part_that_cannot_be_counted_does_not_hide_the_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TypeError("needs values")

    monkeypatch.setattr(memory, "saved_bytes", refuse)
    text = said(MemoryError(), load_recipe("neuropbr:quickstart"))
    assert "training.batch_size=4 (now 8)" in text


def test_validation_is_not_helped_by_what_only_helps_training() -> None:
    recipe = load_recipe("neuropbr:quickstart", ["data.crop_size=32"])
    found = {one.text.split(" (now")[0]: one.left for one in validation_advice(recipe, CPU)}
    assert found == {
        "training.batch_size=4": 0.5,
        "data.image_size=128 with data.output_size=128": 0.25,
    }
