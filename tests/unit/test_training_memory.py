"""What is said when memory runs out."""

import pytest
import torch

from neuropbr_core.recipe import load_recipe
from neuropbr_core.training.memory import is_out_of_memory, out_of_memory


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


def test_the_three_settings_come_from_the_recipe() -> None:
    settings = ["training.batch_size=6", "training.precision=fp32", "data.crop_size=null", "losses.gan=null"]
    recipe = load_recipe("neuropbr:teacher_default", ["data.root=x", *settings])
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    text = out_of_memory(error, recipe, torch.device("cuda", 0), "in step 1 of epoch 1")
    first, second, *advice = text.splitlines()
    assert first == "out of memory on cuda:0 in step 1 of epoch 1 (CUDA out of memory. Tried to allocate 2.00 GiB.)"
    assert second == "What helps most here, then continue with --resume:"
    assert advice[0].startswith("  data.crop_size=1024 (now none, so 2048): ")
    assert advice[1].startswith("  training.batch_size=3 (now 6) with training.accumulate=2 (now 1): ")
    assert "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in advice[3]
    assert len(advice) == 4


def test_what_is_small_already_is_not_advised() -> None:
    recipe = load_recipe("neuropbr:quickstart", ["training.batch_size=1", "data.crop_size=32", "data.views=1"])
    text = out_of_memory(MemoryError(), recipe, torch.device("cpu"), "in step 1 of epoch 1")
    assert "batch_size" not in text
    assert "crop_size" not in text
    assert "data.views" not in text
    assert "PYTORCH_CUDA" not in text
    assert "a smaller model.encoder (now neuropbr:unet)" in text
