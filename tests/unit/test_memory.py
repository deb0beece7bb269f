"""What the machine, its container and this process have."""

from pathlib import Path

import pytest

from neuropbr_core import memory


def test_this_machine_tells() -> None:
    total = memory.total_memory()
    free = memory.free_memory()
    assert total is not None
    assert free is not None
    assert 0 < memory.used_memory() < total
    assert 0 < free <= total


def test_a_container_counts_what_it_cannot_give_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert memory.total_memory() == 1000
    assert memory.free_memory() == 550
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_memory() != 1000
