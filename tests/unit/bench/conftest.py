"""A small protocol: three materials, two kinds, three photos of 64 pixels."""

import shutil

import pytest

from neuropbr_core.bench import protocol as protocol_module
from neuropbr_core.bench.protocol import BenchCaptures, Protocol, prepare_captures
from neuropbr_core.recipe.sections import Synthesize
from neuropbr_core.shipped import shipped_root

MATERIALS = ("acg_MetalPlates006", "acg_Rock053", "t3_Wood_027")


@pytest.fixture(scope="session")
def small_protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    folder = tmp_path_factory.mktemp("materials")
    for name in MATERIALS:
        shutil.copytree(shipped_root() / "examples/materials" / name, folder / name)
    plan = Synthesize(str(folder), samples=6, size=64, view_size=96, seed=3, kinds=("flash", "offset"))
    return Protocol(plan)


@pytest.fixture(scope="session")
def captures(small_protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> BenchCaptures:
    return prepare_captures(small_protocol, tmp_path_factory.mktemp("bench") / "captures")


@pytest.fixture
def small_bench(
    captures: BenchCaptures, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> BenchCaptures:
    """The command's protocol is the small one, and its captures are there."""
    home = captures.folder.parent / "home"
    place = home / "bench" / f"{protocol_module.VERSION}-{captures.protocol.digest}"
    if not place.exists():
        shutil.copytree(captures.folder, place)
    monkeypatch.setenv("NEUROPBR_DATA_HOME", str(home))
    monkeypatch.setattr(protocol_module, "PROTOCOL", captures.protocol)
    return captures
