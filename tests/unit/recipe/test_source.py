"""YAML into nodes: scalars, places, and everything that is refused."""

from pathlib import Path

import pytest

from neuropbr_core.errors import RecipeError
from neuropbr_core.recipe.yaml_tree import Place, parse, plain_scalar, read_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("-3", -3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("9223372036854775807", 2**63 - 1),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2001-01-01", "2001-01-01"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = plain_scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".inf", "found .inf; a number must be finite"),
        ("-.INF", "found -.INF; a number must be finite"),
        (".nan", "found .nan; a number must be finite"),
        ("1e999", "found 1e999; a number must be finite"),
        ("9223372036854775808", "found 9223372036854775808; an integer must fit into 64 bits"),
        ("9" * 5000, f"found {'9' * 24}…; an integer must fit into 64 bits"),
        ("0x" + "f" * 5000, f"found 0x{'f' * 22}…; an integer must fit into 64 bits"),
    ],
)
def test_numbers_out_of_range_are_problems_that_do_not_stop_reading(text: str, message: str) -> None:
    root, problems = parse(f"a: {text}\nb: 1", "r.yaml")
    assert [str(problem) for problem in problems] == [f"r.yaml:1:4 a: {message}"]
    assert root.plain()["b"] == 1


def test_every_value_and_key_has_its_place() -> None:
    root, _ = parse("a:\n  b: [1, 22]\n'c': x\n", "r.yaml")
    assert root.place_of(("a", "b"), key=True) == Place("r.yaml", 2, 3)
    assert root.place_of(("a", "b")) == Place("r.yaml", 2, 6)
    assert root.place_of(("a", "b", 1)) == Place("r.yaml", 2, 10)
    assert root.place_of(("a", "b", 2)) == Place("r.yaml", 2, 3)
    assert root.place_of(("a",)) == Place("r.yaml", 1, 1)
    assert root.place_of(("c",)) == Place("r.yaml", 3, 6)
    assert root.plain() == {"a": {"b": [1, 22]}, "c": "x"}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert parse("1: a\ntrue: b", "r.yaml")[0].plain() == {"1": "a", "true": "b"}


def test_aliases_repeat_values() -> None:
    root, problems = parse("a: &x [1, 2]\nb: *x\n", "r.yaml")
    assert root.plain() == {"a": [1, 2], "b": [1, 2]}
    assert problems == []


def test_a_key_given_twice_is_a_problem_and_the_first_one_counts() -> None:
    root, problems = parse("a:\n  b: 1\n  b: 2\n", "r.yaml")
    assert [str(problem) for problem in problems] == [
        "r.yaml:3:3 a.b: appears more than once, first in line 2; keep one"
    ]
    assert root.plain() == {"a": {"b": 1}}


def _bomb() -> str:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object:os.system x", "r.yaml:1:4: tags are not allowed in recipes; remove `tag:yaml.org,2002:py"),
        ("a: !thing {b: 1}", "r.yaml:1:4: tags are not allowed in recipes; remove `!thing`"),
        ("a: {}\nb:\n  <<: {c: 1}", "r.yaml:3:3: merge keys are not read; use `extends`"),
        ("a: *b", "r.yaml:1:4: `*b` is used before its `&b` is complete"),
        ("a: &a [*a]", "r.yaml:1:8: `*a` is used before its `&a` is complete"),
        ("? [a]\n: 1", "r.yaml:1:3: a key must be text, not a list or a mapping"),
        ("&k a: 1\n*k : 2", "r.yaml:1:1: a key cannot have an anchor"),
        ("a: &v x\n*v : 2", "r.yaml:2:1: a key must be text, not an alias"),
        ("a: 1\n---\nb: 2", "r.yaml:2:1: a second document starts here; a recipe is one document"),
        ("a: [1", "r.yaml:1:6: is not YAML: expected ',' or ']'"),
        ("a:\n\tb: 1", "r.yaml:2:1: is not YAML: found character '\\t'"),
        ("a: 1\nb: \x07", "r.yaml:2:1: is not YAML: character U+0007 is not allowed"),
        ("a: " + "[" * 40 + "]" * 40, "r.yaml:1:35: is nested more than 32 deep"),
        (_bomb(), "has more than 20000 values, aliases expanded"),
    ],
)
def test_what_recipes_do_not_allow_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml")
    assert message in str(caught.value)


def test_problems_found_before_the_end_are_told_too() -> None:
    with pytest.raises(RecipeError) as caught:
        parse("a: .inf\nb: [", "r.yaml")
    assert [problem.line for problem in caught.value.problems] == [1, 2]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_file(file, "r.yaml") == "a: 1\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: \xff\n", "r.yaml:2:1: is not UTF-8 text; save it as UTF-8"),
        (b"#" * ((1 << 20) + 1), "r.yaml:1:1: is larger than 1 MiB; a recipe is a few kilobytes of YAML"),
    ],
)
def test_files_that_are_no_text_of_bounded_size_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        read_file(file, "r.yaml")
    assert str(caught.value) == message


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^r\.yaml:1:1: cannot be read: is a folder, and a file is needed$"):
        read_file(tmp_path, "r.yaml")
