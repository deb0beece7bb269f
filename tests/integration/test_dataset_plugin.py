"""A third party's own dataset format: installed by pip, named by a recipe, tested by the suite, packed, trained on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from neuropbr_core.maps import MAPS

SIZE, SAMPLES = 32, 4

PROJECT = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"

    [project]
    name = "acme-reel"
    version = "2.0"

    [project.entry-points."neuropbr.datasets"]
    reel = "acme_reel"
"""

THIN = '''
    """Captures in one NumPy archive."""
    from dataclasses import dataclass
    from typing import Annotated
    from neuropbr_core.plugin import Meta, hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        file: Annotated[str, Meta(description="The archive.")]

    @hookimpl
    def dataset_options():
        return Options

    @hookimpl
    def create_dataset(options, data):
        from acme_reel.source import ReelSource
        return ReelSource(options.file, data)
'''

SOURCE = '''
    """Arrays `view_<sample>` (V, 3, S, S), and `<map>_<sample>` (C, S, S)."""
    import hashlib
    import numpy as np
    from neuropbr_core.contracts import Sample, SampleSource
    from neuropbr_core.errors import DataError
    from neuropbr_core.maps import MAPS

    class ReelSource(SampleSource):
        def __init__(self, file, data):
            self._file, self._views = file, data.views

        def samples(self):
            try:
                names = sorted(name.removeprefix("view_") for name in self._open() if name.startswith("view_"))
            except OSError as error:
                raise DataError(f"{self._file}: {error.strerror}; set data.source.file to an archive") from error
            return [self._sample(name) for name in names]

        def _sample(self, name):
            views = tuple((f"view_{name}", number) for number in range(self._views))
            maps = {kind: (f"{kind}_{name}", None) for kind in MAPS}
            return Sample(id=f"reel/{name}", condition="reel", material=name, views=views, maps=maps)

        def digests(self, keys):
            return [hashlib.sha256(self._pixels(key).tobytes()).hexdigest() for key in keys]

        def read_view(self, key, size):
            return self._resized(key, size)

        def read_map(self, name, key, size):
            return self._resized(key, size)

        def _open(self):
            return np.load(self._file)

        def _pixels(self, key):
            name, number = key
            return self._open()[name] if number is None else self._open()[name][number]

        def _resized(self, key, size):
            pixels = self._pixels(key)
            nearest = np.arange(size) * pixels.shape[-1] // size
            return np.ascontiguousarray(pixels[:, nearest][:, :, nearest])
'''

TESTS = """
    import numpy as np
    from neuropbr_core.maps import MAPS
    from neuropbr_core.testing import DatasetSuite

    class TestReel(DatasetSuite):
        use = "reel"
        option_sets = ({"file": "reel.npz"},)

        def write_dataset(self, folder):
            rng = np.random.default_rng(0)
            arrays = {f"view_{name}": rng.integers(0, 256, (2, 3, 40, 40), np.uint8) for name in "ab"}
            for spec in MAPS.values():
                arrays |= {f"{spec.name}_{n}": rng.integers(0, 256, (spec.channels, 40, 40), np.uint8) for n in "ab"}
            np.savez(folder / "reel.npz", **arrays)
            return {"views": 2}

        def dataset_options(self, folder):
            return {"file": str(folder / "reel.npz")}
"""

RECIPE = """
    extends: neuropbr:quickstart
    data: {source: {use: reel, file: captures.npz}, root: null, synthesize: null, pack: packed, alignment: none,
           image_size: 32, output_size: 32, crop_size: 16, repeats: 2, val_materials: [b]}
    model: {encoder: {channels: [8, 8]}, decoder: {channels: [8], head_channels: 8}, view_conditioning: none,
            albedo: direct, reflectance_profile: false}
    training: {epochs: 1, batch_size: 2, device: cpu}
    export: {torchscript: null}
"""

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed, as anybody would install it."""
    work = tmp_path_factory.mktemp("reel")
    files = {"pyproject.toml": PROJECT, "acme_reel/__init__.py": THIN, "acme_reel/source.py": SOURCE}
    for name, content in files.items():
        path = work / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content).lstrip())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(work / "site")]
    subprocess.run([*pip, *options, str(work / "project")], check=True)
    return work / "site"


@pytest.fixture
def call(site: Path, tmp_path: Path) -> Call:
    """Runs Python with the package, in a folder with an archive and a recipe."""
    rng = np.random.default_rng(1)
    names = "abcd"[:SAMPLES]
    arrays = {f"view_{name}": rng.integers(0, 256, (3, 3, SIZE, SIZE), np.uint8) for name in names}
    for spec in MAPS.values():
        arrays |= {f"{spec.name}_{n}": rng.integers(0, 256, (spec.channels, SIZE, SIZE), np.uint8) for n in names}
    np.savez(tmp_path / "captures.npz", **arrays)
    (tmp_path / "recipe.yaml").write_text(dedent(RECIPE))

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


PROGRAM = ("-c", "from neuropbr_core.cli import main; main()")


def test_it_is_a_component_like_any_other(call: Call) -> None:
    done = call(*PROGRAM, "list-plugins", "--kind", "dataset", "--json", "--check")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"layout", "live", "reel"}
    assert (rows["reel"]["summary"], rows["reel"]["status"]) == ("Captures in one NumPy archive.", "ready")


def test_it_passes_the_suite(call: Call, tmp_path: Path) -> None:
    (tmp_path / "test_reel.py").write_text(dedent(TESTS))
    done = call("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_reel.py")
    assert done.returncode == 0, done.stdout
    # Its folder must be set by a recipe, so the check of defaults has nothing to build; all others run.
    assert "1 skipped" in done.stdout
    assert "has no default" in done.stdout


def test_a_recipe_trains_on_it_from_a_pack(call: Call, tmp_path: Path) -> None:
    packed = call(*PROGRAM, "data", "pack", "--recipe", "recipe.yaml", "--json")
    assert packed.returncode == 0, packed.stderr
    assert json.loads(packed.stdout)["packed"] == SAMPLES * 7
    done = call(*PROGRAM, "run", "recipe.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    provenance = json.loads((tmp_path / "runs/recipe/provenance.json").read_text(encoding="utf-8"))
    assert ("dataset", "acme-reel", "2.0") in {
        (part["kind"], part["distribution"], part["version"]) for part in provenance["components"]
    }
    assert provenance["split"]["val"] == ["b"]
    assert "use: acme-reel:reel" in (tmp_path / "runs/recipe/recipe.yaml").read_text(encoding="utf-8")


def test_its_options_and_faults_are_explained(call: Call, tmp_path: Path) -> None:
    done = call(*PROGRAM, "recipe", "check", "recipe.yaml", "--set", "data.source={use: reel, fil: x}")
    assert "data.source.fil: unknown key; allowed: use, file; did you mean `file`?" in done.stderr
    (tmp_path / "captures.npz").unlink()
    done = call(*PROGRAM, "run", "recipe.yaml")
    assert done.returncode == 1
    assert "captures.npz: No such file or directory; set data.source.file to an archive" in done.stderr
