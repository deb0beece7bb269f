"""What each choice of a recipe brings: the same short run again and again, each time with one thing changed.

    python benchmarks/ablation.py --recipe benchmarks/thirty_materials.yaml --materials DIR --output runs/ablation

Every row trains for the same number of steps on the same captures with the same seed, and is scored on the same
held-back materials. A row is a run of its own below `--output`: one that is done is not run again, an interrupted
one goes on. `--rows` takes some rows only, so that two processes can share the work. Prints a table of ratios (in
Markdown) of all rows that are done, and with `--json` writes it too. Numbers of one seed: small differences mean
nothing.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from neuropbr_core.data.opening import open_dataset
from neuropbr_core.evaluation.baselines import ALWAYS_DIELECTRIC, BEST_CONSTANT, FLAT_NORMAL, MEDIAN_ALIGNED
from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord, load_record
from neuropbr_core.files import write_text
from neuropbr_core.recipe import load_recipe
from neuropbr_core.runs.folder import SUMMARY
from neuropbr_core.runs.run import run

ROWS: dict[str, tuple[str, ...]] = {
    "the recipe": (),
    "without directions (nor what needs them)": (
        "model.view_conditioning=none",
        "model.reflectance_profile=false",
    ),
    "without the reflectance profile": ("model.reflectance_profile=false",),
    "global path in place of the profile": ("model.reflectance_profile=false", "model.decoder.global_path=true"),
    "without ratio images": ("model.ratio_images=false",),
    "skips by mean": ("model.skip_merge=mean",),
    "albedo direct": ("model.albedo=direct",),
    "without procedural materials": ('data.oversample={"*": 1, "proc_*": 0}',),
    "procedural materials alone": ('data.oversample={"*": 0, "proc_*": 1}',),
    "without rendering": ("losses.rendering=null",),
    "without ssim": ("losses.ssim=null",),
    "without normal": ("losses.normal=null",),
    "metallic by l1": ("losses.bce=null", "losses.l1.metallic=1"),
}
"""Overrides of the recipe by name of the row."""

COLUMNS = ("albedo, dB", "roughness", "metallic", "AUC", "normal", "bumpier half")
"""Albedo's PSNR above that of the median of the views; roughness and metallic MAE over that of the best constant and of
zero; area under the ROC curve of metallic; angle of normals over that of flat ones, also over the bumpier half."""


@dataclass(frozen=True)
class Plan:
    """What all rows share.

    Attributes:
        recipe: Recipe file or `neuropbr:` name.
        overrides: Changes to it.
        steps: Training steps of a row, rounded to whole epochs.
        out: Folder of the runs.
    """

    recipe: str
    overrides: tuple[str, ...]
    steps: int
    out: Path


def folder_name(row: str) -> str:
    """The run's name of a row."""
    return "".join(letter if letter.isalnum() else "-" for letter in row)


def is_done(plan: Plan, row: str) -> bool:
    """Whether a row's run has finished."""
    return (plan.out / folder_name(row) / SUMMARY).is_file()


def train_row(plan: Plan, row: str) -> None:
    """Run a row, or finish it."""
    shared = [*plan.overrides, f"training.runs_dir={plan.out}", "export={torchscript: null}"]
    recipe = load_recipe(plan.recipe, [*shared, *ROWS[row]])
    per_epoch = -(-len(open_dataset(recipe).train) // recipe.training.samples)
    epochs = max(1, round(plan.steps / per_epoch))
    length = [
        f"training.epochs={epochs}",
        f"training.validate_every_n_epochs={epochs}",
        f"optimizer.warmup_epochs={min(epochs, recipe.optimizer.warmup_epochs * epochs / recipe.training.epochs)}",
    ]
    begun = any((plan.out / folder_name(row) / "checkpoints").glob("*/manifest.json"))
    recipe = load_recipe(plan.recipe, [*shared, *ROWS[row], *length])
    run(recipe, run_name=folder_name(row), resume=begun, overwrite=not begun)


def ratios(record: EvaluationRecord) -> tuple[float, ...]:
    """The table's columns of one run."""
    albedo, roughness, metallic, normal = (
        record.scores[name] for name in ("albedo", "roughness", "metallic", "normal")
    )
    return (
        albedo[MODEL]["psnr"] - albedo[MEDIAN_ALIGNED]["psnr"],
        roughness[MODEL]["mae"] / roughness[BEST_CONSTANT]["mae"],
        metallic[MODEL]["mae"] / metallic[ALWAYS_DIELECTRIC]["mae"],
        metallic[MODEL]["auc"],
        normal[MODEL]["angle"] / normal[FLAT_NORMAL]["angle"],
        record.bumpier[MODEL]["angle"] / record.bumpier[FLAT_NORMAL]["angle"],
    )


def results(plan: Plan) -> dict[str, tuple[float, ...]]:
    """Columns of every row that is done."""
    done = [row for row in ROWS if is_done(plan, row)]
    return {row: ratios(load_record(plan.out / folder_name(row) / SUMMARY)) for row in done}


def table(found: dict[str, tuple[float, ...]]) -> str:
    """The table in Markdown."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for row, (albedo, *rest) in found.items():
        lines.append(f"| {row} | {albedo:+.2f} | " + " | ".join(f"{value:.2f}" for value in rest) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--recipe", default="neuropbr:teacher_best", help="recipe to take apart")
    parser.add_argument("--materials", help="folder of materials to render captures of; default: the recipe's")
    parser.add_argument("--data", help="folder of the captures; default: the recipe's")
    parser.add_argument("--output", dest="out", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    parser.add_argument("--steps", type=int, default=900, help="training steps of a row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", help="names of rows, separated by commas; default: all")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    places = {"data.root": args.data, "data.synthesize.materials": args.materials}
    overrides = [*(f"{key}={value}" for key, value in places.items() if value), *args.overrides]
    plan = Plan(args.recipe, tuple(overrides), args.steps, args.out)
    chosen = args.rows.split(",") if args.rows else list(ROWS)
    if unknown := [row for row in chosen if row not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are: {', '.join(ROWS)}")
    for row in chosen:
        if not is_done(plan, row):
            train_row(plan, row)
    found = results(plan)
    print(table(found))
    if args.json:
        measured = {row: dict(zip(COLUMNS, values, strict=True)) for row, values in found.items()}
        write_text(args.json, json.dumps({"steps": plan.steps, "cores": os.cpu_count(), "rows": measured}, indent=2))


if __name__ == "__main__":
    main()
