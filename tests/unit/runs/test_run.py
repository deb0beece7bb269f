"""Stages in order: what is done is skipped, what fails leaves no lock, and who may not write is told before it does."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import small_run

from neuropbr_core.data.opening import list_samples
from neuropbr_core.data.splits import Split
from neuropbr_core.errors import DataError, DeviceError, RecipeError, RunError
from neuropbr_core.inference.run_samples import read_sample
from neuropbr_core.lock import LOCK
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe, Teacher
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.evaluate import recorded_samples
from neuropbr_core.runs.folder import MARKER, RunFolder, check_start
from neuropbr_core.runs.run import plan, run_path
from neuropbr_core.runs.stage import Context, Plan, Stage, carry_out
from neuropbr_core.runs.teacher import open_data
from neuropbr_core.runs.train import RenderCaptures, Train
from neuropbr_core.training.provenance import recorded_split, write_provenance


class FakeStage(Stage):
    """Writes a file into the run; fails first where it is told to."""

    def __init__(self, name: str, place: Path, failure: BaseException | None = None, *, alone: bool = False) -> None:
        self.name = name  # type: ignore[misc]
        self.alone = alone  # type: ignore[misc]
        self.file = place / name
        self.failure = failure

    def done(self) -> bool:
        return self.file.exists()

    def describe(self) -> list[str]:
        return [f"{self.file.name} is {'there' if self.done() else 'made'}"]

    def execute(self, context: Context) -> None:
        assert (self.file.parent / LOCK).exists()
        assert context.require_lock is not None
        context.require_lock()
        if self.failure is not None:
            raise self.failure
        self.file.touch()


@pytest.fixture
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.blank_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def recipe(dataset: Path) -> Recipe:
    return small_run.small_recipe("training.device=cpu", f"data.root={dataset}")


MakePlan = Callable[..., Plan]


@pytest.fixture
def make_plan(recipe: Recipe, tmp_path: Path) -> MakePlan:
    folder = RunFolder(tmp_path / "run")

    def make(*stages: FakeStage, resume: bool = False, overwrite: bool = False) -> Plan:
        return Plan(recipe, folder, resume, overwrite, stages)

    return make


def told(planned: Plan) -> list[str]:
    with reporting_to(RecordingReporter()) as reporter:
        carry_out(planned)
    return reporter.lines


def test_stages_are_executed_in_order_and_skipped_when_done(make_plan: MakePlan, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first, second = FakeStage("one", folder), FakeStage("two", folder, alone=True)
    assert make_plan(first, second).lines() == ["one       one is made", "two       two is made"]
    assert told(make_plan(first, second)) == [f"Run finished: {folder}"]
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]
    (folder / "recipe.yaml").touch()
    (folder / MARKER).touch()
    second.file.unlink()
    assert told(make_plan(first, second, resume=True)) == [
        "Skipping one: one is there",
        f"Run finished: {folder}",
    ]
    assert told(make_plan(first, second, resume=True)) == [
        "one       one is there",
        "two       two is there",
        f"Nothing is left to do: {folder}",
    ]


@pytest.mark.parametrize("failure", [RunError("no"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_stage_that_fails_leaves_no_lock_and_no_empty_folder(
    make_plan: MakePlan, tmp_path: Path, failure: BaseException
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(type(failure)):
        carry_out(make_plan(FakeStage("one", folder, failure), FakeStage("two", folder)))
    assert not folder.exists()
    with pytest.raises(type(failure)):
        carry_out(make_plan(FakeStage("one", folder), FakeStage("two", folder, failure)))
    assert [path.name for path in folder.iterdir()] == ["one"]


def test_a_plan_has_the_stages_of_its_recipe_and_changes_nothing(recipe: Recipe, dataset: Path, tmp_path: Path) -> None:
    planned = plan(recipe, tmp_path / "run")
    assert [stage.name for stage in planned.stages] == ["data", "train", "evaluate", "export", "report"]
    assert "data      2 samples to train on, 1 held back" in planned.lines()
    without = plan(small_run.small_recipe("export.torchscript=null", f"data.root={dataset}"), tmp_path / "run")
    assert [stage.name for stage in without.stages] == ["data", "train", "evaluate", "report"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("data.root=nowhere", DataError, "nowhere/input/clean: no samples found; the folder nowhere/input does not"),
        ("data.render_curriculum=dirty", DataError, "clean has some: set data.render_curriculum to clean or mixed"),
        ("data.views=4", DataError, r"3\.png"),
        ("data.val_materials=[oak]", DataError, "oak"),
        ("data.val_materials=[material_0, material_1, material_2]", DataError, "leave at least one to train on"),
        ("training.device=mps", DeviceError, "device mps was asked for"),
        ("data.image_size=30", RecipeError, "output_size"),
    ],
)
def test_a_plan_looks_at_data_sizes_and_device(
    dataset: Path, tmp_path: Path, override: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan(small_run.small_recipe("training.device=cpu", f"data.root={dataset}", override), tmp_path / "runs" / "run")
    assert list(tmp_path.iterdir()) == []


def test_captures_that_are_not_rendered_yet_are_counted_from_their_settings(tmp_path: Path) -> None:
    def lines(*overrides: str) -> list[str]:
        synthesis = "data.synthesize={materials: neuropbr:examples/materials, samples: 16, size: 32}"
        recipe = small_run.small_recipe(
            "training.device=cpu", f"data.root={tmp_path / 'data'}", synthesis, "data.val_ratio=0.25", *overrides
        )
        return plan(recipe, tmp_path / "run").lines()

    assert "data      12 samples to train on, 4 held back" in lines()
    assert "data      12 samples to train on, 4 held back" in lines(
        "data.synthesize.dirty_fraction=1", "data.render_curriculum=auto"
    )
    assert "data      24 samples to train on, 8 held back" in lines(
        "data.synthesize.dirty_fraction=1", "data.render_curriculum=mixed"
    )
    with pytest.raises(DataError, match=r"renders no dirty captures, .* dirty reads; set data.synthesize.dirty_fracti"):
        lines("data.render_curriculum=dirty")
    assert "data      data.render_curriculum: auto reads the clean renders, because there are no dirty ones" in lines(
        "data.render_curriculum=auto"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_automatic_curriculum_reads_dirty_renders_where_there_are_any(tmp_path: Path) -> None:
    for dirty in (False, True):
        root = small_run.blank_dataset(tmp_path / f"{dirty}", dirty=dirty)
        overrides = ("training.device=cpu", f"data.root={root}", "data.render_curriculum=auto")
        lines = plan(small_run.small_recipe(*overrides), tmp_path / "run").lines()
        assert "data      2 samples to train on, 1 held back" in lines
        assert any("because there are no dirty ones" in line for line in lines) is not dirty
        recipe = small_run.small_recipe(*overrides)
        assert {sample.condition for sample in list_samples(recipe).samples} == {"dirty" if dirty else "clean"}


def test_a_plan_for_a_taken_folder_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="no run to resume"):
        plan(recipe, folder, resume=True)
    folder.mkdir()
    (folder / LOCK).touch()  # of a process that was killed before it wrote anything
    plan(recipe, folder)
    (folder / "photo.jpg").touch()
    with pytest.raises(RunError, match=r"is no run \(it has no .*\), so --overwrite will not remove it"):
        plan(recipe, folder, overwrite=True)
    # A recipe of the user's beside photos is no run, neither to remove nor to go on with.
    (folder / "recipe.yaml").touch()
    with pytest.raises(RunError, match=r"no run \(it has no \.neuropbr-run\), so --overwrite will not remove it"):
        plan(recipe, folder, overwrite=True)
    with pytest.raises(RunError, match="no run to resume"):
        plan(recipe, folder, resume=True)
    with pytest.raises(RunError, match="is no run"):
        RunFolder(folder).clear()
    assert (folder / "photo.jpg").exists()
    (folder / MARKER).touch()
    with pytest.raises(RunError, match="a run of that name already"):
        plan(recipe, folder)
    with pytest.raises(RunError, match="resumed or overwritten, not both"):
        plan(recipe, folder, resume=True, overwrite=True)


def test_a_run_whose_removal_was_cut_short_can_still_be_overwritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for name in (LOCK, MARKER, "recipe.yaml", "metrics.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    removed: list[str] = []
    unlink = Path.unlink

    def killed(self: Path, missing_ok: bool = False) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(self.name)
        unlink(self, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.clear()
    assert removed == ["metrics.jsonl"]
    assert folder.is_run
    folder.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, MARKER]
    assert folder.is_free


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_way_of_a_run_is_named(tmp_path: Path, overwrite: bool) -> None:
    file = tmp_path / "taken"
    file.write_text("mine")
    for place in (file, file / "run"):
        with pytest.raises(RunError, match=r"cannot hold a run, because .*taken is a file"):
            check_start(RunFolder(place), resume=False, overwrite=overwrite)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "..", ".hidden", "", "a\nb", "a\\b", "-x"])
def test_a_run_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(RunError, match=r"is not the plain name of a folder; allowed are letters"):
        run_path(load_recipe("neuropbr:quickstart"), name)


@pytest.mark.parametrize("name", ["mine", "2026-11-28 bricks", "v1.2_a+b", "größer"])
def test_plain_run_names_are_taken(name: str) -> None:
    assert run_path(load_recipe("neuropbr:quickstart"), name) == Path("runs") / name


def interrupted_run(folder: Path, recipe: Recipe, split: Split) -> RunFolder:
    """A run that stopped after its first epoch, with a record of its split."""
    small_run.save_run(folder, recipe)
    run = RunFolder(folder)
    write_provenance(folder, recipe, {"split": asdict(split)})
    return run


def test_a_run_that_goes_on_keeps_its_split(dataset: Path, tmp_path: Path) -> None:
    overrides = ("training.device=cpu", f"data.root={dataset}", "training.epochs=2")
    train, held_back = ("material_0", "material_2"), ("material_1",)
    recipe = small_run.small_recipe(*overrides, "data.val_ratio=0.3")
    folder = interrupted_run(tmp_path / "run", recipe, Split(train, held_back, 0, 0.3))
    # Two of three materials, whatever the seed.
    changed = small_run.small_recipe(*overrides, "data.val_ratio=0.7", "training.seed=1")
    planned = plan(changed, folder.path, resume=True)
    (data,) = [stage for stage in planned.stages if isinstance(stage, RenderCaptures)]
    assert data.survey is not None
    assert (data.survey.split.train, data.survey.split.val) == (train, held_back)
    assert any("split: stays as it was when the run stopped" in line for line in planned.lines())
    opened = open_data(changed, None, Context(changed.training), folder)
    assert (opened.split["train"], opened.split["val"]) == (train, held_back)
    contradicting = small_run.small_recipe(*overrides, "data.val_materials=[material_0]")
    with pytest.raises(DataError, match="contradicts the run's split: it holds back 'material_0', which the run"):
        plan(contradicting, folder.path, resume=True)
    # Without its record, the run goes on with the recipe's split.
    folder.provenance.unlink()
    plan(contradicting, folder.path, resume=True)


def test_the_record_of_a_run_keeps_materials_that_the_dataset_has_lost(recipe: Recipe, tmp_path: Path) -> None:
    folder = interrupted_run(tmp_path / "run", recipe, Split(("gone", "here"), ("held",), 0, None))
    train = Train(recipe, folder, resume=True, overwrite=False)
    dataset = Mock(fingerprint="digest", split=asdict(Split(("here",), ("held",), 0, None)), drawn=())
    train._write_records(dataset, None, None)
    assert recorded_split(folder.provenance) == {"train": ["gone", "here"], "val": ["held"]}


def test_samples_are_scored_by_the_recorded_split_whatever_the_recipe_draws(dataset: Path, tmp_path: Path) -> None:
    names = ("material_0", "material_1", "material_2")
    recipe = small_run.small_recipe(
        f"data.root={dataset}", "data.val_ratio=0.5", "data.groups={pair: [material_0, material_1]}"
    )
    none_held = interrupted_run(tmp_path / "none", recipe, Split(names, (), 0, 0.0))
    assert list_samples(recorded_samples(none_held, recipe)).split.val == ()
    # The run's split has parted a group that the recipe names since.
    parted = interrupted_run(tmp_path / "parted", recipe, Split(names[1:], names[:1], 0, None))
    assert list_samples(recorded_samples(parted, recipe)).split.val == names[:1]
    for folder, held_back in ((none_held, False), (parted, True)):
        assert read_sample(folder.path, 0).held_back is held_back


def test_an_optimiser_whose_state_means_something_else_is_refused(dataset: Path, tmp_path: Path) -> None:
    def make(name: str) -> Recipe:
        return small_run.small_recipe("training.device=cpu", f"data.root={dataset}", f"optimizer.name={name}")

    for before, now, refused in (("adamw", "sgd", True), ("sgd", "adam", True), ("adam", "adamw", False)):
        folder = small_run.save_run(tmp_path / before, make(before))
        if not refused:
            plan(make(now), folder, resume=True)
            continue
        with pytest.raises(RunError, match=f"optimizer.name is {now}, and the run was started with {before}, whose"):
            plan(make(now), folder, resume=True)


@pytest.mark.parametrize(
    ("key", "inside"),
    [
        ("training.init_from", ""),
        ("training.init_from", "/checkpoints/epoch_0001/model.safetensors"),
        ("data.root", "/captures"),
        ("teacher.run", ""),
        ("teacher.checkpoint", "/checkpoints/epoch_0001"),
        ("teacher.shards", "/shards-32"),
    ],
)
def test_a_run_that_the_new_one_needs_is_not_overwritten(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, inside: str
) -> None:
    recipe = small_run.small_recipe("training.device=cpu", f"data.root={dataset}")
    folder = small_run.save_run(tmp_path / "runs" / "x", recipe)
    other = small_run.save_run(tmp_path / "runs" / "other", recipe)
    monkeypatch.chdir(tmp_path)
    place = f"runs/other/../x{inside}"
    if key.startswith("teacher."):
        section = {"run": None, "checkpoint": None, "shards": None}
        if key == "teacher.shards":
            section["run"] = str(other)
        recipe = replace(recipe, teacher=Teacher(**{**section, key.removeprefix("teacher."): place}))
    elif key == "data.root":
        recipe = replace(recipe, data=replace(recipe.data, root=place))
    else:
        recipe = replace(recipe, training=replace(recipe.training, init_from=place))
    with pytest.raises(RunError, match=rf"x: --overwrite removes all of this run, and the .*{place} \({key}\), which"):
        plan(recipe, folder, overwrite=True)


def test_a_student_does_not_overwrite_the_run_that_its_teachers_recipe_makes(tmp_path: Path) -> None:
    recipe = small_run.small_recipe(f"training.runs_dir={tmp_path}")
    folder = small_run.save_run(tmp_path / "quickstart", recipe)
    student = replace(recipe, teacher=Teacher(recipe="neuropbr:quickstart"))
    with pytest.raises(RunError, match=r"needs .*/quickstart \(teacher\.recipe\)"):
        plan(student, folder, overwrite=True)
