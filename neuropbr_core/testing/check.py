"""Runs the conformance suite of an installed component and returns what was tried, as data.

pytest runs the suite, but its configuration, its plugins and its report are left out: the result is the same in every
folder and environment. `neuropbr plugin check` shows it.
"""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import pytest

from neuropbr_core import testing
from neuropbr_core.errors import PluginBroken, PluginError
from neuropbr_core.registry.catalog import Registry, default_registry, set_default_registry
from neuropbr_core.registry.installed import Entry, locate
from neuropbr_core.registry.options import missing_words, options_to_set
from neuropbr_core.suggestions import did_you_mean
from neuropbr_core.testing.component import FULL_VARIABLE, ComponentSuite

SUITE_MODULE = "suite"
"""Name of the module beside a thin module in which authors keep a suite of their own."""

_ARGUMENTS = ("-q", "-p", "no:cacheprovider", "--assert=plain", "--capture=sys", "--import-mode=importlib")
"""Plain assertions, because the suites' messages say what the contract asks; no cache, to leave no folder behind."""

_ADVICE_FOR_USERS = re.compile(
    r"\. (Upgrade or uninstall \S+, or block the component with .*? shows what it declares"
    r"|Report it to the authors of \S+ \(`--debug` shows the traceback\), or use another component)"
)
"""The ends of messages about a broken component, of the registry's and of its guards."""


@dataclass(frozen=True)
class Check:
    """One check of a suite, with one set of options.

    Attributes:
        name: Name of the test, with its parameters.
        tried: What was tried: what the contract asks, in a sentence.
        outcome: `passed`, `failed`, or `skipped` for what does not apply to the component or to this machine.
        message: What failed, or why it was skipped; None for a check that passed.
        where: `FILE:LINE` of the failure, in the component's own package where the failure passed through it.
        seconds: Time that it took.
    """

    name: str
    tried: str
    outcome: Literal["passed", "failed", "skipped"]
    message: str | None
    where: str | None
    seconds: float


@dataclass(frozen=True)
class Conformance:
    """The checks of one component.

    Attributes:
        kind: Kind of component.
        name: Its name.
        distribution: Distribution that declares it.
        version: Version of the distribution.
        suite: The suite that was run, as `module:class`.
        checks: The checks, in order.
    """

    kind: str
    name: str
    distribution: str
    version: str
    suite: str
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.outcome != "failed" for check in self.checks)


def check_component(
    entry: Entry, registry: Registry, *, options: Mapping[str, Any] | None = None, full: bool = False
) -> Conformance:
    """Run the suite of a component.

    The suite is the one in `suite.py` beside the component's thin module, if there is one; otherwise that of its kind,
    with default options.

    Args:
        entry: The component.
        registry: The registry that offers it.
        options: Options to check it with, instead of the suite's.
        full: Whether long checks run too.

    Raises:
        PluginBroken: The component's `suite.py` cannot be used.
        PluginError: The component does not load, or does not take the options.
    """
    # A component that does not load would fail every check with the same words.
    try:
        registry.options(entry.kind, entry.qualified)
    except PluginBroken as error:
        raise PluginBroken(_ADVICE_FOR_USERS.sub("", str(error))) from error
    observed = _Observer(_package_folder(entry))
    before = default_registry()
    set_default_registry(registry)
    try:
        # The suite is built here first, so that its faults are reported as such and not as a failed collection.
        suite = suite_for(entry.kind, entry.qualified, options)
        with tempfile.TemporaryDirectory(prefix="neuropbr-check-") as folder:
            call = json.dumps([entry.kind, entry.qualified, options])
            # A name of its own for each call: pytest takes a module of a name that it imported before from its cache.
            module = Path(folder) / f"test_{Path(folder).name.replace('-', '_')}.py"
            module.write_text(
                "import json\n"
                "from neuropbr_core.testing.check import suite_for\n"
                f"TestComponent = suite_for(*json.loads({call!r}))\n"
            )
            settings = Path(folder) / "pytest.ini"
            settings.write_text("[pytest]\n")
            # Plugins of pytest that happen to be installed change how tests run, and some need its terminal report.
            with _environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="", **{FULL_VARIABLE: str(int(full))}):
                said = io.StringIO()
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    code = pytest.main(
                        [*_ARGUMENTS, "-c", str(settings), "--rootdir", folder, str(module)], plugins=[observed]
                    )
                sys.modules.pop(module.stem, None)
    finally:
        set_default_registry(before)
    if not observed.checks:
        raise PluginBroken(f"{entry}: no check of its suite could run (pytest ended with {code}): {said.getvalue()}")
    return Conformance(
        kind=entry.kind,
        name=entry.name,
        distribution=entry.distribution,
        version=entry.version,
        suite=f"{suite.__mro__[1].__module__}:{suite.__mro__[1].__qualname__}",
        checks=observed.checks,
    )


def suite_for(kind: str, use: str, options: Mapping[str, Any] | None = None) -> type[ComponentSuite]:
    """The suite class of a component, ready for pytest to collect.

    Args:
        kind: Kind of component.
        use: Its name.
        options: Options to check it with, instead of the suite's.

    Raises:
        PluginBroken: There is no suite for the kind, or the component's `suite.py` cannot be used.
        PluginError: The component does not take the options.
    """
    entry = default_registry().find(kind, use)
    base = _own_suite(entry)
    attributes: dict[str, Any] = {"use": entry.qualified}
    typed: dict[str, Any] = {}
    if options is not None:
        # First of all: whoever uses the options from here on need not check them.
        typed = _typed(entry, options)
        attributes["option_sets"] = (typed,)
    if base is None:
        base = getattr(testing, f"{kind.capitalize()}Suite", None)
        if base is None:
            raise PluginBroken(f"{entry}: neuropbr_core.testing has no suite for the kind {kind}")
        # Without them there is nothing to check: every test would fail with the same words.
        missing = options_to_set(default_registry().options(kind, entry.qualified), typed)
        if missing:
            raise PluginBroken(f"{entry}: {missing_words(missing)}, as with `--set {missing[0]}=VALUE`")
        attributes |= base.attributes_for(entry.qualified, (typed,))
    return type("TestComponent", (base,), attributes)


def _typed(entry: Entry, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the command line with the types that the component's dataclass declares."""
    options_type = default_registry().options(entry.kind, entry.qualified)
    known = [option.name for option in dataclasses.fields(options_type)]
    for name in options:
        # msgspec passes over keys that a dataclass does not have.
        if name not in known:
            raise PluginError(
                f"{entry}: has no option {name!r}.{did_you_mean(name, known)} Options: {', '.join(known) or 'none'}"
            )
    try:
        converted: Any = msgspec.convert(dict(options), options_type)
    except msgspec.ValidationError as error:
        raise PluginError(f"{entry}: {error}") from error
    return {name: getattr(converted, name) for name in options}


def _own_suite(entry: Entry) -> type[ComponentSuite] | None:
    """The suite in `suite.py` beside the thin module; None when there is no such file."""
    name = f"{entry.module}.{SUITE_MODULE}"
    if locate(name) is None:
        return None
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise PluginBroken(f"{entry}: its suite {name} does not import: {type(error).__name__}: {error}") from error
    for value in vars(module).values():
        is_suite = isinstance(value, type) and issubclass(value, ComponentSuite)
        # Classes that it imports, such as the suite of its kind, are not its own.
        if is_suite and value.__module__ == name and getattr(value, "kind", None) == entry.kind:
            return cast("type[ComponentSuite]", value)
    raise PluginBroken(f"{entry}: {name} has no class that subclasses the suite of the kind {entry.kind}")


def _package_folder(entry: Entry) -> Path | None:
    """Folder of the package that has the thin module; its file where the module is in no package."""
    if entry.file:
        return Path(entry.file)
    path = locate(entry.module)
    if path is None:
        return None
    # A thin module `acme/wavelet/__init__.py` belongs to the folder `acme`.
    for _ in range(entry.module.count(".")):
        path = path.parent
    if path.name == "__init__.py":
        return path.parent
    return path


@contextlib.contextmanager
def _environment(**values: str) -> Generator[None]:
    """Context in which environment variables have these values."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass
class _Observer:
    """A plugin of pytest that keeps the result of every check.

    Attributes:
        package: Folder or file of the component's own code.
        checks: The results so far.
    """

    package: Path | None
    checks: list[Check] = field(default_factory=list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the result of a test's call, or of its preparation when that did not succeed."""
        report = yield
        if report.when != "call" and report.passed:
            return report
        message = None
        where = None
        if call.excinfo is not None:
            error = call.excinfo.value
            text = " ".join(str(error).split())
            message = f"{type(error).__name__}: {text}".rstrip(": ")
            # Outcomes of pytest and assertions carry sentences of the suite, so the type adds nothing.
            if isinstance(error, AssertionError | pytest.fail.Exception | pytest.skip.Exception) and text:
                message = text
        if report.failed and call.excinfo is not None:
            # The last line of the component's own code that the failure passed through, else that of the suite.
            own = None
            suite = None
            cause: BaseException | None = call.excinfo.value
            # The core turns what a component raises into an error of its own; the cause has the component's lines.
            while cause is not None:
                for step in traceback.extract_tb(cause.__traceback__):
                    path = Path(step.filename)
                    place = f"{path}:{step.lineno}"
                    if self.package is not None and (path == self.package or path.is_relative_to(self.package)):
                        own = place
                    elif path.is_relative_to(Path(testing.__file__).parent):
                        suite = place
                cause = cause.__cause__
            where = own or suite
        function = getattr(item, "function", None)
        tried = (getattr(function, "__doc__", None) or item.name).strip().splitlines()[0]
        name = item.name
        if report.failed and message is not None:
            # The author reads this report, and needs no advice for users of the component.
            message = _ADVICE_FOR_USERS.sub("", message)
            if name == ComponentSuite.test_defaults_build.__name__:
                # What does not build cannot be checked: all other checks would fail with the same words.
                message += "; the checks that remain need the component and were left out"
                item.session.shouldfail = message
        self.checks.append(Check(name, tried, report.outcome, message, where, round(call.duration, 3)))
        return report
