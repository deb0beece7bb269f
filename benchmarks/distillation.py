"""A student with and without its teacher, trained side by side for equally many steps.

    python benchmarks/distillation.py --runs-dir runs/distillation --seeds 42 --json distillation.json

For each seed the recipe is run as it is and without its teacher: same network, data, split, order of samples and steps;
only what the losses compare with differs. Prints the errors on the held-back materials and their ratios: below 1, the
distilled student is better than the one that learnt alone; at most 1.15, its re-rendering error is within 15 % of its
teacher's. What is finished is kept and what was interrupted is continued, so the command can be repeated.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord
from neuropbr_core.inference.scoring import evaluate
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.run import run
from neuropbr_core.runs.teacher import plan_teacher
from neuropbr_core.training.provenance import recorded_split

ERRORS = (
    ("albedo", "mae"),
    ("roughness", "mae"),
    ("metallic", "mae"),
    ("normal", "angle"),
    ("rerender", "rmse"),
)
"""Map and metric of each row; less is better."""

Errors = dict[str, float]


def trained(recipe: Recipe, name: str) -> Path:
    """The folder of a run: finished before, continued, or made now."""
    folder = RunFolder(Path(recipe.training.runs_dir) / name)
    if not folder.is_trained(recipe.training.epochs):
        started = bool(folder.checkpoints.names())
        run(recipe, run_name=name, resume=started, overwrite=not started and folder.path.exists())
    return folder.path


def errors(folder: Path) -> Errors:
    """Errors of a run's best checkpoint on what it held back."""
    record: EvaluationRecord = evaluate(folder, worst=0).record
    return {f"{name} {metric}": record.scores[name][MODEL][metric] for name, metric in ERRORS}


def alone(recipe: str, overrides: Sequence[str], held_back: Sequence[str]) -> Recipe:
    """The recipe without teacher and without the losses that need one, with the same split."""
    full = load_recipe(recipe, overrides)
    needing = [name for name, part in full.losses.items() if part.needs.teacher]
    without = ["teacher=null", *(f"losses.{name}=null" for name in needing)]
    return load_recipe(recipe, [*overrides, *without, f"data.val_materials={json.dumps(list(held_back))}"])


def mean(rows: Sequence[Errors]) -> Errors:
    """Means over seeds."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def measure(recipe: str, overrides: Sequence[str], seeds: Sequence[int]) -> dict[str, Errors]:
    """Errors of teacher, distilled student and student alone, means over seeds."""
    taught_errors, alone_errors = [], []
    for seed in seeds:
        settings = [*overrides, f"training.seed={seed}"]
        taught = load_recipe(recipe, settings)
        folder = trained(taught, f"taught-{seed}")
        taught_errors.append(errors(folder))
        held_back = recorded_split(RunFolder(folder).provenance)["val"]
        alone_errors.append(errors(trained(alone(recipe, settings, held_back), f"alone-{seed}")))
    plan = plan_teacher(load_recipe(recipe, overrides))
    teacher = {} if plan is None else errors(plan.place)
    return {"teacher": teacher, "alone": mean(alone_errors), "distilled": mean(taught_errors)}


def table(found: dict[str, Errors]) -> str:
    """The errors and their ratios, for people."""
    head = "| error | teacher | alone | distilled | distilled / alone | distilled / teacher |\n|" + " --- |" * 6
    rows = [
        f"| {name} | {found['teacher'][name]:.4f} | {found['alone'][name]:.4f} | {value:.4f} "
        f"| {value / found['alone'][name]:.3f} | {value / found['teacher'][name]:.3f} |"
        for name, value in found["distilled"].items()
    ]
    return "\n".join([head, *rows])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="neuropbr:quickstart_student", help="a recipe with a teacher")
    parser.add_argument("--runs-dir", required=True, help="where the runs go, the teacher's among them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--json", type=Path, help="write the errors there")
    given = parser.parse_args()
    settings = [f"training.runs_dir={given.runs_dir}", *given.set]
    recipe = load_recipe(given.recipe, settings)
    if recipe.teacher is None:
        parser.error(f"{given.recipe} has no teacher")
    settings += [f"export.{name}=null" for name in recipe.export]
    found = measure(given.recipe, settings, given.seeds)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps({"seeds": given.seeds, "errors": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
