import pytest
import torch

from neuropbr_core.devices import choose_device
from neuropbr_core.errors import DeviceError


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"device cuda was asked for, .*available: .*cpu.*or use --device auto"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="device: found 'gpu', allowed: auto, cpu, cuda, mps"):
        choose_device("gpu")
    with pytest.raises(DeviceError, match="found 'cpu:1', allowed: auto, cpu, cuda, mps, or one GPU such as cuda:1"):
        choose_device("cpu:1")
    with pytest.raises(DeviceError, match="device cuda:1 was asked for"):
        choose_device("cuda:1")


def test_one_gpu_of_several_is_chosen_by_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="cuda:2 was asked for, but this machine has 2 CUDA devices"):
        choose_device("cuda:2")
