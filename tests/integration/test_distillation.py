"""Students and their teachers: what is made first, shards and live teachers, splits, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_run
import torch
from torch import nn

from neuropbr_core.data.batches.batch import collate
from neuropbr_core.data.batches.prepare import prepare
from neuropbr_core.data.batches.teacher_logits import read_logits
from neuropbr_core.data.opening import OpenedDataset, open_dataset
from neuropbr_core.errors import CheckpointError, DataError, ModelError, NeuroPBRError, RecipeError, RunError
from neuropbr_core.maps import MAPS
from neuropbr_core.model import load_model, save_model
from neuropbr_core.recipe import load_recipe, resolve_recipe
from neuropbr_core.recipe.sections import Recipe, Teacher
from neuropbr_core.reporting import RecordingReporter, reporting_to
from neuropbr_core.runs.folder import RunFolder
from neuropbr_core.runs.run import plan, run
from neuropbr_core.runs.stage import Context
from neuropbr_core.runs.teacher import PredictLogits, TeacherPlan, attach_logits, open_as_shown, open_data, plan_teacher
from neuropbr_core.runs.train import check_same_teacher
from neuropbr_core.shipped import shipped_root
from neuropbr_core.training.distillation import store_logits
from neuropbr_core.training.fabric import make_fabric
from neuropbr_core.training.loop.feed import Feed
from neuropbr_core.training.loop.networks import check_buildable
from neuropbr_core.training.loop.trainer import Trainer
from neuropbr_core.training.teachers import OnlineTeacher, TrainedTeacher, load_online, open_teacher

MakeRecipe = Callable[..., Recipe]

TEACHER = (
    "data.image_size=32",
    "data.output_size=32",
    "data.crop_size=16",
    "data.repeats=1",
    "data.num_workers=0",
    "model.encoder.channels=[8, 8]",
    "model.decoder.channels=[8]",
    "model.decoder.head_channels=8",
    "training.epochs=1",
    "training.batch_size=2",
    "observers={progress: null, grid: null, tensorboard: null}",
    "export.torchscript=null",
)
HELD_BACK = {"acg_Bricks102", "t3_Sci-Fi_Wall_014"}


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def student_of(make: MakeRecipe, *overrides: str) -> Recipe:
    """The quickstart's student, made small, of a small teacher; takes `--set` texts."""
    small = (f"teacher.overrides={json.dumps(TEACHER)}", *TEACHER[-3:], "training.epochs=1")
    return make(*small, *overrides, base="neuropbr:quickstart_student")


@pytest.fixture
def make_student(make_recipe: MakeRecipe) -> MakeRecipe:
    return lambda *overrides: student_of(make_recipe, *overrides)


@pytest.fixture(scope="module")
def first(module_recipe: MakeRecipe) -> tuple[Path, list[str]]:
    """A student's run, made with its teacher and shards by one command, and what that said."""
    with reporting_to(RecordingReporter()) as told:
        folder = run(student_of(module_recipe), run_name="first")
    return folder, told.lines


@pytest.fixture(scope="module")
def teacher(first: tuple[Path, list[str]]) -> Path:
    """The teacher's run; do not write into it."""
    return first[0].parent / "quickstart"


def taught_by(place: Path, recipe: Recipe, kind: str = "run", **changes: Any) -> Recipe:
    """A recipe with a teacher that is there."""
    return replace(recipe, teacher=Teacher(**{kind: str(place)}, **changes))


def student_data(recipe: Recipe, teacher: TrainedTeacher) -> OpenedDataset:
    """The dataset that a student is trained on, as the stages of its run open it."""
    context = Context(recipe.training)
    dataset = open_data(recipe, teacher, context)
    if recipe.teacher is not None and recipe.teacher.mode == "shards":
        place = TeacherPlan(recipe.teacher, teacher.checkpoint, None)
        PredictLogits(place, recipe).execute(context)
    return attach_logits(dataset, recipe, teacher)


def test_one_command_makes_the_teacher_its_shards_and_the_student(first: tuple[Path, list[str]], teacher: Path) -> None:
    folder, said = first
    assert said[0] == f"Teacher: {teacher} is missing and is trained first, from neuropbr:quickstart"
    (predicting,) = (line for line in said if line.startswith("Predicting"))
    assert predicting.startswith("Predicting 6 frames of 32 px with ")
    assert said.index(predicting) > said.index(f"Run finished: {teacher}")
    shards = read_logits(teacher / "shards-32")
    assert len(shards.samples) == 6
    terms = {name for row in rows(folder, "train") for name in row if name.startswith("loss/distillation/")}
    assert terms == {f"loss/distillation/{name}" for name in MAPS}
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert set(record["split"]["val"]) == HELD_BACK
    assert shards.teacher is not None
    assert record["teacher"]["weights"] == shards.teacher.weights


def test_what_is_there_is_not_made_again(
    first: tuple[Path, list[str]], teacher: Path, module_recipe: MakeRecipe
) -> None:
    with reporting_to(RecordingReporter()) as told:
        run(student_of(module_recipe), run_name="second")
    said = told.lines
    assert not any(line.startswith(("Teacher", "Predicting")) for line in said)


def test_shards_are_what_the_teacher_predicts_of_whole_frames(make_student: MakeRecipe, teacher: Path) -> None:
    generator, _ = load_model(teacher / "checkpoints" / "epoch_0001")
    dataset = open_dataset(make_student())
    shards = read_logits(teacher / "shards-32")
    for sample in dataset.train.samples:
        index = dataset.all.samples.index(sample)
        prepared = prepare(collate([dataset[index]]), dataset.all.data, "cpu")
        with torch.no_grad():
            logits = generator(prepared.views, prepared.visible, prepared.directions).logits
        for name, value in logits.items():
            stored = torch.from_numpy(shards.window(sample, name, 0, 0, 32)).float()
            torch.testing.assert_close(stored, value[0], atol=2e-3, rtol=1e-3)


def test_a_sample_that_an_epoch_repeats_is_predicted_once(
    make_student: MakeRecipe, teacher: Path, tmp_path: Path
) -> None:
    often = make_student('data.oversample={"t3_*": 3}')
    fabric = make_fabric(often.training)
    found = open_teacher(teacher / "checkpoints" / "epoch_0001")
    repeated = open_dataset(often).train.samples
    assert len(repeated) > len({sample.id for sample in repeated}) == 6
    done = store_logits(found, open_as_shown(often, found), tmp_path / "s", size=32, fabric=fabric, shard_size=2)
    assert (done.predicted, done.kept) == (6, 0)
    assert len(list((tmp_path / "s").iterdir())) == 3


def test_a_prediction_that_is_not_a_number_is_refused(make_student: MakeRecipe, teacher: Path, tmp_path: Path) -> None:
    generator, spec = load_model(teacher / "checkpoints" / "epoch_0001")
    # Weights that are not finite are refused when they are loaded. These overflow, and infinity less infinity is NaN.
    first, *_, last = [module for module in generator.heads["metallic"].modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        first.weight.fill_(1e38)
        last.weight.fill_(1e38)
        last.weight[:, ::2] = -1e38
    save_model(generator, spec, tmp_path)
    shutil.copy(teacher / "provenance.json", tmp_path)
    recipe = make_student()
    found = open_teacher(tmp_path)
    with pytest.raises(DataError, match=rf"{tmp_path}, clean/sample_\d+: the teacher predicts metallic that is not a "):
        store_logits(found, open_as_shown(recipe, found), tmp_path / "s", size=32, fabric=make_fabric(recipe.training))
    assert not (tmp_path / "s").exists()


def test_stored_and_live_predictions_agree(make_student: MakeRecipe, teacher: Path) -> None:
    """Of whole frames, but for half precision; the live ones in every flip and turn too, but for the network's bias
    towards an orientation, which leaves the untouched visits to compare."""
    recipe = taught_by(teacher, make_student("data.crop_size=null", "data.augment=false"))
    found = open_teacher(teacher / "checkpoints" / "epoch_0001")
    stored = student_data(recipe, found)
    online = OnlineTeacher(*load_model(found.checkpoint), recipe.data, make_fabric(recipe.training))
    for index in range(3):
        batch = collate([stored.train[index]])
        prepared = prepare(batch, recipe.data, "cpu")
        live = online(prepared).teacher
        assert prepared.teacher is not None
        assert live is not None
        for name in MAPS:
            torch.testing.assert_close(live.maps[name], prepared.teacher.maps[name], atol=2e-3, rtol=2e-3)


def test_a_live_teacher_of_another_size_sees_the_same_crop(make_student: MakeRecipe, teacher: Path) -> None:
    """The crop at twice the scale, and logits back at the student's size; invisible pixels stay invisible."""
    recipe = make_student("data.crop_size=null", "data.augment=false")
    generator, spec = load_model(teacher / "checkpoints" / "epoch_0001")
    online = OnlineTeacher(generator, replace(spec, image_size=64), recipe.data, make_fabric(recipe.training))
    seen: dict[str, torch.Tensor] = {}

    def watch(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.update(zip(("views", "visible", "directions", "overview"), inputs, strict=True))

    generator.register_forward_pre_hook(watch)
    prepared = prepare(collate([open_dataset(recipe).all[0]]), recipe.data, "cpu")
    found = online(prepared).teacher
    assert found is not None
    assert seen["views"].shape == (1, 3, 3, 64, 64)
    assert found.maps["albedo"].shape == (1, 3, 32, 32)
    assert set(seen["visible"].unique().tolist()) <= {0.0, 1.0}
    assert not (seen["views"] * (1 - seen["visible"])).any()
    torch.testing.assert_close(seen["directions"].norm(dim=2), torch.ones(1, 3, 64, 64))
    both = torch.nn.functional.avg_pool2d(seen["views"][0], 2)
    inner = prepared.visible[0].amin(0, keepdim=True) > 0
    inner = -torch.nn.functional.max_pool2d(-inner.float(), 5, 1, 2) > 0
    difference = ((both - prepared.views[0]).abs() * inner).sum() / inner.expand_as(both).sum()
    assert difference < 0.1 * prepared.views.std()


def test_a_live_teacher_with_a_reflectance_profile_reads_it_from_the_whole_frame(
    make_student: MakeRecipe, module_recipe: MakeRecipe, teacher: Path, tmp_path: Path
) -> None:
    """Although the student sees crops of 16 of 32 pixels, and has no profile itself."""
    for wanted in (False, True):
        place = tmp_path / f"profile-{wanted}"
        small_run.save_run(place, module_recipe(f"model.reflectance_profile={str(wanted).lower()}"))
        shutil.copy(teacher / "provenance.json", place)
        recipe = taught_by(place, make_student("model.reflectance_profile=false"), mode="online")
        found = open_teacher(place / "checkpoints" / "epoch_0001")
        dataset = student_data(recipe, found)
        prepared = prepare(collate([dataset.train[0]]), recipe.data, "cpu")
        assert prepared.views.shape[-1] == 16
        assert (prepared.overview is not None) == wanted
    generator, spec = load_model(found.checkpoint)
    for parameter in generator.profile.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter, std=0.3)  # untrained, it changes nothing
    online = OnlineTeacher(generator, spec, recipe.data, make_fabric(recipe.training))
    informed, alone = (online(each).teacher for each in (prepared, replace(prepared, overview=None)))
    assert informed is not None
    assert alone is not None
    assert not torch.equal(informed.logits["metallic"], alone.logits["metallic"])  # the maps may be saturated


def test_a_live_teacher_sees_all_views_of_a_student_that_sees_some(make_student: MakeRecipe, teacher: Path) -> None:
    recipe = taught_by(teacher, make_student("data.random_views=true", "training.batch_size=1"), mode="online")
    fabric = make_fabric(recipe.training)
    found = open_teacher(teacher / "checkpoints" / "epoch_0001")
    online = load_online(recipe, found.checkpoint, fabric)
    shown: list[int] = []
    online.generator.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].shape[1]))
    dataset = student_data(recipe, found)
    batches = [each for group in Feed(recipe, dataset.train, fabric, online).groups(0, 0) for each in group.batches]
    assert {each.views.shape[1] for each in batches} > {3}
    assert shown == [3] * len(batches)
    assert all(each.teacher is not None for each in batches)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_live_teacher_teaches_maps_and_features(make_student: MakeRecipe, teacher: Path, weight: float) -> None:
    settings = (f"losses.distillation.feature_weight={weight}", "data.jitter.exposure=0.5", "teacher.mode=online")
    recipe = taught_by(teacher, make_student(*settings), mode="online")
    folder = run(recipe, run_name="live")
    terms = {name for row in rows(folder, "train") for name in row if "/feature_" in name}
    wanted = {"loss/distillation/feature_latent", "loss/distillation/feature_decoder0"}
    assert terms == (wanted if weight else set())
    if weight:
        longer = make_student(*settings, "training.epochs=2")
        run(taught_by(teacher, longer, mode="online"), run_name="live", resume=True)
        assert len(rows(folder, "epoch")) == 2
        with pytest.raises(RunError, match=r"another teacher \(.*epoch_0001\) than it has now \(none\)"):
            check_same_teacher(RunFolder(folder), None)


def test_an_interrupted_teacher_is_continued(make_student: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_student(f"teacher.overrides={json.dumps([*TEACHER, 'training.epochs=2'])}")
    train = Trainer._train_epoch

    def interrupted(self: Trainer, epoch: int) -> Any:
        if epoch == 1:
            raise KeyboardInterrupt
        return train(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, run_name="student")
    lines = plan(recipe, Path("s")).lines()
    assert any("was interrupted and is continued first, 2 epochs of neuropbr:quickstart" in line for line in lines)
    with reporting_to(RecordingReporter()) as told:
        run(recipe, run_name="student")
    said = told.lines
    assert "was interrupted and is continued first" in said[0]
    assert any("Resuming after epoch 1 of 2" in line for line in said)


def test_a_plan_says_what_is_there_and_does_nothing(
    make_student: MakeRecipe, teacher: Path, module_recipe: MakeRecipe, pool: Path
) -> None:
    recipe = make_student("export.torchscript={}")
    runs = Path(recipe.training.runs_dir)
    lines = plan(recipe, runs / "student").lines()
    assert lines == [
        f"data      {pool}: is there",
        "data      6 samples to train on, 2 held back",
        f"teacher   {runs / 'quickstart'}: is missing and is trained first, 1 epochs of neuropbr:quickstart",
        f"logits    {runs / 'quickstart' / 'shards-32'}: the training samples are predicted",
        f"train     {runs / 'student'}: will be trained to the end of 1 epochs",
        f"evaluate  {runs / 'student' / 'summary.json'}: the best checkpoint is scored on what was held back",
        f"export    {runs / 'student' / 'exports' / 'torchscript'}: neuropbr:torchscript, is exported",
        f"report    {runs / 'student' / 'report.html'}: is written",
    ]
    assert not runs.exists()
    made = student_of(module_recipe)
    lines = plan(made, teacher.parent / "third").lines()
    assert lines[2:4] == [
        f"teacher   {teacher / 'checkpoints' / 'epoch_0001'}: is there",
        f"logits    {teacher / 'shards-32'}: 6 samples are there, others are predicted",
    ]
    with pytest.raises(RunError, match="there is a run of that name already"):
        plan(made, teacher.parent / "first")


def test_a_teacher_made_otherwise_is_used_and_said(module_recipe: MakeRecipe, teacher: Path) -> None:
    recipe = student_of(module_recipe, f"teacher.overrides={json.dumps([*TEACHER, 'optimizer.lr=1e-3'])}")
    teacher_plan = plan_teacher(recipe)
    assert teacher_plan is not None
    assert teacher_plan.state == "there"
    (note,) = teacher_plan.notes()
    assert "made with another recipe (1 values, such as optimizer.lr: 0.003 -> 0.001); remove it to have it" in note


def test_the_students_split_is_the_teachers(make_student: MakeRecipe, teacher: Path) -> None:
    own = taught_by(teacher, make_student("data.val_materials=[]", "data.val_ratio=0.9", "training.seed=7"))
    found = open_teacher(teacher / "checkpoints" / "epoch_0001")
    dataset = student_data(own, found)
    assert set(dataset.split["val"]) == HELD_BACK
    cheat = taught_by(teacher, make_student("data.val_materials=[t3_Pebbles_025]"))
    with pytest.raises(DataError, match=r"contradicts the teacher's split: it holds back 't3_Pebbles_025', which the "):
        run(cheat, run_name="cheat")
    assert not (Path(cheat.training.runs_dir) / "cheat").exists()


def test_a_checkpoint_can_be_the_teacher(teacher: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    inside = open_teacher(teacher / "checkpoints" / "epoch_0001")
    assert inside.logits_folder(32) == teacher / "shards-32"
    shutil.copytree(inside.checkpoint, alone)
    with pytest.raises(DataError, match=r"nothing says what this teacher was trained on.*copy the run's provenance"):
        open_teacher(alone)
    shutil.copy(teacher / "provenance.json", alone)
    copied = open_teacher(alone)
    assert (copied.mark, copied.trained, copied.held_back) == (inside.mark, inside.trained, inside.held_back)
    assert set(copied.held_back) == HELD_BACK
    assert copied.logits_folder(32) == alone / "shards-32"


def test_a_model_that_ships_is_a_teacher_beside_which_nothing_is_written(tmp_path: Path) -> None:
    recipe = load_recipe("neuropbr:flash_student", [f"data.root={tmp_path}"])
    plan = plan_teacher(recipe)
    assert plan is not None
    found = plan.open()
    assert found.spec.flash
    examples = {path.name for path in (shipped_root() / "examples" / "materials").iterdir()}
    assert set(found.held_back) & examples == set(recipe.data.val_materials)
    assert not set(found.trained) & set(found.held_back)
    with pytest.raises(DataError, match="ships with NeuroPBR, and nothing is stored beside it; name a folder"):
        found.logits_folder(64)
    with pytest.raises(RecipeError, match=r"teacher\.checkpoint: ships with NeuroPBR, and nothing is stored beside it"):
        load_recipe("neuropbr:flash_student", ["teacher.mode=shards"])
    misspelt = resolve_recipe("neuropbr:flash_student", ["teacher.checkpoint=neuropbr:flash-33"])
    with pytest.raises(NeuroPBRError, match="flash-33: no model of that name ships"):
        plan_teacher(misspelt.recipe)
    with pytest.raises(NeuroPBRError, match="flash-33: no model of that name ships"):
        check_buildable(misspelt, None)


def test_shards_that_do_not_fit_are_refused(make_student: MakeRecipe, teacher: Path) -> None:
    larger = make_student("data.image_size=64", "data.output_size=64", "data.crop_size=32")
    recipe = taught_by(teacher, larger, shards=str(teacher / "shards-32"))
    with pytest.raises(DataError, match="maps of 32 px there, 64 px wanted"):
        run(recipe, run_name="large")
    with pytest.raises(DataError, match="maps of 32 px there, 64 px wanted"):
        plan(recipe, Path("large"))


def test_teachers_that_are_not_there_are_refused(make_student: MakeRecipe, tmp_path: Path) -> None:
    gone = taught_by(tmp_path / "gone", make_student())
    with pytest.raises(CheckpointError, match="is no run with a checkpoint"):
        run(gone, run_name="student")
    recipe = make_student()
    place = Path(recipe.training.runs_dir) / "quickstart"
    place.mkdir(parents=True)
    (place / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(RunError, match="the teacher's run belongs there, but it is not empty and no run"):
        run(recipe, run_name="student")
    with pytest.raises(RecipeError, match="quickstart_student:1:1 teacher: has a teacher itself"):
        run(make_student("teacher.recipe=neuropbr:quickstart_student", "teacher.overrides=[]"))


def test_features_need_a_live_teacher(make_student: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"needs a live teacher: set `teacher\.mode: online`"):
        make_student("losses.distillation.feature_weight=1")


def test_what_cannot_work_is_refused_before_the_teacher_is_trained(make_student: MakeRecipe) -> None:
    online = ("teacher.mode=online",)
    unknown = make_student(*online, "losses.distillation={feature_weight: 1, features: {latent: middle}}")
    with pytest.raises(ModelError, match="the teacher has no middle; it has latent, decoder0"):
        run(unknown)
    plain = (
        "data.alignment=none",
        "model.view_conditioning=none",
        "model.reflectance_profile=false",
        "model.albedo=direct",
        "model.ratio_images=false",
    )
    with pytest.raises(RunError, match=r"trained with data.alignment: recorded, the student has none.*mode: shards"):
        run(make_student(*online, *plain))
    deep = [*TEACHER, "data.image_size=48", "data.output_size=48", "model.encoder.channels=[8, 8, 8, 8]"]
    deep[6] = "model.decoder.channels=[8, 8, 8]"
    settings = (*online, f"teacher.overrides={json.dumps(deep)}", "data.image_size=64", "data.output_size=64")
    with pytest.raises(
        RunError, match=r"a crop of 16 px is 12 px at the teacher's image_size of 48, .* multiples of 8"
    ):
        run(make_student(*settings))
    assert not Path(unknown.training.runs_dir).exists()
