"""`neuropbr batch`: the maps of many captures, by a model that is loaded once."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neuropbr_core.cli.chosen_model import load_chosen, model_options
from neuropbr_core.cli.output import OUTPUT, command, counted, result, result_json
from neuropbr_core.cli.package import chosen_targets, target_options
from neuropbr_core.cli.refining import chosen_steps, refine_option
from neuropbr_core.reporting import doing

if TYPE_CHECKING:
    from neuropbr_core.inference.batch import Batch, Capture, Row


@command()
@click.argument("captures", nargs=-1, required=True, metavar="CAPTURES…")
@model_options
@click.option(*OUTPUT, metavar="DIR", help="Folder of the batch.  [default: CAPTURES_maps, here]")
@click.option("--resume", is_flag=True, help="Continue the batch in that folder: what is done is skipped.")
@click.option("--watch", "watching", is_flag=True, help="Wait for captures that appear or change, until Ctrl-C.")
@click.option("--overwrite", is_flag=True, help="Predict all captures again, and replace files of others.")
@click.option("--ensemble", is_flag=True, help="As for `neuropbr infer`.")
@click.option(
    "--resolution", type=click.IntRange(32, 16384), metavar="N", help="As for `neuropbr infer`. [default: the model's]"
)
@click.option("--max-memory", type=click.FloatRange(0, min_open=True), metavar="GIB", help="For --resolution.")
@refine_option
@click.option("--size", type=click.IntRange(1, 16384), metavar="N", help="Resample the maps to N×N by Lanczos.")
@click.option("--strict", is_flag=True, help="Let captures fail whose photos make the maps doubtful.")
@target_options(required=False, named=False)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON at the end.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps; for a run.")
@click.pass_context
def batch(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    *,
    captures: tuple[str, ...],
    run_folder: str | None,
    checkpoint: str,
    model: str | None,
    exporter: str | None,
    trust: bool,
    output: str | None,
    resume: bool,
    watching: bool,
    overwrite: bool,
    ensemble: bool,
    resolution: int | None,
    max_memory: float | None,
    refine_steps: int | None,
    size: int | None,
    strict: bool,
    targets: str | None,
    options: tuple[str, ...],
    tileable: bool,
    as_json: bool,
    device: str,
) -> None:
    """Predict the PBR maps of many captures.

    CAPTURES are folders of photos, or folders that hold such folders at any depth. Each capture becomes a folder in
    DIR, with its maps, views/ and packages; it is there whole or not at all. A capture that fails does not stop the
    others. DIR/batch.json and DIR/batch.html have a line for each, with how sharp and how sure its maps are, and what
    makes them doubtful.

    Exits with 1 when a capture failed, but for --watch, which ends when the user wants it to.
    """
    import msgspec

    from neuropbr_core.inference import Effort, LoadedGenerator
    from neuropbr_core.inference.batch import (
        PAGE,
        TABLE,
        Batch,
        Order,
        check_batch_place,
        find_captures,
        watch,
    )
    from neuropbr_core.lock import FolderLock
    from neuropbr_core.reporting import reporter

    mistakes = (
        (run_folder and model, "give either --run DIR or --model NAME|FILE"),
        (resume and overwrite, "give either --resume or --overwrite"),
        (max_memory and not resolution, "--max-memory limits the tiles of --resolution N; give both"),
        (ensemble and resolution, "give either --ensemble or --resolution N: tiles are predicted from one side"),
        (ensemble and tileable, "give either --ensemble or --tileable: the confidence map is not cut with the others"),
        (len(captures) > 1 and output is None, "of several folders, name the folder of the batch with --output DIR"),
    )
    for is_made, message in mistakes:
        if is_made:
            raise click.UsageError(message)
    folders = []
    for folder in captures:
        folders.append(Path(folder))
    place = Path(output or f"{folders[0].resolve().name}_maps")
    check_batch_place(place, folders, overwrite=overwrite, resume=resume or watching)
    waiting = find_captures(folders)
    if not waiting and not watching:
        raise click.UsageError(f"{', '.join(captures)}: no folder with photos is there")
    limit = None
    if max_memory:
        limit = int(max_memory * 2**30)
    packages = tuple(chosen_targets(targets, options))
    with doing("loading the model"):
        loaded = load_chosen(run_folder, checkpoint, model, exporter, device, trust=trust)
    if resolution and not isinstance(loaded, LoadedGenerator):
        raise click.UsageError("an exported file has one size; --resolution needs --run, or a model that ships")
    effort = Effort(ensemble, resolution, limit, chosen_steps(refine_steps, loaded, resolution, limit))
    order = Order(effort, size, tileable, packages, strict)
    work = Batch(loaded, place, order, overwrite)
    # After the lock: two batches would replace each other's tables.
    with FolderLock(place, "writes this batch; wait for it or stop it, or choose another --output"):
        if not overwrite:
            work.read()
            work.forget_failed(waiting)
        if watching:
            reporter().line(f"watching {', '.join(captures)}; Ctrl-C ends")
            with suppress(KeyboardInterrupt):
                watch(work, folders, _tell)
        else:
            _predict_all(work, waiting)
        work.write_page()
    rows = list(work.rows.values())
    failed = sum(row.state == "failed" for row in rows)
    if as_json:
        result_json(msgspec.to_builtins(rows))
    else:
        result(f"{counted(len(rows), 'capture')}, {failed} failed: {place / TABLE}, {place / PAGE}")
    context.exit(int(failed > 0 and not watching))


def _predict_all(work: "Batch", captures: "Sequence[Capture]") -> None:
    """Predict captures that are not done yet, with a bar."""
    from neuropbr_core.reporting import reporter

    bar = reporter().bar(len(captures), "captures")
    try:
        for capture in captures:
            bar.note(capture.name)
            if work.is_done(capture):
                reporter().line(f"{capture.name}: is done")
            else:
                _tell(work.predict(capture))
            bar.advance()
    finally:
        bar.close()


def _tell(row: "Row") -> None:
    """Report one capture on standard error, where the table at the end does not mix with it."""
    from neuropbr_core.reporting import reporter

    if row.state == "failed":
        reporter().warning(f"{row.name}: failed: {row.error}")
        return
    reporter().line(f"{row.name}: {row.photos} photos, {row.size} pixels, {row.seconds:.1f} s")
    for doubt in row.doubts:
        reporter().warning(f"{row.name}: {doubt}")
