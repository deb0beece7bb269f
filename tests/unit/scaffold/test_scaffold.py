"""Packages of third parties: their text, their names, further components, and updates."""

import ast
import errno
import shutil
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from neuropbr_core.cli import root
from neuropbr_core.errors import ScaffoldError
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.catalog import Registry
from neuropbr_core.scaffold import writing
from neuropbr_core.scaffold.names import (
    check_component_is_new,
    check_component_name,
    check_package_is_new,
    module_name,
)
from neuropbr_core.scaffold.package import TEMPLATES, Scaffold, ScaffoldComponent
from neuropbr_core.scaffold.project import PROJECT, RECORD, with_entry_point
from neuropbr_core.scaffold.writing import Change, add, create, update

WAVELET = ScaffoldComponent("loss", "wavelet")
ACME = Scaffold("acme-maps", "acme_maps", (WAVELET,))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["plugin", *arguments])


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "acme-maps"
    create(folder, ACME)
    return folder


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """Templates in which the loss, the README and the workflow have another line at their end."""
    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    for path in ("loss/MODULE/NAME/loss.py", "package/README.md", "package/.github/workflows/test.yml"):
        with (templates / f"{path}.tmpl").open("a", encoding="utf-8") as file:
            file.write("# newer\n")
    return templates


def full_disk(path: Path, value: object) -> None:
    raise OSError(errno.ENOSPC, "full", str(path))


def actions(changes: list[Change]) -> dict[str, str]:
    return {change.path: change.action for change in changes if change.action != "current"}


# ---------------------------------------------------------------------------------------------------------- the text


def test_every_kind_has_a_template_that_parses() -> None:
    components = tuple(ScaffoldComponent(kind, f"my_{kind}") for kind in KINDS)
    files = Scaffold("acme-maps", "acme_maps", components).files()
    for path, text in files.items():
        assert "@{" not in text, path
        assert text.endswith("\n"), path
        if path.endswith(".py"):
            ast.parse(text)
            assert max(map(len, text.splitlines())) <= 120, path
        elif path.endswith((".yaml", ".yml")):
            assert yaml.safe_load(text), path
    groups = tomllib.loads(files[PROJECT])["project"]["entry-points"]
    assert groups == {kind.group: {f"my_{kind.name}": f"acme_maps.my_{kind.name}"} for kind in KINDS.values()}
    for kind in KINDS.values():
        thin = files[f"acme_maps/my_{kind.name}/__init__.py"]
        assert f"def {kind.options_hook}(" in thin
        assert f"def {kind.create_hook}(" in thin
        assert "\nimport torch" not in thin
        assert f"tests/test_my_{kind.name}.py" in files
        assert (f"recipes/my_{kind.name}.yaml" in files) == kind.in_recipes


def test_the_workflow_tests_the_development_version_of_the_core() -> None:
    workflow = yaml.safe_load(ACME.package_files()[".github/workflows/test.yml"])
    assert "development" in workflow["jobs"]["test"]["strategy"]["matrix"]["core"]
    assert "${{ vars.NEUROPBR_DEVELOPMENT" in ACME.package_files()[".github/workflows/test.yml"]


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["", "Wavelet", "2d", "my-loss", "../x", "a b", "é", "class", "on", "null", "x" * 61])
def test_names_that_no_component_can_have(name: str) -> None:
    with pytest.raises(ScaffoldError, match="component name"):
        check_component_name(name)


@pytest.mark.parametrize("name", ["", "-x", "x-", "../x", "a/b", "a b", "class", "json", "x" * 61])
def test_names_that_no_package_can_have(name: str) -> None:
    with pytest.raises(ScaffoldError, match="package name"):
        module_name(name)


def test_names_that_are_taken() -> None:
    with pytest.raises(ScaffoldError, match=r"loss/l1 is the name of a component of neuropbr"):
        check_component_is_new("loss", "l1", "acme", Registry())
    check_component_is_new("loss", "l1", "NeuroPBR", Registry())
    with pytest.raises(ScaffoldError, match="already has the module torch"):
        check_package_is_new("torch", "torch")
    check_package_is_new("acme-maps", "acme_maps")


@pytest.mark.parametrize("name", ["neuropbr", "NeuroPBR", "opencv_python-headless"])
def test_the_name_of_an_installed_package_is_taken_whatever_its_module_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScaffoldError, match=f"{name}.*already has the package .*choose another name"):
        check_package_is_new(name, module_name(name))
    result = invoke("new", "loss", "wavelet", "--package", name)
    assert isinstance(result.exception, ScaffoldError)


# ------------------------------------------------------------------------------------------------------- new packages


def test_an_existing_place_is_refused_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("link", "folder", "file"):
        result = invoke("new", "loss", "wavelet", "--output", str(tmp_path / name))
        assert "is there already, and nothing is overwritten" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_nothing_is_left_of_a_package_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuropbr_core.scaffold.writing.write_json", full_disk)
    with pytest.raises(OSError, match="full"):
        create(tmp_path / "acme", ACME)
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    result = invoke("new", "loss", "wavelet", "--package", "acme-maps", "--output", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path}/new/acme_maps/wavelet/loss.py" in result.output
    assert f"pip install --editable {tmp_path}/new" in result.output
    assert invoke("new", "loss", "x", "--into", str(tmp_path), "--package", "y").exit_code == 2


# --------------------------------------------------------------------------------------------------- more components


def test_a_component_joins_a_package_that_nobody_changed(package: Path) -> None:
    changes = add(package, ScaffoldComponent("encoder", "pyramid"))
    assert {change.action for change in changes} == {"written"}
    both = Scaffold("acme-maps", "acme_maps", (WAVELET, ScaffoldComponent("encoder", "pyramid")))
    for path, text in both.files().items():
        assert (package / path).read_text(encoding="utf-8") == text
    assert actions(update(package)) == {}


def test_a_component_joins_a_package_that_its_author_changed(package: Path) -> None:
    project = (package / PROJECT).read_text(encoding="utf-8").replace("0.1.0", "2.0")
    (package / PROJECT).write_text(project, encoding="utf-8")
    (package / "README.md").write_text("Mine.\n", encoding="utf-8")
    changes = add(package, ScaffoldComponent("loss", "other"))
    assert actions(changes)["README.md"] == "yours"
    text = (package / PROJECT).read_text(encoding="utf-8")
    points = tomllib.loads(text)["project"]["entry-points"]["neuropbr.losses"]
    assert points == {"wavelet": "acme_maps.wavelet", "other": "acme_maps.other"}
    assert text.replace('other = "acme_maps.other"\n', "") == project
    assert (package / "README.md").read_text(encoding="utf-8") == "Mine.\n"


def test_a_component_does_not_join_where_something_has_its_name(package: Path) -> None:
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    with pytest.raises(ScaffoldError, match="declares loss/wavelet already"):
        add(package, WAVELET)
    # Another kind, but the same module.
    with pytest.raises(ScaffoldError, match="is there already; choose another name"):
        add(package, ScaffoldComponent("encoder", "wavelet"))
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("suffix", [".py", EXTENSION_SUFFIXES[0]])
@pytest.mark.parametrize("source", ["", "src"])
def test_a_component_does_not_hide_a_module_of_the_author(package: Path, source: str, suffix: str) -> None:
    if source:
        (package / source).mkdir()
        (package / "acme_maps").rename(package / source / "acme_maps")
    module = package / source / "acme_maps" / f"ripple{suffix}"
    module.write_text("mine")
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    with pytest.raises(ScaffoldError, match=rf"ripple\{suffix}: would be hidden by the component"):
        add(package, ScaffoldComponent("encoder", "ripple"))
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before


def test_a_package_is_as_it_was_when_a_component_cannot_join(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    monkeypatch.setattr("neuropbr_core.scaffold.writing.write_json", full_disk)
    with pytest.raises(OSError, match="full"):
        add(package, ScaffoldComponent("encoder", "pyramid"))
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before


def test_a_component_that_joined_changed_files_is_not_offered_again(package: Path) -> None:
    with (package / PROJECT).open("a", encoding="utf-8") as file:
        file.write("# mine\n")
    (package / "README.md").write_text("Mine.\n", encoding="utf-8")
    add(package, ScaffoldComponent("loss", "other"))
    assert actions(update(package)) == {PROJECT: "yours", "README.md": "yours"}


def test_a_component_that_joins_does_not_hide_a_newer_template(package: Path, newer: Path) -> None:
    (package / "README.md").write_text("Mine.\n", encoding="utf-8")
    add(package, ScaffoldComponent("loss", "other"), newer)
    assert actions(update(package, templates=newer))["README.md"] == "offered"
    # The offer is not merged yet, so the next one has the further component.
    add(package, ScaffoldComponent("loss", "third"), newer)
    assert actions(update(package, templates=newer))["README.md"] == "offered"
    assert "third" in (package / "README.md.new").read_text(encoding="utf-8")


def test_a_component_that_was_removed_can_join_again(package: Path) -> None:
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    project = (package / PROJECT).read_text(encoding="utf-8")
    for path in ACME.component_files(WAVELET):
        (package / path).unlink()
    entry = 'wavelet = "acme_maps.wavelet"\n'
    assert entry in project
    (package / PROJECT).write_text(project.replace(entry, ""), encoding="utf-8")
    add(package, WAVELET)
    assert actions(update(package)) == {}
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("name = [", "is not TOML"),
        ("[tool.poetry]\nname = 'x'\n", "has no table \\[project\\]"),
        ("[project]\nname = 'acme-maps'\n", "has neither a folder acme_maps nor src/acme_maps"),
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / PROJECT).write_text(text)
    with pytest.raises(ScaffoldError, match=message):
        add(tmp_path, WAVELET)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ('"a"', r"project\.entry-points is no table; write tables such as"),
        ('{"neuropbr.losses" = "x"}', r'project\.entry-points\."neuropbr\.losses" is no table; write a table'),
    ],
)
def test_entry_points_that_are_no_tables_are_refused(package: Path, points: str, message: str) -> None:
    (package / PROJECT).write_text(f'[project]\nname = "acme-maps"\nentry-points = {points}\n', encoding="utf-8")
    with pytest.raises(ScaffoldError, match=message):
        add(package, ScaffoldComponent("loss", "other"))


def test_a_component_joins_a_package_in_src(tmp_path: Path) -> None:
    (tmp_path / "src/acme_maps").mkdir(parents=True)
    (tmp_path / PROJECT).write_text('[project]\nname = "acme-maps"')
    add(tmp_path, WAVELET)
    assert (tmp_path / "src/acme_maps/wavelet/loss.py").is_file()
    # Files of the whole package are not of the scaffold here.
    assert not (tmp_path / "README.md").exists()
    assert actions(update(tmp_path)) == {}


def test_the_command_names_no_readme_that_it_did_not_write(package: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    (foreign / "acme_maps").mkdir(parents=True)
    (foreign / PROJECT).write_text('[project]\nname = "acme-maps"')
    result = invoke("new", "loss", "other", "--into", str(foreign))
    assert "neuropbr plugin check loss/other" in result.output
    assert "README" not in result.output
    assert "README.md goes on from there." in invoke("new", "loss", "other", "--into", str(package)).output


@pytest.mark.parametrize(
    "header", ['[project.entry-points."neuropbr.losses"]', "[ project . entry-points.'neuropbr.losses' ] # x"]
)
def test_an_entry_point_joins_its_table(header: str) -> None:
    text = f'[project]\nname = "a"\n{header}\nx = "y"\n[tool.z]\n'
    assert with_entry_point(text, "neuropbr.losses", "w", "a.w") == text.replace('x = "y"', 'w = "a.w"\nx = "y"')


def test_entry_points_in_one_line_are_left_to_the_author() -> None:
    text = '[project]\nname = "a"\nentry-points = {"neuropbr.losses" = {x = "y"}}\n'
    with pytest.raises(ScaffoldError, match=r'add w = "a.w" to the table'):
        with_entry_point(text, "neuropbr.losses", "w", "a.w")


# ------------------------------------------------------------------------------------------------------------ updates


def test_files_that_nobody_changed_follow_the_template(package: Path, newer: Path) -> None:
    expected = dict.fromkeys(("acme_maps/wavelet/loss.py", "README.md", ".github/workflows/test.yml"), "written")
    assert actions(update(package, templates=newer, dry_run=True)) == expected
    assert not (package / "README.md").read_text(encoding="utf-8").endswith("# newer\n")
    assert actions(update(package, templates=newer)) == expected
    assert (package / "README.md").read_text(encoding="utf-8").endswith("# newer\n")
    assert actions(update(package, templates=newer)) == {}


def test_other_line_ends_are_no_change(package: Path, newer: Path) -> None:
    for path in ACME.files():
        place = package / path
        place.write_bytes(place.read_bytes().replace(b"\n", b"\r\n"))
    assert actions(update(package)) == {}
    assert set(actions(update(package, templates=newer)).values()) == {"written"}


def test_a_dry_run_says_what_would_be_done(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_due", lambda *_: "offered")
    result = invoke("update", str(package), "--dry-run")
    assert f"{package}/README.md: left, because you changed it; the template's text would be written" in result.output
    assert "beside it as README.md.new" in result.output
    assert not list(package.rglob("*.new"))


def test_files_that_the_author_changed_are_left_alone(package: Path, newer: Path) -> None:
    loss = package / "acme_maps/wavelet/loss.py"
    loss.write_text("# mine\n", encoding="utf-8")
    (package / "pyproject.toml").write_text("[project]\nname = 'acme-maps'\n", encoding="utf-8")
    (package / "README.md").unlink()
    changes = actions(update(package, templates=newer))
    assert changes == {
        "acme_maps/wavelet/loss.py": "offered",
        "pyproject.toml": "yours",
        "README.md": "removed",
        ".github/workflows/test.yml": "written",
    }
    assert loss.read_text(encoding="utf-8") == "# mine\n"
    offer = loss.with_name("loss.py.new")
    assert offer.read_text(encoding="utf-8").endswith("# newer\n")
    # Offered once: the author may delete the offer.
    offer.unlink()
    assert actions(update(package, templates=newer))["acme_maps/wavelet/loss.py"] == "yours"
    assert not offer.exists()
    # Or take it over.
    shutil.copy(newer / "loss/MODULE/NAME/loss.py.tmpl", loss)
    update(package, templates=newer)
    loss.write_text(ACME.files(newer)["acme_maps/wavelet/loss.py"], encoding="utf-8")
    assert "acme_maps/wavelet/loss.py" not in actions(update(package, templates=newer))
    assert actions(update(package))["acme_maps/wavelet/loss.py"] == "written"


def test_an_offer_does_not_replace_a_file_of_the_author(package: Path, newer: Path) -> None:
    (package / "acme_maps/wavelet/loss.py").write_text("# mine\n", encoding="utf-8")
    other = package / "acme_maps/wavelet/loss.py.new"
    other.write_text("# mine too\n", encoding="utf-8")
    with pytest.raises(ScaffoldError, match="move it away"):
        update(package, templates=newer)
    assert other.read_text(encoding="utf-8") == "# mine too\n"


def test_a_link_is_the_authors(package: Path, newer: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    shutil.move(package / "acme_maps/wavelet/loss.py", elsewhere)
    (package / "acme_maps/wavelet/loss.py").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert actions(update(package, templates=newer))["acme_maps/wavelet/loss.py"] == "offered"
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize("path", ["CHANGELOG.md", "README.md"])  # new in the template, and in the record
def test_links_and_folders_of_the_author_stay(package: Path, newer: Path, tmp_path: Path, path: str) -> None:
    (newer / "package/CHANGELOG.md.tmpl").write_text("# Changelog\n")
    place = package / path
    place.unlink(missing_ok=True)
    (tmp_path / "mine.md").write_text("Mine.\n")
    place.symlink_to(tmp_path / "mine.md")
    assert actions(update(package, templates=newer))[path] == "offered"
    assert place.is_symlink()
    assert place.read_text() == "Mine.\n"
    place.unlink()
    place.mkdir()
    (place / "notes.txt").touch()
    assert actions(update(package, templates=newer))[path] == "yours"
    assert (place / "notes.txt").is_file()


def test_an_offer_does_not_replace_a_link_or_a_folder(package: Path, newer: Path, tmp_path: Path) -> None:
    (package / "README.md").write_text("Mine.\n")
    place = package / "README.md.new"
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ScaffoldError, match="move it away"):
        update(package, templates=newer)
    assert place.is_symlink()
    place.unlink()
    place.mkdir()
    with pytest.raises(ScaffoldError, match="move it away"):
        update(package, templates=newer)
    assert place.is_dir()


def test_an_update_that_was_killed_can_be_repeated(package: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "README.md").write_text("Mine.\n")
    real = writing.write_json

    def killed_after_the_offer(path: Path, value: object) -> None:
        if (package / "README.md.new").exists():
            raise KeyboardInterrupt
        real(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_json", killed_after_the_offer)
        with pytest.raises(KeyboardInterrupt):
            update(package, templates=newer)
    assert actions(update(package, templates=newer))["README.md"] == "offered"
    assert actions(update(package, templates=newer))["README.md"] == "yours"


def test_a_file_that_left_the_template_stays(package: Path, newer: Path) -> None:
    (newer / "package/.gitignore.tmpl").unlink()
    (newer / "package/CHANGELOG.md.tmpl").write_text("# Changelog\n")
    changes = actions(update(package, templates=newer))
    assert (changes[".gitignore"], changes["CHANGELOG.md"]) == ("retired", "written")
    assert (package / ".gitignore").is_file()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"components": [["loss", "../../etc"]]}', "component name"),
        ('{"components": [["loos", "x"]]}', "no kind 'loos' of component. Did you mean 'loss'"),
        ("{", "restore it"),
    ],
)
def test_a_damaged_record_is_refused(package: Path, record: str, message: str) -> None:
    (package / RECORD).write_text(record)
    with pytest.raises(ScaffoldError, match=message):
        update(package)


def test_a_package_without_record_is_refused(package: Path) -> None:
    (package / RECORD).unlink()
    assert "has no .neuropbr-plugin.json" in str(invoke("update", str(package)).exception)
