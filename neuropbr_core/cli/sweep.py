"""`neuropbr sweep`: one run for every combination of values, and one table of all."""

from dataclasses import replace

import click

from neuropbr_core.cli.compare import show_comparison
from neuropbr_core.cli.completing import RecipeName
from neuropbr_core.cli.output import command, result
from neuropbr_core.cli.overrides import SET_NAME, collect_overrides, override_options
from neuropbr_core.errors import RunError


class Seeds(click.ParamType[tuple[int, ...]]):
    """Integers with commas between them."""

    name = "seeds"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        """Read the integers; the recipe's check knows which seeds are allowed."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(text) for text in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of integers; write --seeds 1,2,3", param, context)


@command("sweep", short_help="Run RECIPE with every combination of values.")
@click.argument("recipe", type=RecipeName())
@override_options
@click.option(
    "--seeds", type=Seeds(), default=(), metavar="N,N…", help="Run each combination with each of these seeds."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs at a time, each in a process with its share of the cores, and a log in RUNS_DIR/sweep-logs.",
)
@click.option("--dry-run", is_flag=True, help="List the runs, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def sweep(recipe: str, seeds: tuple[int, ...], jobs: int, dry_run: bool, as_json: bool, **overrides: object) -> None:
    """Run RECIPE with every combination of values, and show the errors of all runs in one table.

    `--set KEY=VALUE,VALUE` names the values of a key. The same command continues a sweep that was interrupted: runs
    that are done are skipped. A run that fails does not keep the others from theirs. After Ctrl-C, runs save and end.
    """
    if dry_run and as_json:
        raise click.UsageError("--json prints the table, which --dry-run does not make; give one of them")
    if seeds and overrides.get("seed") is not None:
        raise click.UsageError("--seed and --seeds exclude each other")
    settings = overrides.pop(SET_NAME, ())
    fixed = collect_overrides(**overrides)
    # Imported late: these bring in PyTorch, which takes seconds.
    from neuropbr_core.runs.compare import compare_runs
    from neuropbr_core.runs.sweep import carry_out_sweep, plan_sweep
    from neuropbr_core.runs.sweep_jobs import carry_out_jobs

    runs = plan_sweep(recipe, settings, seeds, fixed)  # type: ignore[arg-type]
    if dry_run:
        for run in runs:
            state = "continue" if run.resume else "start"
            result(f"{state:<10}{run.folder.path}")
        return
    if jobs == 1:
        failures = carry_out_sweep(runs)
    else:
        failures = carry_out_jobs(runs, jobs)
    finished = []
    for run in runs:
        # A run that failed after its evaluation has scores too.
        if run.folder.summary.is_file():
            finished.append(run.folder.path)
    if finished:
        comparison = compare_runs(finished)
        # A row over seeds of which one is missing must say so.
        notes = [*comparison.notes, *(f"failed: {failure}" for failure in failures)]
        show_comparison(replace(comparison, notes=notes), as_json=as_json)
    if failures:
        listed = "\n  ".join(failures)
        raise RunError(f"{len(failures)} of {len(runs)} runs failed; the same command continues them:\n  {listed}")
