"""Stages in order: what is done is skipped, what fails leaves no lock, and who may not write is told before it does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import small_run

from neuropbr_core.data.opening import list_samples
from neuropbr_core.errors import DataError, DeviceError, RecipeError, RunError
from neuropbr_core.lock import LOCK
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.folder import MARKER, RunFolder, check_start
from neuropbr_core.runs.run import plan, run_path
from neuropbr_core.runs.stage import Context, Plan, Stage, carry_out


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
