"""Packed textures of many materials."""

import errno
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from neuropbr_core.data.synthesis.live.textures_on_disk import list_materials, open_textures
from neuropbr_core.errors import DataError


def test_more_materials_than_files_may_usually_be_open(tmp_path: Path) -> None:
    """Each mapped texture holds a file open; in a process of its own, whose limit is changed."""
    script = """
        import os, resource, sys
        from pathlib import Path
        from neuropbr_core.data.synthesis.live import textures_on_disk
        from neuropbr_core.data.synthesis.live.textures_on_disk import list_materials, open_textures

        materials = list_materials(["neuropbr:examples/materials"], 0, 0)
        # Room for three more files, and for these and the materials once the limit is raised.
        soft = len(os.listdir("/proc/self/fd")) + 3
        textures_on_disk._OTHER_FILES = soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        open_textures(materials, 32, Path(sys.argv[1]))
        print(len(materials), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - soft)
    """
    command = [sys.executable, "-c", dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    materials, more = map(int, done.stdout.split() or (0, 0))
    assert more == materials > 3, done.stderr


def test_a_sound_file_is_not_blamed_when_too_many_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    materials = list_materials(["neuropbr:examples/materials"], 0, 0)[:1]
    open_textures(materials, 32, tmp_path)

    def load(path: Path, **_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", load)
        with pytest.raises(OSError, match="Too many open files"):
            open_textures(materials, 32, tmp_path)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match="remove it"):
        open_textures(materials, 32, tmp_path)
