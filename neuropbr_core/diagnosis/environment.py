"""Python, the system, packages with their versions, extras, and devices."""

import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from neuropbr_core import __version__
from neuropbr_core.memory import total_memory

DISTRIBUTION = "neuropbr"
_NOT_FOR_USERS = {"dev"}
"""Extras of those who change the core itself."""


@dataclass(frozen=True)
class PackageState:
    """A package that something requires.

    Attributes:
        name: Its name.
        required: Versions that are allowed, such as `>=2.11`; empty for all.
        installed: The version that is installed; None when there is none.
        ok: Whether the installed version is allowed.
    """

    name: str
    required: str
    installed: str | None
    ok: bool


@dataclass(frozen=True)
class ExtraState:
    """An extra of the core.

    Attributes:
        name: Its name.
        ok: Whether all of its packages are installed.
        packages: Its packages.
        install: The command that installs it.
    """

    name: str
    ok: bool
    packages: list[PackageState]
    install: str


@dataclass(frozen=True)
class DeviceState:
    """A device that PyTorch can compute on.

    Attributes:
        name: Its name, as `--device` takes it.
        description: Model, memory and the like, for people.
    """

    name: str
    description: str


def environment() -> dict[str, str]:
    """Facts about Python, the system and the installation of the core, by name."""
    memory = total_memory()
    isolated = "no"
    if sys.prefix != sys.base_prefix:
        isolated = "yes"
    origin = "an installed package"
    if (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file():
        origin = "a checkout"
    # A container or `taskset` may allow fewer processors than there are. macOS cannot tell.
    usable = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    facts = {
        "neuropbr": f"{__version__} ({origin})",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "virtual environment": isolated,
        "executable": sys.executable or "unknown",
        "system": platform.platform(),
        "processor": f"{platform.machine()}, {usable} of {os.cpu_count()} usable",
        "memory": "unknown",
    }
    if memory is not None:
        facts["memory"] = f"{memory / 2**30:.1f} GiB"
    for variable, value in sorted(os.environ.items()):
        # Our own variables, and those that decide how PyTorch computes. Others are nobody's business.
        if variable.startswith("NEUROPBR_") or variable in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            facts[variable] = value
    return facts


def packages() -> list[PackageState]:
    """The packages that the core itself requires, sorted by name."""
    states = []
    for requirement in _requirements():
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            states.append(_state(requirement))
    return sorted(states, key=lambda state: state.name)


def extras() -> list[ExtraState]:
    """The extras of the core that users may want, sorted by name."""
    try:
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []
    states = []
    for name in sorted(set(names) - _NOT_FOR_USERS):
        members = []
        for requirement in _requirements():
            marker = requirement.marker
            if marker is not None and marker.evaluate({"extra": name}) and not marker.evaluate({"extra": ""}):
                members.append(_state(requirement))
        complete = all(member.ok for member in members)
        states.append(ExtraState(name, complete, members, f"pip install '{DISTRIBUTION}[{name}]'"))
    return states


def devices() -> list[DeviceState]:
    """The devices that PyTorch sees here, in the order in which `--device auto` prefers them.

    Raises:
        ImportError: PyTorch is not installed, or its libraries do not load.
    """
    import torch

    states = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            description = (
                f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, compute capability "
                f"{properties.major}.{properties.minor}, CUDA {torch.version.cuda}"
            )
            states.append(DeviceState(f"cuda:{index}", description))
    if torch.backends.mps.is_available():
        states.append(DeviceState("mps", platform.processor() or "Apple GPU"))
    states.append(DeviceState("cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"))
    return states


def _requirements() -> list[Requirement]:
    """What the installed metadata of the core requires; empty for a core that is not installed."""
    try:
        texts = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    requirements = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # damaged metadata must not keep a report from being written
            continue
        # An extra that collects other extras requires the core itself.
        if re.sub(r"[-_.]+", "-", requirement.name).lower() != DISTRIBUTION:
            requirements.append(requirement)
    return requirements


def _state(requirement: Requirement) -> PackageState:
    required = str(requirement.specifier)
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return PackageState(requirement.name, required, None, ok=False)
    # Pre-releases count, because whoever installed one meant to.
    allowed = requirement.specifier.contains(version, prereleases=True)
    return PackageState(requirement.name, required, version, allowed)
