"""Distributions that exist as metadata and source only, for tests of the registry and the command line."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Protocol

import pytest

from neuropbr_core.registry import set_default_registry


class Declare(Protocol):
    def __call__(
        self, distribution: str, group: str, point: str, source: str | None = None, *, version: str = ..., at: str = ...
    ) -> Path: ...


@pytest.fixture(scope="session")
def alexnet_at_random(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the layers of an AlexNet that LPIPS looks at, drawn at random: its distances mean nothing."""
    import torch  # most tests of this folder need none

    generator = torch.Generator().manual_seed(7)
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    state = {}
    for layer, shape in shapes.items():
        # About the scale that keeps values alike from layer to layer.
        fan_in = shape[1] * shape[2] * shape[3]
        state[f"features.{layer}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        state[f"features.{layer}.bias"] = torch.zeros(shape[0])
    file = tmp_path_factory.mktemp("alexnet") / "random.pth"
    torch.save(state, file)
    return file


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """Puts a distribution with one entry point on `sys.path`, in front of everything else.

    `point` is `name = module`; `source` is the module's, which is not written when None. `at` names the folder.
    """
    known = set(sys.modules)
    set_default_registry(None)
    monkeypatch.delenv("NEUROPBR_BLOCK_PLUGINS", raising=False)

    def add(
        distribution: str,
        group: str,
        point: str,
        source: str | None = None,
        *,
        version: str = "1.0",
        at: str = "site",
    ) -> Path:
        site = tmp_path / at
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        info.joinpath("entry_points.txt").write_text(f"[{group}]\n{point}\n")
        if source is not None:
            module = point.split("=")[1].strip()
            site.joinpath(f"{module}.py").write_text(dedent(source))
        if str(site) not in sys.path:
            monkeypatch.setattr(sys, "path", [str(site), *sys.path])
        importlib.invalidate_caches()
        return site

    yield add
    set_default_registry(None)
    for name in set(sys.modules) - known:
        if name.startswith("nbr_"):
            del sys.modules[name]
