"""`neuropbr plugin check`: every first-party component passes, and a faulty one is told what the contract asks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neuropbr_core.cli import root
from neuropbr_core.errors import PluginError
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry import Entry, Registry, default_registry, set_default_registry
from neuropbr_core.testing.check import check_component

SMALL: dict[str, dict[str, Any]] = {
    "encoder/mobilenetv3": {"variant": "small"},
    "encoder/resnet": {"variant": "resnet18", "stem_stride": 2},
    "encoder/unet": {"channels": [8, 16]},
    "fusion/vit": {"dim": 32, "heads": 4, "depth": 1},
    "fusion/convattn": {"channels": 12, "kernel_size": 5},
    "fusion/window": {"dim": 32, "heads": 4, "depth": 2},
    "loss/gan": {"layers": 1, "width": 8},
    "observer/wandb": {"mode": "disabled"},
}
"""Options with which a component is small enough to be checked in seconds."""

CHEAP = ("encoder/unet", "fusion/concat", "loss/l1", "loss/distillation", "observer/journal", "dataset/layout")

FIRST_PARTY = [entry for entry in Registry().entries() if entry.distribution == "neuropbr"]

LOSS = '''
    """A loss with two faults."""
    from dataclasses import dataclass
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        power: float = 1.0

    @hookimpl
    def loss_options():
        return Options

    @hookimpl
    def create_loss(options):
        from neuropbr_core.contracts import Loss, LossResult

        class Faulty(Loss):
            def forward(self, x, critic=None):
                error = (x.prediction.maps["albedo"] - x.target["albedo"]).abs() + 0.1
                if x.valid.shape[-1] % 2:
                    raise IndexError("no odd sizes")
                return LossResult(error.mean(), {})

        return Faulty()
'''

REQUIRED = """
    from dataclasses import dataclass
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @dataclass(frozen=True)
    class Options:
        epsilon: float

    @hookimpl
    def {kind}_options():
        return Options

    @hookimpl
    def create_{kind}(options):
        raise ValueError("no such thing")
"""

UNBUILT = """
    from neuropbr_core.plugin import hookimpl

    NEUROPBR_API = 1

    @hookimpl
    def create_loss():
        raise ValueError("no such thing")
"""


def call(*args: str) -> Result:
    set_default_registry(None)
    return CliRunner().invoke(root, args)


@pytest.mark.parametrize("entry", FIRST_PARTY, ids=lambda entry: f"{entry.kind}/{entry.name}")
def test_first_party_components_pass(entry: Entry) -> None:
    name = f"{entry.kind}/{entry.name}"
    if name not in CHEAP:
        pytest.skip("takes long; test_first_party_components_pass_all_checks or the exporters' own tests check it")
    conformance = check_component(entry, default_registry(), options=SMALL.get(name))
    assert [check for check in conformance.checks if check.outcome == "failed"] == []
    assert sum(check.outcome == "passed" for check in conformance.checks) >= 8


ALL_CHECKS = """
import dataclasses, json, sys
from neuropbr_core.registry import default_registry
from neuropbr_core.testing.check import check_component

small = json.loads(sys.argv[1])
names = sys.argv[2:]
rows = {}
for entry in default_registry().entries():
    name = f"{entry.kind}/{entry.name}"
    if entry.distribution == "neuropbr" and name in names:
        conformance = check_component(entry, default_registry(), options=small.get(name), full=True)
        rows[name] = [dataclasses.asdict(check) for check in conformance.checks]
sys.__stdout__.write(json.dumps(rows))
"""


NAMES = [f"{entry.kind}/{entry.name}" for entry in FIRST_PARTY]
# The tests of exporters run their whole suites, which have no long checks; these two show that the command runs suites.
EXPORTERS = ("exporter/torchscript", "exporter/coreml")
# The two processes of the tests share the work only when no test takes much longer than the others.
GROUPS = {
    "losses": [name for name in NAMES if name.startswith("loss/")],
    "other kinds": [*EXPORTERS, *(name for name in NAMES if not name.startswith(("exporter/", "loss/")))],
}


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS.values(), ids=GROUPS)
def test_first_party_components_pass_all_checks(names: list[str]) -> None:
    # In a process of its own: the checks of shapes that these tests switch on cannot be compiled.
    command = [sys.executable, "-c", ALL_CHECKS, json.dumps(SMALL), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert set(rows) == set(names)
    for name, checks in rows.items():
        assert [check for check in checks if check["outcome"] == "failed"] == [], name
        # The reason of a skip may be that the check does not apply, but not that long checks are left out.
        assert not [check for check in checks if (check["message"] or "").startswith("a long check")], name


def test_every_exporter_runs_its_suite_in_its_own_tests() -> None:
    folder = Path(__file__).parents[3] / "plugins" / "exporters" / "tests"
    checked = set()
    for path in folder.glob("test_*.py"):
        checked.update(re.findall(r'class Test\w+\(\w*Suite\):\n    use = "(\w+)"', path.read_text(encoding="utf-8")))
    assert checked == {entry.name for entry in FIRST_PARTY if entry.kind == "exporter"}


def test_every_kind_has_a_suite_and_a_first_party_component() -> None:
    assert {entry.kind for entry in FIRST_PARTY} == set(KINDS)


class TestCommand:
    def test_failures_say_what_was_tried_found_and_where(self, declare: Any) -> None:
        site = declare("acme", "neuropbr.losses", "faulty = nbr_faulty", LOSS)
        done = call("plugin", "check", "loss/faulty")
        assert done.exit_code == 1, done.output
        failures = done.output.split("  FAILED   ")[1:]
        zero = next(text for text in failures if "test_zero_at_the_truth" in text)
        assert zero.startswith("A reconstruction loss is zero when the prediction is the target")
        assert "found  a reconstruction loss must be 0 (at most 1e-05) at the truth, but is 0.1" in zero
        odd = next(text for text in failures if "test_any_batch_and_odd_sizes" in text)
        assert "found  IndexError: no odd sizes" in odd
        line = dedent(LOSS).splitlines().index('                raise IndexError("no odd sizes")') + 1
        assert f"where  {site}/nbr_faulty.py:{line}\n" in odd
        assert "Traceback" not in done.output

    def test_json_of_a_package(self, declare: Any) -> None:
        declare("acme", "neuropbr.losses", "faulty = nbr_faulty", LOSS)
        done = call("plugin", "check", "acme", "--json")
        assert done.exit_code == 1, done.output
        rows = {row["name"]: row for row in json.loads(done.stdout)}
        assert not rows["faulty"]["passed"]
        assert rows["faulty"]["broken"] is None
        assert {"name", "tried", "outcome", "message", "where", "seconds"} == set(rows["faulty"]["checks"][0])

    def test_a_component_that_does_not_load(self, declare: Any) -> None:
        declare("acme", "neuropbr.observers", "gone = nbr_gone", "raise OSError('no disk')")
        done = call("plugin", "check", "acme", "--json")
        assert done.exit_code == 1, done.output
        (row,) = json.loads(done.stdout)
        assert "its module does not import: OSError: no disk" in row["broken"]
        assert "Upgrade or uninstall" not in row["broken"]

    def test_options_of_the_command_line(self, declare: Any) -> None:
        done = call("plugin", "check", "observer/journal", "--set", "level=3")
        assert done.exit_code == 1, done.output
        assert "has no option 'level'. Options: none" in str(done.exception)

    @pytest.mark.parametrize("setting", ["albedo=foo", "albedo=[1, 2]"])
    def test_a_value_that_an_option_does_not_take(self, setting: str) -> None:
        done = call("plugin", "check", "loss/l1", "--set", setting)
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, PluginError)
        assert "loss/l1" in str(done.exception)
        assert "$.albedo" in str(done.exception)

    def test_an_unknown_name_lists_packages(self) -> None:
        done = call("plugin", "check", "nothing")
        assert done.exit_code == 1, done.output
        assert "nothing has that name" in str(done.exception)
        assert "Did you mean" not in str(done.exception)
        assert "Packages with components: neuropbr" in str(done.exception)

    def test_a_name_that_is_nearly_right(self) -> None:
        assert "nothing has that name. Did you mean 'resnet'?" in str(call("plugin", "check", "resnett").exception)

    @pytest.mark.parametrize("kind", ["loss", "encoder", "exporter"])
    def test_an_option_without_a_default(self, kind: str, declare: Any) -> None:
        declare("acme", KINDS[kind].group, "needy = nbr_needy", REQUIRED.format(kind=kind))
        done = call("plugin", "check", f"{kind}/needy")
        assert done.exit_code == 1, done.output
        assert "option 'epsilon' has no default: give every option one" in done.output
        assert "--set epsilon=VALUE" in done.output

    def test_what_does_not_build_is_reported_once_at_the_authors_line(self, declare: Any) -> None:
        site = declare("acme", "neuropbr.losses", "unbuilt = nbr_unbuilt", UNBUILT)
        done = call("plugin", "check", "loss/unbuilt")
        assert done.exit_code == 1, done.output
        assert done.output.count("ValueError: no such thing") == 1
        line = dedent(UNBUILT).splitlines().index('    raise ValueError("no such thing")') + 1
        assert f"where  {site}/nbr_unbuilt.py:{line}\n" in done.output
        assert "Upgrade or uninstall" not in done.output


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROPBR_FULL_SUITE", raising=False)
    registry = default_registry()
    check_component(registry.find("observer", "journal"), registry, full=True)
    assert "NEUROPBR_FULL_SUITE" not in os.environ
    assert default_registry() is registry
