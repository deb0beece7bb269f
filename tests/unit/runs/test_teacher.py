"""How a student's teacher is had: trained before, interrupted, or still to be trained."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import small_run

from neuropbr_core.data.splits import Split
from neuropbr_core.errors import CheckpointError, DataError, RunError
from neuropbr_core.model import ModelSpec, weights_digest
from neuropbr_core.model.weights import WEIGHTS
from neuropbr_core.recipe.sections import Recipe, Teacher
from neuropbr_core.runs.run import plan
from neuropbr_core.runs.teacher import TeacherPlan, TrainTeacher, plan_teacher
from neuropbr_core.training import teachers
from neuropbr_core.training.checkpoints.store import BEST, LATEST, CheckpointStore
from neuropbr_core.training.provenance import write_provenance
from neuropbr_core.training.teachers import TrainedTeacher

TEACHER = ("training.epochs=1", "training.device=cpu")


def make_student(tmp_path: Path, *overrides: str, mode: str = "online") -> Recipe:
    """A small student of the quickstart, which `TEACHER` makes small too."""
    if not (tmp_path / "data").exists():
        small_run.blank_dataset(tmp_path / "data")
    recipe = small_run.small_recipe(
        f"training.runs_dir={tmp_path / 'runs'}", "training.device=cpu", f"data.root={tmp_path / 'data'}", *overrides
    )
    section = Teacher(recipe="neuropbr:quickstart", overrides=(*small_run.SMALL, *TEACHER), mode=mode)  # type: ignore[arg-type]
    return replace(recipe, teacher=section)


def planned(recipe: Recipe) -> TeacherPlan:
    teacher = plan_teacher(recipe)
    assert teacher is not None
    return teacher


def test_a_recipe_without_a_teacher_has_no_plan_for_one() -> None:
    assert plan_teacher(small_run.small_recipe()) is None


def test_the_state_follows_the_folder(tmp_path: Path) -> None:
    recipe = make_student(tmp_path)
    teacher = planned(recipe)
    assert teacher.recipe is not None
    assert (teacher.place, teacher.state) == (tmp_path / "runs" / "quickstart", "missing")
    assert teacher.spec() == ModelSpec.from_recipe(teacher.recipe)
    assert teacher.notes() == []
    small_run.save_run(teacher.place, teacher.recipe)
    assert teacher.state == "there"
    store = CheckpointStore.of_run(teacher.place)
    store.point(LATEST, "epoch_0000_step_000005")
    assert teacher.state == "interrupted"
    store.point(LATEST, "epoch_0001")
    (teacher.place / "checkpoints" / BEST).unlink()
    assert teacher.state == "interrupted"


def test_a_teachers_weights_are_hashed_once_and_missing_ones_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_run.small_recipe()
    checkpoint = small_run.save_run(tmp_path / "run", recipe) / "checkpoints" / "epoch_0001"
    teacher = TrainedTeacher(checkpoint, tmp_path, ModelSpec.from_recipe(recipe), (), ())
    hashed: list[Path] = []

    def digest(place: Path) -> str:
        hashed.append(place)
        return weights_digest(place)

    monkeypatch.setattr(teachers, "weights_digest", digest)
    assert teacher.record["weights"] == weights_digest(checkpoint)
    assert hashed == [checkpoint]
    (checkpoint / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        teacher.mark  # noqa: B018


def test_a_teacher_of_another_recipe_is_used_with_a_note(tmp_path: Path) -> None:
    teacher = planned(make_student(tmp_path))
    assert teacher.recipe is not None
    small_run.save_run(teacher.place, replace_rate(teacher.recipe))
    (note,) = teacher.notes()
    assert "made with another recipe (1 values, such as optimizer.lr: 0.5 -> " in note


def replace_rate(recipe: Recipe) -> Recipe:
    """The recipe with another learning rate, as its run would record it."""
    tree = {**recipe.tree, "optimizer": {**recipe.tree["optimizer"], "lr": 0.5}}
    return replace(recipe, tree=tree)


def test_the_stages_of_a_student_begin_with_its_teachers(tmp_path: Path) -> None:
    online = plan(make_student(tmp_path), tmp_path / "runs" / "student")
    after = ["train", "evaluate", "export", "report"]
    assert [stage.name for stage in online.stages] == ["data", "teacher", *after]
    stored = plan(make_student(tmp_path, mode="shards"), tmp_path / "runs" / "student")
    assert [stage.name for stage in stored.stages] == ["data", "teacher", "logits", *after]
    teacher = stored.stages[1]
    assert isinstance(teacher, TrainTeacher)
    assert teacher.plan is not None
    assert [stage.name for stage in teacher.plan.stages] == ["data", *after]
    assert not (tmp_path / "runs").exists()


def test_a_student_without_samples_is_refused_before_its_teacher_trains(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dirty: no samples found; .*clean has some: set data.render_curriculum"):
        plan(make_student(tmp_path, "data.render_curriculum=dirty"), tmp_path / "runs" / "student")
    lines = plan(make_student(tmp_path, "data.render_curriculum=auto"), tmp_path / "runs" / "student").lines()
    assert "data      data.render_curriculum: auto reads the clean renders, because there are no dirty ones" in lines
    assert "data      2 samples to train on, 1 held back" in lines


def test_a_student_whose_split_contradicts_the_teacher_that_will_be_trained_is_refused(tmp_path: Path) -> None:
    recipe = make_student(tmp_path, "data.val_materials=[material_1]")
    assert recipe.teacher is not None
    overrides = (*recipe.teacher.overrides, "data.val_materials=[material_0]")
    with pytest.raises(DataError, match="material_0"):
        plan(replace(recipe, teacher=replace(recipe.teacher, overrides=overrides)), tmp_path / "runs" / "student")
    assert not (tmp_path / "runs").exists()


def test_several_processes_do_not_train_a_teacher_first(tmp_path: Path) -> None:
    for recipe in (
        make_student(tmp_path, "training.devices=2"),
        replace(make_student(tmp_path), teacher=with_processes(make_student(tmp_path))),
    ):
        with pytest.raises(RunError, match=r"the teacher must be trained first, which 2 processes of its student cann"):
            plan(recipe, tmp_path / "runs" / "student")


def with_processes(recipe: Recipe) -> Teacher:
    """Section `teacher` whose own recipe asks for two processes."""
    assert recipe.teacher is not None
    return replace(recipe.teacher, overrides=(*recipe.teacher.overrides, "training.devices=2"))


def test_a_student_goes_on_with_the_teacher_that_it_was_started_with(tmp_path: Path) -> None:
    recipe = make_student(tmp_path, "training.epochs=2")
    teacher = planned(recipe)
    assert teacher.recipe is not None
    small_run.save_run(teacher.place, teacher.recipe)
    trained = Split(("material_0", "material_1"), ("material_2",), 0, None)
    write_provenance(teacher.place, teacher.recipe, {"split": asdict(trained)})
    alone = replace(recipe, teacher=None)
    student = small_run.save_run(tmp_path / "runs" / "student", recipe)
    before = (student / "recipe.yaml").read_bytes()

    def record(**facts: object) -> None:
        write_provenance(student, recipe, {"split": asdict(trained), **facts})

    record(teacher=teacher.open().record)
    plan(recipe, student, resume=True)
    with pytest.raises(RunError, match=r"another teacher \(.*epoch_0001\) than it has now \(none\)"):
        plan(alone, student, resume=True)
    small_run.save_run(teacher.place, teacher.recipe, seed=1)
    with pytest.raises(RunError, match=r"another teacher \(.*epoch_0001\) than it has now \(.*epoch_0001\)"):
        plan(recipe, student, resume=True)
    (teacher.place / "checkpoints" / BEST).unlink()
    with pytest.raises(
        RunError, match=r"than it has now \(.*/quickstart, which is not trained yet\); bring the earlier"
    ):
        plan(recipe, student, resume=True)
    record()
    plan(alone, student, resume=True)
    with pytest.raises(RunError, match=r"another teacher \(none\) than it has now"):
        plan(recipe, student, resume=True)
    # Without a record, nobody knows.
    (student / "provenance.json").unlink()
    plan(recipe, student, resume=True)
    assert (student / "recipe.yaml").read_bytes() == before
