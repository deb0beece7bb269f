"""`extends`, `--set`, removal and provenance, on trees alone."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from neuropbr_core.errors import RecipeError
from neuropbr_core.kinds import Kind
from neuropbr_core.recipe.merge import Override, read_tree
from neuropbr_core.recipe.yaml_tree import Node


def qualify(kind: Kind, use: str) -> str:
    return use if ":" in use else f"here:{use}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def read(name: str, *overrides: str) -> tuple[dict[str, Any], Node, list[str]]:
    root, problems = read_tree(name, overrides, qualify)
    return root.plain(), root, [str(problem) for problem in problems]


def failure(name: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_tree(name, overrides, qualify)
    return [str(problem) for problem in caught.value.problems]


BASE = """
description: the base
model: {encoder: {use: resnet, variant: a, deep: {x: 1, y: 2}}}
losses:
  l1: {weight: 1.0, albedo: 2.0}
  gan: {weight: 0.1}
optimizer: {betas: [0.5, 0.9], lr: 1e-3}
"""


def test_mappings_merge_and_lists_are_replaced(folder: Path) -> None:
    write("base.yaml", BASE)
    write("r.yaml", "extends: base.yaml\noptimizer: {betas: [0.1]}\nmodel: {encoder: {deep: {y: 3}}}\n")
    tree, root, problems = read("r.yaml")
    assert problems == []
    assert tree["optimizer"] == {"betas": [0.1], "lr": 1e-3}
    assert tree["model"]["encoder"] == {"use": "resnet", "variant": "a", "deep": {"x": 1, "y": 3}}
    assert root.place_of(("optimizer", "betas")).file == "r.yaml"
    assert root.place_of(("optimizer", "lr")).file == "base.yaml"
    assert root.place_of(("optimizer", "lr")).line == 7
    assert root.place_of(("model", "encoder", "deep", "y")).line == 3


def test_a_description_is_not_inherited(folder: Path) -> None:
    write("base.yaml", BASE + "name: base\n")
    write("r.yaml", "extends: base.yaml\n")
    tree, _, _ = read("r.yaml")
    assert not {"description", "name", "extends"} & set(tree)


def test_later_recipes_of_a_list_win_and_paths_are_relative_to_the_file(folder: Path) -> None:
    write("recipes/base.yaml", "training: {epochs: 1, seed: 1}\n")
    write("recipes/mixins/long.yaml", "extends: ../base.yaml\ntraining: {epochs: 9}\n")
    write("mine/r.yaml", "extends: [../recipes/base.yaml, ../recipes/mixins/long.yaml]\ntraining: {batch_size: 2}\n")
    tree, root, _ = read("mine/r.yaml")
    assert tree["training"] == {"epochs": 9, "seed": 1, "batch_size": 2}
    assert root.place_of(("training", "epochs")).file == "recipes/mixins/long.yaml"


def test_another_component_replaces_the_whole_entry(folder: Path) -> None:
    write("base.yaml", BASE)
    write("r.yaml", "extends: base.yaml\nmodel: {encoder: {use: unet}}\nlosses: {l1: {use: charbonnier, eps: 1}}\n")
    tree, _, _ = read("r.yaml")
    assert tree["model"]["encoder"] == {"use": "unet"}
    assert tree["losses"]["l1"] == {"use": "charbonnier", "eps": 1}


@pytest.mark.parametrize("use", ["l1", "here:l1"])
def test_the_same_component_by_another_name_merges(folder: Path, use: str) -> None:
    write("base.yaml", BASE)
    write("r.yaml", f"extends: base.yaml\nlosses: {{l1: {{use: '{use}', weight: 3}}}}\n")
    tree, _, _ = read("r.yaml")
    assert tree["losses"]["l1"] == {"use": use, "weight": 3, "albedo": 2.0}


def test_null_removes_an_inherited_entry_but_only_sets_other_values(folder: Path) -> None:
    write("base.yaml", BASE + "data: {root: here}\n")
    write("r.yaml", "extends: base.yaml\nlosses: {gan: null}\ndata: {root: null}\n")
    tree, _, problems = read("r.yaml")
    assert problems == []
    assert list(tree["losses"]) == ["l1"]
    assert tree["data"] == {"source": {"use": "layout"}, "root": None}


def test_a_mixin_may_remove_what_the_recipe_before_it_has(folder: Path) -> None:
    write("base.yaml", BASE)
    write("no_gan.yaml", "losses: {gan: null}\n")
    write("r.yaml", "extends: [base.yaml, no_gan.yaml]\n")
    tree, _, problems = read("r.yaml")
    assert problems == []
    assert list(tree["losses"]) == ["l1"]


def test_null_that_removes_nothing_is_a_problem(folder: Path) -> None:
    write("r.yaml", "losses:\n  gan:\n")
    assert read("r.yaml", "losses.ssim=null")[2] == [
        (
            "r.yaml:2:3 losses.gan: null removes an inherited entry, but none is inherited; "
            "for default options write `gan: {}`"
        ),
        (
            "--set:1:1 losses.ssim: null removes an inherited entry, but none is inherited; "
            "for default options write `ssim: {}` (from `--set losses.ssim=null`)"
        ),
    ]


def test_default_sections_are_there_and_can_be_changed(folder: Path) -> None:
    write("base.yaml", "training: {}\n")
    write("r.yaml", "extends: base.yaml\nobservers: {grid: null}\n")
    write("own.yaml", "observers: {board: {}}\n")
    assert read("base.yaml")[0]["observers"] == {"progress": {}, "journal": {}, "grid": {}, "tensorboard": {}}
    assert read("base.yaml")[0]["export"] == {}
    assert read("base.yaml", "observers.grid=null")[0]["observers"] == {
        "progress": {},
        "journal": {},
        "tensorboard": {},
    }
    assert read("r.yaml")[0]["observers"] == {"progress": {}, "journal": {}, "tensorboard": {}}
    assert read("own.yaml")[0]["observers"] == {"board": {}}


def test_overrides_are_yaml_and_later_ones_win(folder: Path) -> None:
    write("base.yaml", BASE)
    texts = ("optimizer.lr=1e-2", "optimizer.betas=[0, 1]", "losses.gan=null", "data.root=", "optimizer.lr=2e-2")
    tree, root, problems = read("base.yaml", *texts)
    assert problems == []
    assert tree["optimizer"] == {"betas": [0, 1], "lr": 2e-2}
    assert tree["data"] == {"source": {"use": "layout"}, "root": None}
    assert "gan" not in tree["losses"]
    place = root.place_of(("optimizer", "lr"))
    assert (place.file, place.line, place.words) == ("--set", 5, "--set optimizer.lr=2e-2")


def test_an_override_keeps_the_words_of_its_flag_also_when_pickled(folder: Path) -> None:
    write("base.yaml", BASE)
    override = pickle.loads(pickle.dumps(Override('data.root="1e3"', "--data 1e3")))  # noqa: S301
    tree, root, _ = read("base.yaml", override)
    assert tree["data"]["root"] == "1e3"
    assert root.place_of(("data", "root")).words == "--data 1e3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.epochs", "--set:1:1: write KEY=VALUE, with a dotted key such as `training.epochs=20` (from `--set"),
        ("training..epochs=1", "--set:1:1: write KEY=VALUE"),
        ("=1", "--set:1:1: write KEY=VALUE"),
        ("a.b=[1", "--set:1:7 a.b: is not YAML: expected ',' or ']', but got '<stream end>' (from `--set a.b=[1`)"),
        (
            "extends=other.yaml",
            "--set:1:1 extends: can only be written in a recipe file (from `--set extends=other.yaml`)",
        ),
    ],
)
def test_overrides_of_another_form_are_refused(folder: Path, text: str, message: str) -> None:
    write("base.yaml", BASE)
    assert failure("base.yaml", text)[0].startswith(message)


def test_a_number_out_of_range_in_an_override_is_a_problem(folder: Path) -> None:
    write("base.yaml", BASE)
    message = "--set:1:1 optimizer.lr: found .nan; a number must be finite (from `--set optimizer.lr=.nan`)"
    assert read("base.yaml", "optimizer.lr=.nan")[2] == [message]


def test_a_circle_is_named(folder: Path) -> None:
    write("a.yaml", "extends: sub/b.yaml\n")
    write("sub/b.yaml", "extends: ../a.yaml\n")
    assert failure("a.yaml") == ["sub/b.yaml:1:10 extends: extends itself: a.yaml -> sub/b.yaml -> a.yaml"]


def test_everything_that_cannot_be_read_is_told_at_once(folder: Path) -> None:
    write("base.yaml", "a: [")
    write("r.yaml", "extends:\n- base.yaml\n- bse.yaml\n- 3\n- neuropbr:nothing\n")
    problems = failure("r.yaml", "nonsense")
    assert [problem.split(" ")[0] for problem in problems] == [
        "--set:1:1:",
        "base.yaml:1:5:",
        "r.yaml:3:3",
        "r.yaml:4:3",
        "r.yaml:5:3",
    ]
    assert "there is no file `bse.yaml`; did you mean `base.yaml`?" in problems[2]
    assert "is a path, relative to this file, or `neuropbr:NAME`; or a list of these" in problems[3]
    assert "neuropbr:nothing: nothing of that name ships with neuropbr" in problems[4]


def test_a_missing_recipe_is_an_error_that_names_the_nearest(folder: Path) -> None:
    write("recipe.yaml", BASE)
    assert failure("recipes.yaml") == ["recipes.yaml:1:1: there is no such file; did you mean `recipe.yaml`?"]
    shipped = "there is no such file; the recipe that ships is `neuropbr:teacher_default`"
    assert failure("teacher_default") == [f"teacher_default:1:1: {shipped}"]


@pytest.mark.parametrize(("text", "what"), [("", "is empty"), ("- 1", "is no mapping"), ("hello", "is no mapping")])
def test_a_document_that_is_no_mapping_is_refused(folder: Path, text: str, what: str) -> None:
    write("r.yaml", text)
    assert failure("r.yaml") == [f"r.yaml:1:1: the recipe {what}; it needs sections such as `model:` and `losses:`"]


def test_the_number_of_files_is_bounded(folder: Path) -> None:
    write("r0.yaml", "training: {}\n")
    for i in range(1, 8):
        write(f"r{i}.yaml", f"extends: [{', '.join([f'r{i - 1}.yaml'] * 4)}]\n")
    assert "more than 64 files are extended in all" in failure("r7.yaml")[0]


def test_options_of_one_choice_are_not_inherited_by_another(folder: Path) -> None:
    def owners(kind: Kind, use: str) -> dict[str, tuple[str, object]]:
        return {"layers": ("critic", "large")} if (kind.name, use) == ("loss", "gan") else {}

    def gan(name: str, *overrides: str) -> Any:
        return read_tree(name, overrides, qualify, owners)[0].plain()["losses"]["gan"]

    write("base.yaml", "losses: {gan: {weight: 0.1, layers: 6}}\n")
    write("small.yaml", "extends: base.yaml\nlosses: {gan: {critic: small}}\n")
    assert gan("small.yaml") == {"weight": 0.1, "critic": "small"}
    assert gan("base.yaml", "losses.gan.critic=small") == {"weight": 0.1, "critic": "small"}
    # The same choice, named or left to its default, keeps them; so does a layer that makes no choice.
    assert gan("base.yaml", "losses.gan.critic=large") == {"weight": 0.1, "layers": 6, "critic": "large"}
    assert gan("base.yaml", "losses.gan.weight=1") == {"weight": 1, "layers": 6}
    # What is set beside the choice, or on the command line, is the author's own word.
    write("both.yaml", "extends: base.yaml\nlosses: {gan: {critic: small, layers: 2}}\n")
    assert gan("both.yaml") == {"weight": 0.1, "layers": 2, "critic": "small"}
    assert gan("base.yaml", "losses.gan.layers=4", "losses.gan.critic=small")["layers"] == 4
    # And back again: the options of the first choice are gone.
    write("back.yaml", "extends: small.yaml\nlosses: {gan: {critic: large}}\n")
    assert gan("back.yaml") == {"weight": 0.1, "critic": "large"}
