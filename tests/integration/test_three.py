"""three.js of the preview is what its pinned versions give."""

import re
import shutil
from pathlib import Path

import pytest

import neuropbr_core.viewer
from neuropbr_core.viewer.three.build import BUNDLE, HERE, LICENSE, build


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm and the network")
def test_the_bundle_is_built_from_pinned_versions(tmp_path: Path) -> None:
    build(tmp_path)
    for name in (BUNDLE, LICENSE):
        assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


def test_versions_are_exact_and_no_lock_file_names_hosts() -> None:
    package = (HERE / "package.json").read_text(encoding="utf-8")
    assert re.findall(r'"(three|esbuild)": "(\d+\.\d+\.\d+)"', package) == [("three", "0.187.0"), ("esbuild", "0.28.2")]
    room = Path(neuropbr_core.viewer.__file__).parent
    assert not list(room.rglob("*lock*"))
    assert not list(room.rglob("node_modules"))
