"""Inputs that nobody thought of: recipes, JSON files and option values, of which none may end in a traceback.

Each input is either taken or refused with an error of the project. Anything else is a fault of the program.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import small_run
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuropbr_core.cli import root
from neuropbr_core.data.checking.quarantine import restore
from neuropbr_core.data.layout.paths import read_cameras, read_metadata
from neuropbr_core.data.registration.stored import read_estimates
from neuropbr_core.data.synthesis.capture_folder import CaptureFolder
from neuropbr_core.data.synthesis.environments import read_environment
from neuropbr_core.errors import NeuroPBRError, RecipeError
from neuropbr_core.evaluation.summary import load_record
from neuropbr_core.exporting.record import read_record, record_path
from neuropbr_core.model.weights import read_spec
from neuropbr_core.outputs.manifest import foreign_file, is_package
from neuropbr_core.reading import DocumentError, parse_plain
from neuropbr_core.recipe import load_recipe
from neuropbr_core.registry import Registry
from neuropbr_core.shown import printable, shortened
from neuropbr_core.training.checkpoints.store import CheckpointStore
from neuropbr_core.training.provenance import recorded_teacher, recorded_trained

pytestmark = pytest.mark.slow

TRIES = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)
FEWER = settings(TRIES, max_examples=30)

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0, 1, -1, 10**9])
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["off", "null", "../..", "/dev/null", "a/b", "a:b", "neuropbr:resnet", "\x1b[2J", "\x00", "{}"]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


def keys_of(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all values of a recipe or document, those of its mappings too."""
    paths = [path] if path else []
    if isinstance(tree, dict):
        for key, value in tree.items():
            paths += keys_of(value, (*path, key))
    return paths


QUICKSTART = load_recipe("neuropbr:quickstart").tree
KEYS = [keys for keys in keys_of(QUICKSTART) if keys[0] not in ("name", "description")]


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with another value at a path."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def places_of(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a JSON document, entries of lists too."""
    places = [path]
    items: list[Any] = []
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))[:3]
    for key, value in items:
        places += places_of(value, (*path, key))
    return places


@TRIES
@given(st.data())
def test_recipes_with_another_value(data: st.DataObject) -> None:
    keys = data.draw(st.sampled_from(KEYS))
    value = data.draw(VALUES)
    override = f"{'.'.join(keys)}={json.dumps(value)}"
    with suppress(RecipeError):
        load_recipe("neuropbr:quickstart", [override])


@TRIES
@given(st.sampled_from(KEYS), TEXTS)
def test_recipes_with_any_text(keys: tuple[str, ...], text: str) -> None:
    with suppress(RecipeError):
        load_recipe("neuropbr:quickstart", [f"{'.'.join(keys)}={text}"])


@TRIES
@given(text=st.one_of(st.text(max_size=200), st.binary(max_size=200), VALUES.map(json.dumps)))
def test_recipe_files_of_any_content(text: str | bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("recipe", numbered=True) / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with suppress(RecipeError):
        load_recipe(path)


@FEWER
@given(
    st.sampled_from(["unet", "resnet", "mobilenetv3"]), st.lists(st.integers(-1, 70), max_size=40), st.integers(0, 9)
)
def test_networks_of_any_depth(use: str, channels: list[int], size: int) -> None:
    from neuropbr_core.recipe import resolve_recipe
    from neuropbr_core.training.loop.networks import check_buildable

    overrides = [f"model.encoder={{use: {use}}}", f"model.decoder.channels={channels}"]
    if use == "unet":
        overrides.append(f"model.encoder.channels={channels}")
    side = 16 + 7 * size
    overrides += [f"data.image_size={side}", f"data.output_size={side}", "data.crop_size=null"]
    with suppress(NeuroPBRError):
        check_buildable(resolve_recipe("neuropbr:quickstart", overrides), None)


@TRIES
@given(st.one_of(st.text(), st.binary(), VALUES.map(json.dumps)))
def test_json_of_any_content(text: str | bytes) -> None:
    with suppress(DocumentError):
        parse_plain(text)


@TRIES
@given(st.text())
def test_shown_text_has_no_controls(text: str) -> None:
    shown = shortened(text, 50)
    assert len(shown) <= 51
    assert shown.isprintable() or not any(character in shown for character in "\x1b\r\n\x00\u202e")
    assert "\x1b" not in printable(text)
    shown.encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run.save_run(tmp_path_factory.mktemp("runs") / "run", small_run.small_recipe())


@FEWER
@given(data=st.data())
def test_model_json_with_another_value(data: st.DataObject, run: Path) -> None:
    file = run / "checkpoints" / "epoch_0001" / "model.json"
    content = file.read_bytes()
    document = json.loads(content)
    wrong = changed(document, data.draw(st.sampled_from(places_of(document))), data.draw(VALUES))
    try:
        file.write_text(json.dumps(wrong))
        with suppress(NeuroPBRError):
            read_spec(file.parent)
    finally:
        file.write_bytes(content)


READERS = {
    "provenance.json": lambda path: (recorded_trained(path), recorded_teacher(path)),
    "summary.json": load_record,
    "render_metadata.json": read_metadata,
    "cameras.json": read_cameras,
    "cameras.estimated.json": read_estimates,
}
SOUND: dict[str, Any] = {
    "provenance.json": {
        "seed": 1,
        "command": ["x"],
        "components": [{"kind": "encoder"}],
        "split": {"train": ["a"], "val": []},
        "drawn": ["b"],
        "teacher": {"checkpoint": "x", "weights": "y", "model": "z"},
    },
    "summary.json": {
        "samples": 1,
        "materials": ["a"],
        "scores": {"albedo": {"model": {"mae": 0.1}}},
        "training_mean": {"albedo": [0.1, 0.2, 0.3]},
        "bumpier_samples": 1,
        "bumpier": {},
        "per_material": {},
        "per_sample": [{"sample": "s", "material": "a", "values": {"albedo/mae": None}}],
        "weights": "",
    },
    "render_metadata.json": {"sample_0000": "oak"},
    "cameras.json": {"sample_0000": [{"homography": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "position": [0.0, 0.0, 1.0]}]},
    "cameras.estimated.json": {"method": 1, "samples": {"clean/sample_0000": {"photos": "x", "problem": "y"}}},
}


@pytest.mark.parametrize("name", READERS)
@TRIES
@given(data=st.data())
def test_json_files_with_another_value(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz-{name}"
    wrong = changed(SOUND[name], data.draw(st.sampled_from(places_of(SOUND[name]))), data.draw(VALUES))
    path.write_text(json.dumps(wrong), encoding="utf-8")
    with suppress(NeuroPBRError):
        READERS[name](path)


@TRIES
@given(content=st.one_of(st.binary(max_size=100), VALUES.map(lambda value: json.dumps(value).encode())))
def test_files_of_any_content(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz-any"
    for inner in ("input", "checkpoints/epoch_0001", "quarantine"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for name, reader in READERS.items():
        (folder / name).write_bytes(content)
        with suppress(NeuroPBRError):
            reader(folder / name)
    for name in ("synthesis.json", "captures.json", "cameras.json", "render_metadata.json"):
        (folder / "input" / name).write_bytes(content)
    with suppress(NeuroPBRError):
        CaptureFolder(folder).settings()
    record_path(folder / "x.onnx").write_bytes(content)
    with suppress(NeuroPBRError):
        read_record(folder / "x.onnx")
    (folder / "quarantine" / "quarantine.json").write_bytes(content)
    with suppress(NeuroPBRError):
        restore(folder / "quarantine")
    for name in ("best", "latest", "epoch_0001/manifest.json"):
        (folder / "checkpoints" / name).write_bytes(content)
    store = CheckpointStore(folder / "checkpoints")
    store.pointed("best")
    store.is_complete(1)
    with suppress(NeuroPBRError):
        store.newest_sound()
    (folder / "map.hdr").write_bytes(b"#?RADIANCE\n" + content)
    with suppress(NeuroPBRError):
        read_environment(folder / "map.hdr")


PACKAGE: dict[str, Any] = {
    "target": "gltf",
    "material": "oak",
    "files": [{"file": "a.png", "sha256": "0", "role": "base_color"}],
}


@TRIES
@given(data=st.data())
def test_manifests_of_packages_with_another_value(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz-package"
    folder.mkdir(exist_ok=True)
    wrong = changed(PACKAGE, data.draw(st.sampled_from(places_of(PACKAGE))), data.draw(VALUES))
    (folder / "manifest.json").write_text(json.dumps(wrong), encoding="utf-8")
    (folder / "a.png").write_bytes(b"x")
    if is_package(folder):
        foreign_file(folder)


LINES = [
    "NEUROPBR_API = 1",
    "NEUROPBR_API = 10 ** 9",
    "from neuropbr_core.plugin import hookimpl",
    "@hookimpl",
    "def create_loss(options): return None",
    "def create_loss(options, other): ...",
    "def loss_options(): return 3",
    "def create_encoder(options, in_channels): ...",
    "raise SystemExit(0)",
    "raise KeyboardInterrupt",
    "1 / 0",
    "(",
]
SOURCES = st.one_of(
    st.text(max_size=200), st.binary(max_size=200), st.lists(st.sampled_from(LINES), max_size=6).map("\n".join)
)


@TRIES
@given(source=SOURCES)
def test_plugin_files_of_any_content(source: str | bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("plugin") / "any.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass"))
    registry = Registry()
    with suppress(NeuroPBRError):
        entry = registry.add_file(path)
        registry.choose(entry.kind, entry.name)


ROWS = [b'{"step": 1, "epoch": 1, "total": 0.5}', b"[1]", b"null", b'{"step": "\\u001b[2J"}', b'{"total": 1e999}', b"{"]


@settings(FEWER, max_examples=15)
@given(content=st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())), data=st.data())
def test_reports_and_tables_of_foreign_folders(content: bytes, data: st.DataObject, run: Path) -> None:
    files = {
        run / "summary.json": content,
        run / "provenance.json": content,
        run / "metrics.jsonl": b"\n".join(data.draw(st.lists(st.sampled_from([*ROWS, content]), max_size=5))),
        run / "exports" / "x.onnx.verify.json": content,
    }
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
    for words in (["compare", str(run)], ["report", str(run), "--output", str(run.parent / "r.html"), "--overwrite"]):
        error = CliRunner().invoke(root, words).exception
        assert error is None or isinstance(error, SystemExit | NeuroPBRError), repr(error)


COMMANDS = [
    ["recipe", "check", "{}"],
    ["recipe", "show", "neuropbr:quickstart", "--set", "{}"],
    ["recipe", "diff", "{}", "neuropbr:quickstart"],
    ["run", "neuropbr:quickstart", "--run-name", "{}", "--dry-run"],
    ["run", "neuropbr:quickstart", "--data", "{}", "--dry-run"],
    ["plugin", "show", "{}"],
    ["list-plugins", "--kind", "{}"],
    ["data", "check", "{}"],
    ["data", "restore", "{}"],
    ["infer", "{}"],
    ["infer", ".", "--model", "{}"],
    ["verify", "{}", "--run", "."],
    ["evaluate", "--run", "{}"],
    ["export", "--run", "{}", "--to", "onnx"],
    ["batch", "{}"],
    ["package", "{}", "--for", "gltf"],
    ["package", ".", "--for", "{}"],
    ["report", "{}"],
    ["compare", "{}"],
    ["sweep", "neuropbr:quickstart", "--set", "training.epochs={},0", "--dry-run"],
    ["sweep", "neuropbr:quickstart", "--seeds", "{}", "--dry-run"],
    ["plugin", "new", "{}", "{}", "--output", "{}"],
    ["plugin", "update", "{}"],
    ["--plugin", "{}", "list-plugins"],
    ["--block", "{}", "list-plugins"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
@FEWER
@given(value=TEXTS)
def test_options_of_any_value(value: str, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.getbasetemp() / "fuzz-options"
        folder.mkdir(exist_ok=True)
        patch.chdir(folder)
        result = CliRunner().invoke(root, [word.replace("{}", value) for word in words])
    error = result.exception
    # As the command line decides: an error of the operating system has a number, one of a library has none.
    system = isinstance(error, OSError) and error.errno is not None
    assert error is None or system or isinstance(error, SystemExit | NeuroPBRError), repr(error)
