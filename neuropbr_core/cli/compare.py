"""`neuropbr compare`: the errors of several runs in one table."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.output import command, numbers, result, result_json

if TYPE_CHECKING:
    from neuropbr_core.runs.compare import RunComparison


@command("compare", short_help="Compare the errors of runs, beside the baselines.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Compare the errors of runs, beside the baselines.

    RUN is a run's folder. Runs whose recipes differ in the seed alone become one row, with the mean and, behind ±, the
    standard deviation over the runs.
    """
    from neuropbr_core.runs.compare import compare_runs

    show_comparison(compare_runs(runs), as_json=as_json)


def show_comparison(comparison: "RunComparison", *, as_json: bool) -> None:
    """Print a comparison of runs as a table, or as JSON."""
    from neuropbr_core.runs.compare import COLUMNS

    if as_json:
        result_json(asdict(comparison))
        return
    table = [("", *(f"{map_name} {metric}" for map_name, metric in COLUMNS))]
    for row in [*comparison.rows, *comparison.baselines]:
        cells = []
        for map_name, metric in COLUMNS:
            key = f"{map_name}/{metric}"
            # Errors in map units are small numbers; decibels and degrees are large ones.
            digits = 4 if metric == "mae" else 2
            cell = "–"
            if key in row.means:
                cell = f"{row.means[key]:.{digits}f}"
            if key in row.spreads:
                cell += f" ± {row.spreads[key]:.{digits}f}"
            cells.append(cell)
        table.append((row.name, *cells))
    result(numbers(table))
    for note in comparison.notes:
        result(f"note: {note}")
