"""Sweeps: one run for every combination of values, each in a folder that the combination names."""

import hashlib
import itertools
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuropbr_core.errors import NeuroPBRError, RunError, RunInterrupted
from neuropbr_core.recipe.check import placed
from neuropbr_core.recipe.compare import differences
from neuropbr_core.recipe.loading import Resolved, resolve_recipe
from neuropbr_core.recipe.merge import Override
from neuropbr_core.reporting import reporter
from neuropbr_core.runs.folder import RunFolder, check_start
from neuropbr_core.runs.run import plan, run_path
from neuropbr_core.runs.stage import Context, Plan, carry_out

SEED = "training.seed"

_UNSAFE = re.compile(r"[^\w.+=@-]+")
_LONGEST_NAME = 120
"""Characters of a run's name; file systems take 255 bytes, of which other files beside the run need some."""


@dataclass(frozen=True)
class SweptRun:
    """One combination of a sweep.

    Attributes:
        source: The recipe's file, or `neuropbr:NAME`.
        overrides: The overrides of this run.
        chosen: Those that the run is named after.
        resolved: The checked recipe, and where its values come from.
        folder: Where the run lives.
        resume: Whether the run was started before.
    """

    source: str | Path
    overrides: tuple[str, ...]
    chosen: tuple[str, ...]
    resolved: Resolved
    folder: RunFolder
    resume: bool

    def plan(self) -> Plan:
        """Plan the run; changes nothing.

        Raises:
            NeuroPBRError: As `runs.run.plan`.
        """
        try:
            return plan(self.resolved.recipe, self.folder.path, resume=self.resume)
        except NeuroPBRError as error:
            raise placed(error, self.resolved.root) from error

    def carry_out(self, prepared: Callable[[], None] | None = None) -> None:
        """Start or continue the run; a run that is done is left as it is.

        Args:
            prepared: As for `runs.stage.carry_out`.
        """
        carry_out(self.plan(), prepared)

    @property
    def opened_again(self) -> Callable[[], "SweptRun"]:
        """Gives the run as its folder is now: another sweep may have started or finished it since this one was planned.

        It can be sent to another process, and raises what `open_run` raises.
        """
        return partial(open_run, self.source, self.overrides, self.chosen)


def split_values(text: str) -> list[str]:
    """Split the values of a swept key at commas, except those within brackets or quotes.

    Args:
        text: Values in YAML, such as `1,2` or `[1, 2],[3, 4]`.
    """
    values = [""]
    depth = 0
    quote = ""
    for letter in text:
        if quote:
            if letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            values.append("")
            continue
        # Blanks around a value would get into the run's name.
        if values[-1] or not letter.isspace():
            values[-1] += letter
    return list(map(str.rstrip, values))


def plan_sweep(
    recipe: str | Path, settings: Sequence[str], seeds: Sequence[int] = (), fixed: Sequence[str] = ()
) -> list[SweptRun]:
    """List the runs of a sweep, and check all recipes before the first run starts; changes nothing.

    Args:
        recipe: A recipe's file, or `neuropbr:NAME`.
        settings: Texts `key=value,value`; every combination of the values is a run. A key with one value is set in all
            runs, and does not get into their names.
        seeds: Seeds of each combination; none for the recipe's own.
        fixed: Overrides of all runs.

    Raises:
        RecipeError: A combination is no valid recipe.
        RunError: A key is swept twice, a folder holds something else, or the recipe asks for several processes.
    """
    common = []
    axes: dict[str, list[str]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        values = split_values(text)
        if not equals or len(values) == 1:
            common.append(setting)
            continue
        if key in axes:
            raise RunError(f"--set {setting}: {key} is swept already; name all of its values in one --set")
        if "" in values:
            raise RunError(f"--set {setting}: has an empty value between commas; write null for no value")
        axes[key] = list(dict.fromkeys(values))
    if seeds:
        if SEED in axes:
            raise RunError(f"{SEED} is swept already; leave out --seeds or the --set")
        axes[SEED] = list(map(str, dict.fromkeys(seeds)))
    # Flags win over `--set`, as in `neuropbr run`.
    common.extend(fixed)
    for text in common:
        key = text.partition("=")[0].strip()
        if key in axes:
            raise RunError(f"{key} is swept, and set by {getattr(text, 'words', text)} too; leave one of them out")
    if not axes:
        raise RunError("nothing is swept; name several values with --set KEY=VALUE,VALUE or several --seeds")
    runs = []
    for combination in itertools.product(*axes.values()):
        chosen = []
        for key, value in zip(axes, combination, strict=True):
            # The words name one value, so that an error does not quote the whole list.
            chosen.append(Override(f"{key}={value}", f"--set {key}={value}"))
        run = open_run(recipe, (*common, *chosen), chosen)
        # Fabric starts the other processes with the same command, so they would begin with the sweep's first run.
        if Context(run.resolved.recipe.training).processes > 1:
            raise RunError("a sweep's runs have one process each; use `neuropbr run` for runs on several devices")
        runs.append(run)
    return runs


def open_run(source: str | Path, overrides: Sequence[str], chosen: Sequence[str]) -> SweptRun:
    """Check the recipe of one run of a sweep, and look whether the run was started before; changes nothing.

    Args:
        source: The recipe's file, or `neuropbr:NAME`.
        overrides: All overrides of the run.
        chosen: Those among them that the run is named after.

    Raises:
        RecipeError: The recipe is wrong.
        RunError: The folder holds something else, or a run of another recipe.
    """
    resolved = resolve_recipe(source, overrides)
    recipe = resolved.recipe
    # The swept keys and values name the run, as far as folders can hold them.
    exact = "-".join((recipe.name, *chosen))
    name = _UNSAFE.sub("_", exact)
    if name != exact or len(name) > _LONGEST_NAME:
        # Two combinations must not become one folder because their difference is in what was left out.
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
    folder = RunFolder(run_path(recipe, name))
    resume = folder.can_resume
    check_start(folder, resume=resume, overwrite=False)
    if resume:
        # A run of the same name with another recipe: the table would show it under a wrong name.
        for change in differences(folder.recipe().tree, recipe.tree):
            # Where a run continues and computes is no property of the run.
            if change.keys not in (("training", "resume_from"), ("training", "device")):
                raise RunError(
                    f"{folder.path}: was started with another recipe ({change}); choose another --runs-dir, or remove "
                    f"the run"
                )
    return SweptRun(source, tuple(overrides), tuple(chosen), resolved, folder, resume)


def carry_out_sweep(runs: Sequence[SweptRun]) -> list[str]:
    """Execute the runs of a sweep, one after the other; a run that fails does not keep the others from theirs.

    Returns:
        What went wrong, one text for each run that failed.

    Raises:
        RunInterrupted: A signal stopped a run; the runs after it are not started.
    """
    failures = []
    for position, run in enumerate(runs, start=1):
        reporter().line(f"Run {position} of {len(runs)}: {run.folder.path}")
        try:
            run.opened_again().carry_out()
        except RunInterrupted:
            raise  # the user stops the sweep, not one run
        except NeuroPBRError as error:
            failures.append(f"{run.folder.name}: {error}")
            reporter().line(f"Run {run.folder.name} failed: {error}")
        except Exception as error:  # whatever it is, the runs after it have their turn
            traceback.print_exc()
            failures.append(f"{run.folder.name}: {type(error).__name__}: {error}")
            reporter().line(f"Run {run.folder.name} failed: {type(error).__name__}: {error}")
    return failures
