"""Checking and building recipes over components that exist only here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from neuropbr_core.errors import PluginBroken, PluginNotFound, RecipeError
from neuropbr_core.kinds import KINDS, LossEntryOptions, NoEntryOptions, recipe_kinds
from neuropbr_core.plugin import Meta, Needs
from neuropbr_core.recipe import Recipe, Resolved, dump_recipe, load_recipe, resolve_recipe
from neuropbr_core.recipe.sections import Decoder, Teacher, Training
from neuropbr_core.registry import Chosen


@dataclass(frozen=True)
class Stage:
    width: Annotated[int, Meta(ge=1)] = 8
    act: Literal["relu", "gelu"] = "relu"


@dataclass(frozen=True)
class EncoderOptions:
    variant: Literal["small", "large"] = "small"
    scales: tuple[Annotated[float, Meta(gt=0)], ...] = (1.0,)
    stage: Stage = field(default_factory=Stage)
    weights: str | None = None


@dataclass(frozen=True)
class FusionOptions:
    dim: Annotated[int, Meta(ge=1)]
    heads: int = 1

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not divisible by heads {self.heads}")


@dataclass(frozen=True)
class LossOptions:
    scale: Annotated[float, Meta(ge=0)] = 1


@dataclass(frozen=True)
class TaughtOptions:
    deep: bool = False


@dataclass(frozen=True)
class ReservedOptions:
    weight: float = 1.0


@dataclass(frozen=True)
class ReelOptions:
    file: str


@dataclass(frozen=True)
class Nothing:
    pass


OPTIONS: dict[tuple[str, str], type | Exception] = {
    ("encoder", "tower"): EncoderOptions,
    ("fusion", "mix"): FusionOptions,
    ("loss", "l1"): LossOptions,
    ("loss", "taught"): TaughtOptions,
    ("loss", "reserved"): ReservedOptions,
    ("loss", "broken"): PluginBroken("loss/broken of acme 1.0 does not import"),
    ("loss", "odd"): int,
    ("observer", "progress"): Nothing,
    ("observer", "journal"): Nothing,
    ("observer", "tensorboard"): Nothing,
    ("observer", "grid"): Nothing,
    ("exporter", "pt"): Nothing,
    ("dataset", "layout"): Nothing,
    ("dataset", "reel"): ReelOptions,
}


@dataclass(frozen=True)
class FakeEntry:
    qualified: str
    file: str = ""


class FakeRegistry:
    """As much of the registry as recipes use."""

    def find(self, kind: str, use: str) -> FakeEntry:
        name = use.removeprefix("acme:")
        if (kind, name) not in OPTIONS:
            raise PluginNotFound(f"no {kind} `{use}`")
        return FakeEntry(f"acme:{name}")

    def options(self, kind: str, use: str) -> type:
        options = OPTIONS[kind, self.find(kind, use).qualified.removeprefix("acme:")]
        if isinstance(options, Exception):
            raise options
        return options

    def needs(self, kind: str, use: str, options: object) -> Needs:
        return Needs(teacher=True, features=options.deep) if isinstance(options, TaughtOptions) else Needs()


def chosen(kind: str, name: str, use: str, options: object, entry: object) -> Chosen:
    """An expected choice; equality does not look at its registry."""
    registry: Any = FakeRegistry()
    return Chosen(kind, name, use, options, entry, registry)


GOOD = """\
data: {image_size: 64, output_size: 64}
model:
  encoder: {use: tower}
  fusion: {use: mix, dim: 8}
losses:
  l1: {weight: 2}
"""

Load = Callable[..., Resolved]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def resolve(text: str, *overrides: str, file: str = "r.yaml") -> Resolved:
        Path(file).write_text(text)
        registry: Any = FakeRegistry()
        return resolve_recipe(file, overrides, registry)

    return resolve


def problems(load: Load, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_recipe_becomes_typed(load: Load) -> None:
    recipe = load(GOOD).recipe
    assert recipe.name == "r"
    assert recipe.data.image_size == 64
    assert recipe.encoder == chosen("encoder", "encoder", "acme:tower", EncoderOptions(), NoEntryOptions())
    assert recipe.fusion.options == FusionOptions(dim=8)
    assert recipe.losses == {"l1": chosen("loss", "l1", "acme:l1", LossOptions(), LossEntryOptions(weight=2.0))}
    assert recipe.training == Training()
    assert recipe.model.decoder == Decoder()
    assert list(recipe.observers) == ["progress", "journal", "grid", "tensorboard"]
    assert recipe.export == {}


def test_the_tree_has_every_default_in_a_fixed_order(load: Load) -> None:
    shuffled = "losses: {l1: {}}\nmodel: {fusion: {dim: 8, use: mix}, encoder: {use: tower}}\n"
    tree = load(shuffled).recipe.tree
    sections = ["name", "data", "model", "teacher", "losses", "optimizer", "training", "observers", "export"]
    assert list(tree) == sections
    assert list(tree["model"])[:3] == ["encoder", "fusion", "decoder"]
    assert tree["model"]["encoder"] == {
        "use": "acme:tower",
        "variant": "small",
        "scales": [1.0],
        "stage": {"width": 8, "act": "relu"},
        "weights": None,
    }
    assert tree["losses"]["l1"] == {
        "use": "acme:l1",
        "weight": 1.0,
        "start_epoch": 1,
        "ramp_epochs": 0,
        "scale": 1.0,
    }
    assert list(tree["training"]) == [field.name for field in fields(Training)]


def test_defaults_have_the_declared_type(load: Load) -> None:
    loss = load(GOOD).recipe.losses["l1"]
    assert type(loss.options.scale) is float
    assert type(loss.entry.weight) is float


def test_a_written_recipe_loads_as_an_equal_one(load: Load) -> None:
    text = 'description: "one: \\"two\\" # three"\n' + GOOD + "export: {phone: {use: pt}}\nobservers: {}\n"
    first = load(text, "training.device='1e3'", "data.root=yes").recipe
    written = dump_recipe(first)
    second = load(written, file="recipe.yaml").recipe
    assert second == first
    assert second.name == "r"
    assert second.training.device == "1e3"
    assert dump_recipe(second) == written


def test_every_value_knows_its_origin(load: Load) -> None:
    resolved = load("# c\n" + GOOD, "training.epochs=3")
    origins = {
        ("training", "epochs"): "--set training.epochs=3",
        ("training", "seed"): "default",
        ("model", "fusion", "dim"): "r.yaml:5",
        ("losses", "l1", "use"): "r.yaml:7",
        ("losses", "l1", "scale"): "default",
        ("observers", "grid", "use"): "default",
    }
    assert {keys: resolved.origin(keys) for keys in origins} == origins


def test_files_of_one_name_are_told_apart(load: Load, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/r.yaml").write_text(GOOD)
    (tmp_path / "other.yaml").write_text("extends: base/r.yaml\n")
    resolved = load("extends: other.yaml\ntraining: {epochs: 3}\n")
    assert resolved.origin(("training", "epochs")) == "r.yaml:2"
    assert resolved.origin(("losses", "l1", "weight")) == "base/r.yaml:6"


def test_all_problems_are_told_at_once(load: Load) -> None:
    text = """\
data: {image_size: 64, image_size: 65, crop_size: 8}
modle: {}
model:
  encoder: {use: towre}
  fusion: {use: mix, heads: 2.0}
  decoder: {head_channels: 0, super_resolution: 3}
losses:
  l1: {wieght: 1, scale: -1}
  broken: {anything: 1}
optimizer: {name: adm, lr: "1e-4", betas: [0.9], scheduler: null}
training: {epochs: yes, save_best_only: yes, seed: .inf}
"""
    assert problems(load, text, "losses.l2={}", "data.augment=on") == [
        "--set:1:1 losses.l2: no loss `l2` (from `--set losses.l2={}`)",
        '--set:2:1 data.augment: found "on"; allowed: true or false; write `true` (from `--set data.augment=on`)',
        "r.yaml:1:24 data.image_size: appears more than once, first in line 1; keep one",
        "r.yaml:1:51 data.crop_size: found 8; allowed: an integer from 16 to 8192 or null",
        (
            "r.yaml:2:1 modle: unknown key; allowed: extends, name, description, plugins, data, model, teacher, "
            "losses, optimizer, training, observers, export; did you mean `model`?"
        ),
        "r.yaml:4:18 model.encoder.use: no encoder `towre`",
        "r.yaml:5:3 model.fusion.dim: is missing",
        "r.yaml:5:29 model.fusion.heads: found 2.0; allowed: an integer",
        "r.yaml:6:28 model.decoder.head_channels: found 0; allowed: an integer from 1 to 65536",
        "r.yaml:6:49 model.decoder.super_resolution: found 3; allowed: 0, 2, 4",
        (
            "r.yaml:8:8 losses.l1.wieght: unknown key; allowed: use, weight, start_epoch, ramp_epochs, scale; "
            "did you mean `weight`?"
        ),
        "r.yaml:8:26 losses.l1.scale: found -1; allowed: a number at least 0",
        "r.yaml:9:3 losses.broken: loss/broken of acme 1.0 does not import",
        'r.yaml:10:19 optimizer.name: found "adm"; allowed: adam, adamw, sgd; did you mean `adam`?',
        'r.yaml:10:28 optimizer.lr: found "1e-4"; allowed: a number above 0 and at most 1000; write it without quotes',
        (
            "r.yaml:10:43 optimizer.betas: found a list of 1; allowed: a list of 2 values, each a number at least 0 "
            "and below 1"
        ),
        "r.yaml:10:61 optimizer.scheduler: found null; allowed: cosine, none, plateau, step",
        'r.yaml:11:20 training.epochs: found "yes"; allowed: an integer from 1 to 1000000',
        'r.yaml:11:41 training.save_best_only: found "yes"; allowed: true or false; write `true`',
        "r.yaml:11:52 training.seed: found .inf; a number must be finite",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {}", ["r.yaml:1:1 losses: is missing", "r.yaml:1:1 model: is missing"]),
        (
            "model: {decoder: {}}\nlosses: {}",
            [
                "r.yaml:1:1 model.encoder: is missing",
                "r.yaml:1:1 model.fusion: is missing",
                "r.yaml:2:1 losses: is empty; it needs at least one entry",
            ],
        ),
        (
            GOOD.replace("use: tower", "variant: small"),
            [
                (
                    "r.yaml:3:3 model.encoder.use: is missing; it names the encoder "
                    "(`neuropbr list-plugins --kind encoder` lists them)"
                )
            ],
        ),
        (GOOD.replace("use: tower", "use: 3"), ["r.yaml:3:18 model.encoder.use: found 3; allowed: text"]),
        (
            GOOD + "  3d.x: {use: l1}\n",
            [
                (
                    "r.yaml:7:3 losses.3d.x: is no name for an entry; use letters, digits, `_` and `-`, and name the "
                    "component with `use`"
                )
            ],
        ),
        (GOOD + "  x: 3\n", ["r.yaml:7:6 losses.x: found 3; allowed: a mapping or null"]),
        (GOOD + "training: 3\n", ["r.yaml:7:11 training: found 3; allowed: a mapping"]),
        (
            GOOD.replace("use: tower", "use: tower, stage: {act: silu}, scales: [1, 0]"),
            [
                'r.yaml:3:38 model.encoder.stage.act: found "silu"; allowed: gelu, relu',
                "r.yaml:3:57 model.encoder.scales[1]: found 0; allowed: a number above 0",
            ],
        ),
        (
            GOOD.replace("dim: 8", "dim: 9, heads: 2"),
            ["r.yaml:4:3 model.fusion: dim 9 is not divisible by heads 2"],
        ),
        (
            GOOD.replace("image_size: 64,", "image_size: 64, synthesize: {material: x},"),
            [
                "r.yaml:1:24 data.synthesize.materials: is missing",
                (
                    "r.yaml:1:37 data.synthesize.material: unknown key; allowed: materials, samples, size, view_size, "
                    "seed, environments, kinds, dirty_fraction, procedural; did you mean `materials`?"
                ),
            ],
        ),
        (
            GOOD + "  reserved: {}\n  mine: {use: odd}\n",
            [
                (
                    "r.yaml:7:3 losses.reserved: loss/reserved: option `weight` has a name that recipes reserve; its "
                    "author must rename it"
                ),
                "r.yaml:8:15 losses.mine.use: loss/odd: `loss_options` must return a dataclass, not <class 'int'>",
            ],
        ),
    ],
)
def test_problems_say_where_and_what(load: Load, text: str, expected: list[str]) -> None:
    assert problems(load, text) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["data.output_size=128"],
            (
                "data.output_size: found 128, but the model makes 64 (image_size 64 × super-resolution 1); write "
                "`output_size: 64`, or change image_size or model.decoder.super_resolution"
            ),
        ),
        (
            ["model.decoder.super_resolution=2"],
            (
                "data.output_size: found 64, but the model makes 128 (image_size 64 × super-resolution 2); write "
                "`output_size: 128`, or change image_size or model.decoder.super_resolution"
            ),
        ),
        (["data.crop_size=65"], "data.crop_size: found 65; allowed: at most data.image_size, 64, or null for no crops"),
        (
            ["model.view_conditioning=direction"],
            (
                "model.view_conditioning: `direction` needs views with known cameras; set `data.alignment: recorded` "
                "or "
                "`estimated`, or write `none`"
            ),
        ),
        (
            ["model.albedo=residual"],
            (
                "model.albedo: `residual` starts from the median of aligned views; set `data.alignment: recorded` or "
                "`estimated`, or write `direct`"
            ),
        ),
        (
            ["model.reflectance_profile=true"],
            (
                "model.reflectance_profile: needs the direction to the flash; set `model.view_conditioning: "
                "direction`, or write `false`"
            ),
        ),
        (
            ["data.jitter.alignment=1.5"],
            (
                "data.jitter.alignment: found 1.5, but views are not aligned; set `data.alignment: recorded` or "
                "`estimated`, or write 0"
            ),
        ),
        (
            ["data.synthesize={materials: x}"],
            "data.synthesize: needs `data.root`, the folder to render into; add it, or give `--data DIR`",
        ),
        (["optimizer.min_lr=1e-4"], "optimizer.min_lr: found 0.0001; `cosine` needs it below optimizer.lr, 0.0001"),
        (
            ["optimizer.critic_lr=1e-7"],
            "optimizer.min_lr: found 1e-06; `cosine` needs it below optimizer.critic_lr, 1e-07",
        ),
        (
            ["losses.taught={}"],
            "losses.taught: needs a teacher; add a section such as `teacher: {run: runs/teacher_default}`",
        ),
        (
            ["losses.taught={deep: true}", "teacher={run: x}"],
            (
                "losses.taught: compares features and needs a live teacher: set `teacher.mode: online`, or let it "
                "compare maps alone (shards hold no features)"
            ),
        ),
        (
            ["teacher={run: x}"],
            "teacher: no loss learns from it; add `distillation: {}` to losses, or remove this section",
        ),
        (
            ["losses.taught={}", "teacher={mode: online}"],
            "teacher: names no teacher; write one of `run`, `checkpoint` and `recipe`",
        ),
        (
            ["losses.taught={}", "teacher={run: x, recipe: y}"],
            "teacher.run: found run and recipe; keep one (`run: null` drops an inherited one)",
        ),
        (
            ["losses.taught={}", "teacher={run: x, overrides: [training.epochs=1]}"],
            "teacher.overrides: changes `teacher.recipe`, and there is none; add it, or leave this out",
        ),
        (
            ["losses.taught={}", "teacher={run: x, mode: online, shards: y}"],
            "teacher.shards: is not read by `mode: online`; leave it out, or write `mode: shards`",
        ),
    ],
)
def test_sections_must_fit_each_other(load: Load, overrides: list[str], expected: str) -> None:
    found = problems(load, GOOD, *overrides)
    assert len(found) == 1
    assert found[0].split(" ", 1)[1].startswith(expected)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.output_size=256", "model.decoder.super_resolution=4"],
        ["data.crop_size=64"],
        ["model.view_conditioning=direction", "model.albedo=residual", "data.alignment=recorded"],
        ["model.view_conditioning=direction", "data.alignment=estimated", "data.jitter.alignment=1"],
        ["data.synthesize={materials: x}", "data.root=y"],
        ["optimizer.min_lr=1", "optimizer.scheduler=step"],
        ["losses.taught={}", "teacher={run: x}"],
        ["losses.taught={deep: true}", "teacher={recipe: x, mode: online}"],
        ["teacher=null"],
    ],
)
def test_sections_that_fit_are_accepted(load: Load, overrides: list[str]) -> None:
    assert isinstance(load(GOOD, *overrides).recipe, Recipe)


def test_a_rule_points_at_what_the_recipe_writes(load: Load) -> None:
    text = GOOD.replace(", output_size: 64", "")
    assert problems(load, text)[0].startswith("r.yaml:1:20 data.output_size: found 2048, but the model makes 64")


def test_a_rule_points_at_the_users_last_word(load: Load, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    child = "extends: base.yaml\ntraining: {}\ndata: {image_size: 128}\n"
    for overrides in ([], ["training.epochs=1"]):
        found = problems(load, child, *overrides)
        assert found[0].startswith("r.yaml:3:20 data.output_size: found 64, but the model makes 128")
    assert problems(load, GOOD, "data.image_size=32")[0].startswith("--set:1:1 data.output_size: found 64")


def test_a_faulty_section_hides_no_rule_of_the_others(load: Load) -> None:
    found = problems(load, GOOD.replace("tower", "towre"), "data.output_size=128", "training.epochs=0")
    assert [problem.split(" ")[1] for problem in found] == [
        "data.output_size:",
        "training.epochs:",
        "model.encoder.use:",
    ]


def test_a_teacher_is_a_section_or_nothing(load: Load) -> None:
    assert load(GOOD).recipe.teacher is None
    assert load(GOOD).recipe.tree["teacher"] is None
    text = GOOD.replace("losses:", "teacher: {run: x}\nlosses:\n  taught: {}")
    recipe = load(text).recipe
    assert recipe.teacher == Teacher(run="x")
    assert load(dump_recipe(recipe), file="recipe.yaml").recipe.teacher == recipe.teacher
    assert load(text, "teacher=null", "losses.taught=null").recipe.teacher is None
    assert problems(load, text, "teacher.mode=live")[0].startswith(
        '--set:1:1 teacher.mode: found "live"; allowed: online, shards'
    )


def test_a_teachers_recipe_lies_beside_the_file_that_names_it(load: Load, tmp_path: Path) -> None:
    """Also for a recipe that extends that file, and for the copy that a run keeps; `--set` means the current folder."""
    for folder in ("recipes", "runs"):
        (tmp_path / folder).mkdir()
    text = GOOD.replace("losses:", "teacher: {recipe: big.yaml}\nlosses:\n  taught: {}")
    (tmp_path / "recipes" / "base.yaml").write_text(text)
    child = "extends: recipes/base.yaml\n"
    recipe = load(child).recipe
    assert recipe.teacher == Teacher(recipe=str(tmp_path / "recipes" / "big.yaml"))
    assert load(dump_recipe(recipe), file="runs/recipe.yaml").recipe.teacher == recipe.teacher
    assert load(child, "teacher.recipe=big.yaml").recipe.teacher == Teacher(recipe=str(tmp_path / "big.yaml"))
    assert load(child, "teacher.recipe=neuropbr:small").recipe.teacher == Teacher(recipe="neuropbr:small")


def test_a_faulty_loss_may_be_the_one_that_learns(load: Load) -> None:
    (found,) = problems(load, GOOD, "losses.taught={depth: 1}", "teacher={run: x}")
    assert "losses.taught.depth: unknown key" in found


def test_use_dirty_is_the_dirty_curriculum(load: Load) -> None:
    resolved = load(GOOD, "data.render_curriculum=1", "data.use_dirty=true")
    assert resolved.recipe.data.render_curriculum == 2
    assert resolved.origin(("data", "render_curriculum")) == "--set data.use_dirty=true"
    assert load(GOOD, "data.render_curriculum=mixed", "data.use_dirty=false").recipe.data.render_curriculum == "mixed"


def test_the_name_can_be_given(load: Load) -> None:
    recipe = load("name: mine\ndescription: what for\n" + GOOD).recipe
    assert recipe.name == "mine"
    assert list(recipe.tree)[:3] == ["name", "description", "data"]
    assert problems(load, "name: a/b\n" + GOOD)[0].startswith('r.yaml:1:7 name: found "a/b"; allowed: text matching')


@pytest.mark.parametrize(("file", "name"), [("my own.v2.yaml", "my_own_v2"), ("-x.yaml", "_x"), ("ü.yaml", "_")])
def test_a_files_name_becomes_a_name_that_loads_again(load: Load, file: str, name: str) -> None:
    recipe = load(GOOD, file=file).recipe
    assert recipe.name == name
    assert load(dump_recipe(recipe), file="recipe.yaml").recipe == recipe


def test_no_kind_is_named_by_the_recipe_code(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(KINDS["exporter"], name="archiver")
    kinds = {name: kind for name, kind in KINDS.items() if name != "exporter"}
    monkeypatch.setitem(OPTIONS, ("archiver", "zip"), Nothing)
    for module in ("kinds", "recipe.merge", "recipe.schema", "recipe.check"):
        monkeypatch.setattr(f"neuropbr_core.{module}.KINDS", {**kinds, "archiver": row})
    export = load(GOOD + "export: {zip: {}}\n").recipe.export
    assert export["zip"].kind == "archiver"


def test_every_kind_of_a_recipe_has_its_field() -> None:
    names = {field.name for field in fields(Recipe)}
    sections: Iterable[tuple[str, ...]] = (kind.section for kind in recipe_kinds() if kind.section)
    assert {section[-1] for section in sections} <= names


def test_a_kind_that_recipes_do_not_name_is_no_section_of_theirs(load: Load) -> None:
    assert any(" packages: " in problem for problem in problems(load, GOOD + "packages: {plain: {}}\n"))
    assert "packages" not in dump_recipe(load(GOOD).recipe)


@pytest.mark.parametrize(
    "written", ["", "data.source={}", "data.source={use: layout}", "data.source={use: acme:layout}"]
)
def test_a_slot_with_a_default_may_be_left_empty(load: Load, written: str) -> None:
    resolved = load(GOOD, *filter(None, [written]))
    assert resolved.recipe.source == chosen("dataset", "source", "acme:layout", Nothing(), NoEntryOptions())
    assert resolved.recipe.tree["data"]["source"] == {"use": "acme:layout"}
    assert "use" in written or resolved.origin(("data", "source", "use")) == "default"
    assert load(dump_recipe(resolved.recipe)).recipe.source == resolved.recipe.source


def test_a_named_component_replaces_the_default_of_a_slot(load: Load) -> None:
    recipe = load(GOOD, "data.source={use: reel, file: x}").recipe
    assert recipe.source == chosen("dataset", "source", "acme:reel", ReelOptions("x"), NoEntryOptions())
    assert problems(load, GOOD, "data.source={use: reel}") == [
        "--set:1:1 data.source.file: is missing (from `--set data.source={use: reel}`)"
    ]
    assert problems(load, GOOD, "data.source={file: x}") == [
        "--set:1:1 data.source.file: unknown key; allowed: use (from `--set data.source={file: x}`)"
    ]


def test_a_shipped_recipe_loads_by_reference() -> None:
    assert load_recipe("neuropbr:teacher_default").name == "teacher_default"
