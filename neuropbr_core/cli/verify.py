"""`neuropbr verify`: does an exported file give the maps of its model?"""

import json
from pathlib import Path

import click

from neuropbr_core.cli.output import aligned, command, result
from neuropbr_core.reporting import reporter


@command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--run", "run_folder", required=True, metavar="DIR", help="The run it came from, or a checkpoint's folder."
)
@click.option("--checkpoint", metavar="NAME", help="Of the run; default: the one that the file was made from.")
@click.option("--input", "input_folder", metavar="DIR", help="Views to compare on; default: a rendered capture.")
@click.option("--cameras", metavar="FILE", help="Cameras of these views, as for `neuropbr infer`.")
@click.option("--exporter", metavar="NAME", help="The file's exporter, where its record and its suffix do not tell.")
@click.option("--trust", is_flag=True, help="Run FILE whatever is in it; see docs/security.md.")
@click.option("--trace", is_flag=True, help="Compare operator by operator, where the exporter can.")
@click.option("--report", is_flag=True, help="Say what is in the file, where the exporter can.")
@click.pass_context
def verify(  # noqa: PLR0913 - one parameter an option
    context: click.Context,
    *,
    file: Path,
    run_folder: str,
    checkpoint: str | None,
    input_folder: str | None,
    cameras: str | None,
    exporter: str | None,
    trust: bool,
    trace: bool,
    report: bool,
) -> None:
    """Compare an exported FILE with its model, map by map.

    A file that was exported with a change (another resolution, bypassed super-resolution, nominal geometry) is compared
    with the model as changed. The result is written to FILE.verify.json too; exits with 1 when a map misses the pass
    mark of the file's precision.
    """
    from neuropbr_core.exporting import PASS_MARKS, open_export, verify_program, write_record
    from neuropbr_core.inference.verification import original, real_views

    opened = open_export(file, exporter, trust=trust)
    subject = original(opened, run_folder, checkpoint)
    views = real_views(input_folder, cameras, subject.signature).prepare(subject.signature)
    verification = verify_program(subject, opened.exporter, opened.program, views)
    result(f"{file} ({opened.use}) against {verification.reference}, on {verification.views}\n")
    rows = [("MAP", "LARGEST", "MEAN", "PSNR (dB)", "WHERE")]
    for name, comparison in verification.comparisons.items():
        largest = f"{comparison.max_difference:.3g}"
        mean = f"{comparison.mean_difference:.3g}"
        rows.append((name, largest, mean, f"{comparison.psnr:.1f}", comparison.note or "-"))
    result(aligned(rows))
    mark = PASS_MARKS[verification.precision]
    limit = ""
    if mark.difference < 1:  # some precisions have no limit, which is infinity
        limit = f", largest difference at most {mark.difference:.3g}"
    word = "FAILED"
    if verification.passed:
        word = "passed"
    result(f"\n{word}: {verification.precision} needs at least {mark.psnr:.0f} dB{limit}")
    for reason in verification.reasons():
        reporter().line(f"failed: {reason}")
    # Kept for the record, so that a file's contents are described beside it.
    contents = {}
    if report:
        contents = opened.exporter.report(file)
        if contents:
            result(f"\n{json.dumps(contents, indent=2, ensure_ascii=False)}")
        else:
            result("\nno report for this format")
    if trace:
        for line in opened.exporter.trace(subject.model, views.inputs, file):
            result(line)
    result(f"\nwrote {write_record(file, opened.record, verification, report=contents)}")
    context.exit(0 if verification.passed else 1)
