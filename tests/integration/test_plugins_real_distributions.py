"""Third parties' distributions, good and bad, built and installed by pip side by side with the project."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from neuropbr_core.errors import PluginBlocked, PluginBroken, PluginCollision
from neuropbr_core.registry import Registry

OPTIONS = """
    from dataclasses import dataclass
    from typing import Annotated
    from neuropbr_core.plugin import Meta, hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        width: Annotated[int, Meta(ge=1, le=64, description="Channels of the finest feature.")] = 4

    @hookimpl
    def encoder_options():
        return Options
"""

CREATE = """
    @hookimpl
    def create_encoder(options, in_channels):
        from nbr_good.encoder import PyramidEncoder
        return PyramidEncoder(options.width, in_channels)
"""

GOOD_ENCODER = '''
    """Two strided convolutions."""
    from neuropbr_core.contracts import Encoder
    from torch import nn

    class PyramidEncoder(Encoder):
        def __init__(self, width, in_channels):
            super().__init__()
            self.channels, self.strides = (width, 2 * width), (2, 4)
            self.fine = nn.Conv2d(in_channels, width, 3, 2, 1)
            self.coarse = nn.Conv2d(width, 2 * width, 3, 2, 1)

        def forward(self, images):
            fine = self.fine(images).relu()
            return [fine, self.coarse(fine)]
'''


def thin(summary: str, *parts: str) -> str:
    return "\n".join([f'"""{summary}"""', *(dedent(part) for part in parts)])


SOURCES: dict[str, dict[str, str]] = {
    "nbr-good": {
        "nbr_good/__init__.py": thin("A pyramid of two convolutions.", OPTIONS, CREATE),
        "nbr_good/encoder.py": dedent(GOOD_ENCODER),
    },
    "nbr-raises": {"nbr_raises.py": thin("Needs what is not there.", "import nbr_that_is_not_installed")},
    "nbr-exits": {"nbr_exits.py": thin("Leaves.", "raise SystemExit('no licence')")},
    "nbr-signature": {
        "nbr_signature.py": thin("Wrong signature.", OPTIONS, CREATE.replace("in_channels):", "channels):")),
    },
    "nbr-future": {
        "nbr_future.py": thin("Of tomorrow.", "NEUROPBR_API = 2", "from neuropbr_core.plugin import of_tomorrow"),
    },
    "nbr-undecorated": {
        "nbr_undecorated.py": thin("Forgot a decorator.", OPTIONS, CREATE.replace("@hookimpl", "")),
    },
    "nbr-fusion": {
        "nbr_fusion.py": thin("A fusion block in the wrong group.", OPTIONS, CREATE.replace("_encoder(", "_fusion(")),
    },
    "nbr-twin-one": {"nbr_twin_one.py": thin("The first twin.", OPTIONS, CREATE)},
    "nbr-twin-two": {"nbr_twin_two.py": thin("The second twin.", OPTIONS, CREATE)},
}
NAMES = {"nbr-twin-one": "twin", "nbr-twin-two": "twin"}
BROKEN = {"nbr-raises", "nbr-exits", "nbr-signature", "nbr-future", "nbr-undecorated", "nbr-fusion"}


def name_of(distribution: str) -> str:
    return NAMES.get(distribution, distribution.removeprefix("nbr-"))


def write_project(folder: Path, distribution: str) -> Path:
    """Write a project that any packager could have written."""
    files = SOURCES[distribution]
    module = distribution.replace("-", "_")
    (folder / distribution / module if len(files) > 1 else folder / distribution).mkdir(parents=True)
    for path, source in files.items():
        (folder / distribution / path).write_text(source)
    (folder / distribution / "pyproject.toml").write_text(
        dedent(f"""\
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "{distribution}"
        version = "3.1"

        [project.entry-points."neuropbr.encoders"]
        {name_of(distribution)} = "{module}"

        [tool.hatch.build.targets.wheel]
        include = {json.dumps(sorted(files))}
        """)
    )
    return folder / distribution


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them installed: the good one must live beside the worst."""
    work = tmp_path_factory.mktemp("distributions")
    projects = [str(write_project(work / "projects", distribution)) for distribution in SOURCES]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(work / "site")]
    subprocess.run([*pip, *options, *projects], check=True)
    return work / "site"


@pytest.fixture
def path(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder on this process's `sys.path`."""
    known = set(sys.modules)
    monkeypatch.delenv("NEUROPBR_BLOCK_PLUGINS", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    importlib.invalidate_caches()
    yield site
    for name in set(sys.modules) - known:
        if name.startswith("nbr_"):
            del sys.modules[name]


def program(site: Path, *args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    code = "import sys\nfrom neuropbr_core.cli import main\nmain()"
    variables = {**os.environ, "PYTHONPATH": str(site), **environment}
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def listing(site: Path, *args: str, **environment: str) -> dict[str, dict[str, Any]]:
    done = program(site, "list-plugins", "--json", *args, **environment)
    assert done.stderr == ""
    return {row["distribution"]: row for row in json.loads(done.stdout) if row["distribution"].startswith("nbr-")}


CAUSES = {
    "nbr-raises": "its module does not import: ModuleNotFoundError: No module named 'nbr_that_is_not_installed'",
    "nbr-exits": "its module does not import: SystemExit: no licence",
    "nbr-signature": (
        "PluginValidationError: Plugin 'nbr-signature:signature' for hook 'create_encoder' hookimpl definition: "
        "create_encoder(options, channels) Argument(s) {'channels'} are declared in the hookimpl but can not be found "
        "in the hookspec; hooks of this kind: encoder_options(), create_encoder(options, in_channels)"
    ),
    "nbr-future": "it is written for plugin API 2, but this neuropbr supports 1; upgrade whichever of the two is older",
    "nbr-undecorated": "its create_encoder is not a hook: put @hookimpl from neuropbr_core.plugin on it",
    "nbr-fusion": "unknown hook 'create_fusion'",
}


@pytest.mark.parametrize("distribution", sorted(BROKEN))
def test_a_broken_one_says_what_where_and_the_way_out(path: Path, distribution: str) -> None:
    name = name_of(distribution)
    with pytest.raises(PluginBroken) as caught:
        Registry().options("encoder", name)
    message = str(caught.value)
    assert message.startswith(f"encoder/{name} of {distribution} 3.1 is broken: ")
    assert CAUSES[distribution] in message
    module = distribution.replace("-", "_")
    assert message.endswith(
        f". It is the entry point `{name} = {module}` in group neuropbr.encoders. Upgrade or uninstall {distribution}, "
        f"or block the component with `--block {distribution}:{name}` or in NEUROPBR_BLOCK_PLUGINS; `neuropbr plugin "
        f"show encoder/{distribution}:{name}` shows what it declares"
    )


def test_a_good_one_trains_beside_broken_ones(path: Path) -> None:
    import torch

    torch.manual_seed(0)
    registry = Registry()
    for distribution in BROKEN:
        assert registry.defect(registry.find("encoder", name_of(distribution)))
    options = registry.options("encoder", "good")(width=3)
    encoder = registry.create("encoder", "nbr-good:good", options, in_channels=3)
    images = torch.rand(2, 3, 16, 24)
    features = encoder(images)
    assert [tuple(feature.shape) for feature in features] == [
        (2, channels, 16 // stride, 24 // stride)
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        loss = (encoder(images)[-1] - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_provenance_of_a_good_one(path: Path) -> None:
    assert Registry().find("encoder", "good").provenance == {
        "kind": "encoder",
        "name": "good",
        "distribution": "nbr-good",
        "version": "3.1",
        "entry_point": "nbr_good",
    }


def test_twins_collide_until_one_is_named_or_blocked(path: Path) -> None:
    expected = (
        "encoder/twin is offered by nbr-twin-one 3.1 and by nbr-twin-two 3.1. Write `nbr-twin-one:twin` or "
        "`nbr-twin-two:twin` in the recipe, or block one, as with `--block nbr-twin-one:twin` or in "
        "NEUROPBR_BLOCK_PLUGINS"
    )
    with pytest.raises(PluginCollision, match=re.escape(expected)):
        Registry().options("encoder", "twin")
    assert Registry().options("encoder", "nbr-twin-two:twin").__module__ == "nbr_twin_two"
    assert Registry(["NBR_Twin.Two:twin"]).options("encoder", "twin").__module__ == "nbr_twin_one"


def test_a_blocked_one_is_not_imported(path: Path) -> None:
    registry = Registry(["nbr-exits:exits"])
    with pytest.raises(PluginBlocked, match=r"encoder/exits of nbr-exits 3\.1 is blocked by 'nbr-exits:exits' in --bl"):
        registry.options("encoder", "exits")
    assert registry.options("encoder", "good")().width == 4


def test_the_same_distribution_twice_on_the_path_is_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    monkeypatch.setattr(sys, "path", [str(path), *sys.path, str(copy)])
    registry = Registry()
    assert [entry.distribution for entry in registry.entries("encoder") if entry.name == "good"] == ["nbr-good"]
    assert registry.find("encoder", "good").summary() == "A pyramid of two convolutions."


def test_the_listing_survives_all_of_them(site: Path) -> None:
    rows = listing(site)
    assert set(rows) == set(SOURCES)
    assert {row["version"] for row in rows.values()} == {"3.1"}
    assert rows["nbr-good"]["summary"] == "A pyramid of two convolutions."
    assert rows["nbr-exits"]["summary"] == "Leaves."
    statuses = {distribution: row["status"] for distribution, row in rows.items()}
    expected = {distribution: "collision" if "twin" in distribution else "ready" for distribution in SOURCES}
    # The only fault that its source shows.
    assert statuses == {**expected, "nbr-future": "broken"}


def test_the_checked_listing_tells_who_is_broken(site: Path) -> None:
    rows = listing(site, "--check", "--kind", "encoder", NEUROPBR_BLOCK_PLUGINS="nbr-twin-one:twin")
    statuses = {distribution: row["status"] for distribution, row in rows.items()}
    assert statuses == {
        "nbr-good": "ready",
        "nbr-twin-one": "blocked",
        "nbr-twin-two": "ready",
        **dict.fromkeys(BROKEN, "broken"),
    }
    for distribution, cause in CAUSES.items():
        assert cause in rows[distribution]["reason"]
    done = program(site, "list-plugins", "--check", "--kind", "encoder")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_show_works_for_the_good_and_the_bad(site: Path) -> None:
    good = program(site, "plugin", "show", "encoder/good")
    assert good.returncode == 0
    assert "width  an integer  from 1 to 64  4        Channels of the finest feature." in good.stdout
    bad = program(site, "plugin", "show", "encoder/nbr-signature:signature")
    assert bad.returncode == 1
    assert f"Wrong signature.\n\nBroken: {CAUSES['nbr-signature']}" in bad.stdout
    assert bad.stderr == ""


def test_an_error_on_the_command_line_is_one_message(site: Path) -> None:
    done = program(site, "plugin", "show", "encoder/twin")
    assert done.returncode == 1
    assert done.stderr.startswith("error: encoder/twin is offered by nbr-twin-one 3.1 and by nbr-twin-two 3.1. ")
    assert done.stderr.count("\n") == 1
    blocked = program(site, "--block", "nbr-twin-one:twin", "plugin", "show", "encoder/twin")
    assert "distribution  nbr-twin-two 3.1" in blocked.stdout


def test_a_recipe_can_use_the_good_one(site: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "third_party.yaml"
    recipe.write_text(
        dedent("""\
        extends: neuropbr:teacher_default
        model:
          encoder: {use: good, width: 8}
        """)
    )
    done = program(site, "recipe", "check", str(recipe))
    assert (done.returncode, done.stderr) == (0, "")
    recipe.write_text(recipe.read_text().replace("use: good", "use: twin"))
    done = program(site, "recipe", "check", str(recipe))
    assert done.returncode == 1
    assert "encoder/twin is offered by nbr-twin-one 3.1 and by nbr-twin-two 3.1" in done.stderr
