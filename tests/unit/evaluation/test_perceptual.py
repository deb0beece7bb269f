"""LPIPS with an AlexNet whose weights were drawn at random: its wiring is tested, and its distances mean nothing."""

import os
from inspect import getfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.perceptual import load_lpips, usual_place


def test_the_distance_is_that_of_the_paper(alexnet_at_random: Path) -> None:
    distance = load_lpips(alexnet_at_random)
    assert not distance.usual
    a = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    b = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    # Equation 1 of the paper, with the layers of AlexNet written down one by one.
    state = torch.load(alexnet_at_random, weights_only=True)
    heads_file = Path(getfile(torchmetrics_lpips)).parent / "lpips_models/alex.pth"
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    x, y = ((2 * picture - 1 - shift) / scale for picture in (a, b))
    total = torch.zeros(2)
    for index, (layer, stride, padding) in enumerate(((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))):
        if layer in (3, 6):
            x, y = (nn.functional.max_pool2d(features, 3, 2) for features in (x, y))
        weight, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
        x, y = (nn.functional.conv2d(features, weight, bias, stride, padding).relu() for features in (x, y))
        units = [features / (features.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for features in (x, y)]
        weights = heads[f"lin{index}.model.1.weight"].view(1, -1, 1, 1)
        total += ((units[0] - units[1]).square() * weights).sum(dim=1).mean(dim=(1, 2))
    assert distance(a, b) == pytest.approx(total, rel=1e-4)
    assert distance(a, a).tolist() == [0, 0]


def test_files_that_are_no_alexnet_are_refused(alexnet_at_random: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere\.pth: cannot be read \(No such file or directory\); give torchvision's"
    ):
        load_lpips(tmp_path / "nowhere.pth")
    for text in ("not weights", "half a download"):
        (tmp_path / "text.pth").write_text(text)
        with pytest.raises(DataError, match="holds no weights that PyTorch reads"):
            load_lpips(tmp_path / "text.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(DataError, match=r"pipe\.pth: cannot be read"):
        load_lpips(tmp_path / "pipe.pth")
    state = torch.load(alexnet_at_random, weights_only=True)
    torch.save({**state, "features.0.weight": torch.zeros(1)}, tmp_path / "small.pth")
    with pytest.raises(DataError, match="its layers have other sizes"):
        load_lpips(tmp_path / "small.pth")


def test_the_usual_place_is_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert usual_place() is None
    file = tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert usual_place() == file
