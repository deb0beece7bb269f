"""How long each thin module takes to import, and what heavy packages it brings along."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from neuropbr_core.registry.installed import Entry

SLOW_SECONDS = 0.2
"""Time from which a thin module is called slow; a light one takes some milliseconds."""

_LONGEST_SECONDS = 120

HEAVY = ("torch", "timm", "torchvision", "lightning", "lightning_fabric", "jsonschema", "coremltools", "onnx", "wandb")
"""Packages that take a tenth of a second or more to import."""

# What every thin module imports comes first, so that the time is that of the module's own imports.
_PROGRAM = """
import importlib, json, sys, time
import dataclasses, typing, neuropbr_core.plugin
start = time.perf_counter()
importlib.import_module(sys.argv[1])
seconds = time.perf_counter() - start
print("\\n" + json.dumps([seconds, sorted(set(sys.argv[2:]) & set(sys.modules))]))
"""


@dataclass(frozen=True)
class ImportTime:
    """How long a thin module took to import in a process of its own.

    Attributes:
        kind: Kind of the component.
        name: Its qualified name.
        module: The thin module.
        seconds: Time that the import took; None when it failed or took too long.
        heavy: Heavy packages that it imported.
    """

    kind: str
    name: str
    module: str
    seconds: float | None
    heavy: list[str]

    @property
    def is_slow(self) -> bool:
        """Whether the import makes listings slow."""
        return self.seconds is not None and self.seconds >= SLOW_SECONDS


def trace_imports(entries: Iterable[Entry]) -> list[ImportTime]:
    """Import each thin module in a process of its own, one after the other, and measure.

    Args:
        entries: The components. Those of single files are left out, because only commands that name one load it.

    Returns:
        The slowest first.
    """
    times = []
    # The new process finds what this one finds.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for entry in entries:
        if entry.file:
            continue
        seconds = None
        heavy: list[str] = []
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter, and the module of an installed entry point
                [sys.executable, "-c", _PROGRAM, entry.module, *HEAVY],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=_LONGEST_SECONDS,
            )
            seconds, heavy = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, OSError, ValueError, IndexError):
            pass
        times.append(ImportTime(entry.kind, entry.qualified, entry.module, seconds, heavy))
    return sorted(times, key=lambda time: time.seconds or float("inf"), reverse=True)
