"""The web exporter: pages that hold a model, without running them. A slow test runs them in a browser."""

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import small_run
import torch
import web_runtime
from click.testing import CliRunner

from neuropbr_core.cli import root
from neuropbr_core.contracts import ExportSpec
from neuropbr_core.errors import ExportError
from neuropbr_core.testing.exporter import ExporterSuite, TinyGenerator, example_export_spec
from neuropbr_exporters.web import Options
from neuropbr_exporters.web.exporter import WebExporter
from neuropbr_exporters.web.page import read_model, write_page
from neuropbr_exporters.web.runtime import VERSION, find_runtime, read_runtime


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package in whose place nothing runs: these tests open no browser."""
    return web_runtime.stand_in(tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module")
def exported(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page, to read only."""
    path = tmp_path_factory.mktemp("web") / "deep" / "model.html"
    spec = replace(example_export_spec(), photo_size=24, aligned=True, flash=True)
    return WebExporter(Options(runtime=str(package))).export(TinyGenerator(directed=True), spec, path).path


@pytest.mark.slow
class TestWeb(ExporterSuite):
    use = "web"

    @pytest.fixture(autouse=True)
    def beside_the_package(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Work in the folder whose `node_modules` has the package."""
        monkeypatch.chdir(package.parent.parent)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="neuropbr-facts">(.*?)</script>', page)
    assert found is not None
    facts: dict[str, Any] = json.loads(found[1])
    return facts


def with_model(page: Path, target: Path, model: bytes) -> Path:
    """The page with another model in its block."""
    text = page.read_text(encoding="utf-8")
    packed = base64.b64encode(gzip.compress(model)).decode()
    target.write_text(re.sub(r'(id="neuropbr-model">)[^<]*', lambda match: match[1] + packed, text), encoding="utf-8")
    return target


def test_page_holds_the_onnx_file(exported: Path) -> None:
    model = onnx.load_model_from_string(read_model(exported))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["views", "visible", "directions"]
    assert list(exported.parent.iterdir()) == [exported]


def test_page_asks_for_nothing_and_runs_its_own_programs_alone(exported: Path) -> None:
    page = exported.read_text(encoding="utf-8")
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    policy = {}
    for directive in found[1].replace("&#x27;", "'").split("; "):
        name, _, value = directive.partition(" ")
        policy[name] = value
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert "connect-src" not in policy  # so that `default-src` decides
    assert "unsafe-inline" not in policy["script-src"]
    assert "unsafe-eval" not in policy["script-src"].replace("'wasm-unsafe-eval'", "")
    assert len(re.findall(r"<script>", page)) == policy["script-src"].count("sha256-") == 7
    without_programs = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)=["'](?!data:|blob:)""", without_programs)


def test_page_knows_its_model(exported: Path) -> None:
    page = exported.read_text(encoding="utf-8")
    facts = data_of(page)
    assert {name: facts[name] for name in ("views", "size", "photoSize", "aligned")} == {
        "views": 2,
        "size": 16,
        "photoSize": 24,
        "aligned": True,
    }
    assert facts["inputs"] == ["views", "visible", "directions"]
    assert facts["maps"]["normal"] == {"low": -1.0, "high": 1.0, "file": "normal.png"}
    assert "Drop 2 photos here" in page
    assert "Use the phone&#x27;s flash" in page
    assert "Save cameras.json" in page


def page_of(spec: ExportSpec, package: Path, model: bytes = b"model") -> str:
    """A page around bytes that nobody reads."""
    return write_page(model, spec, read_runtime(package))


def test_the_same_model_gives_the_same_page(package: Path) -> None:
    assert page_of(example_export_spec(), package) == page_of(example_export_spec(), package)


def test_a_plain_model_asks_for_no_corners(package: Path) -> None:
    page = page_of(example_export_spec(("views",)), package)
    assert "Save cameras.json" not in page
    assert "corners" not in page.partition("<main>")[2].partition('id="drop"')[0]
    assert "the phone&#x27;s flash" not in page
    assert data_of(page)["photoSize"] == 16


def test_hostile_metadata_stay_text(package: Path) -> None:
    spec = example_export_spec()
    spec.metadata["run"] = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    page = page_of(spec, package)
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_too_large_a_model_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuropbr_exporters.web.page.LARGEST_MODEL", 1000)
    with pytest.raises(ExportError, match="a page holds at most"):
        page_of(example_export_spec(), package, bytes(1001))


def test_missing_runtime_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"npm install --ignore-scripts onnxruntime-web@{VERSION}"
    reason = WebExporter(Options()).requirements().reason
    assert reason.startswith(f"onnxruntime-web is not installed here; `{command}` puts it into node_modules")
    with pytest.raises(ExportError, match=r"runtime: .*nowhere has no package\.json"):
        find_runtime(str(tmp_path / "nowhere"))


def test_the_nearest_runtime_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = web_runtime.stand_in(tmp_path)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_runtime(None) == package
    nearer = web_runtime.stand_in(tmp_path / "a")
    assert find_runtime(None) == nearer


def test_another_version_and_missing_files_are_refused(tmp_path: Path) -> None:
    other = web_runtime.stand_in(tmp_path / "other", version="1.20.0")
    with pytest.raises(ExportError, match=rf"is version 1\.20\.0, and pages are made of version {re.escape(VERSION)}"):
        find_runtime(str(other))
    package = web_runtime.stand_in(tmp_path / "torn")
    (package / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(ExportError, match=r"has no dist/ort-wasm-simd-threaded\.wasm; install it again"):
        find_runtime(str(package))
    (package / "package.json").write_text("[")
    with pytest.raises(ExportError, match=r"package\.json: cannot be read"):
        find_runtime(str(package))


def test_reading_a_page_needs_no_runtime(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exporter = WebExporter(Options())
    assert not exporter.requirements().ok
    assert exporter.reading_requirements().ok
    inputs = example_export_spec(seed=1).inputs
    expected = TinyGenerator(directed=True)(**inputs).maps
    for name, value in exporter.load(exported)(inputs).items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0)


def test_a_changed_weight_in_a_page_shows(exported: Path, tmp_path: Path) -> None:
    """The model that is loaded is the one in the page."""
    model = onnx.load_model_from_string(read_model(exported))
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight.raw_data = bytes(len(weight.raw_data))
    path = with_model(exported, tmp_path / "changed.html", model.SerializeToString())
    inputs = example_export_spec(seed=2).inputs
    maps = WebExporter(Options()).load(path)(inputs)
    expected = TinyGenerator(directed=True)(**inputs).maps
    assert max((maps[name] - value).abs().max() for name, value in expected.items()) > 1e-2


def test_a_strangers_page_with_foreign_operators_is_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(read_model(exported))
    model.graph.node.add(op_type="Reads", domain="evil", output=["x"])
    path = with_model(exported, tmp_path / "evil.html", model.SerializeToString())
    with pytest.raises(ExportError, match=r"evil\.html: it calls evil:Reads, which is no operator of ONNX"):
        WebExporter(Options()).load_untrusted(path)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (rb"neuropbr export", b"somebody else", "is no page that the web exporter wrote"),
        (rb'id="neuropbr-model"', b'id="nothing"', "holds 0 models instead of one"),
        (rb'id="neuropbr-wasm"', b'id="neuropbr-model"', "holds 2 models instead of one"),
        (rb'(neuropbr-model">.{40})[^<]*', rb"\1", "its model is cut off"),
        (rb'(neuropbr-model">)[^<]*', rb"\1AAAA", "not a page of the web exporter, or damaged"),
        (rb'(neuropbr-model">)[^<]*', rb"\1&&&&", "not a page of the web exporter, or damaged"),
    ],
)
def test_damaged_pages_are_refused(
    pattern: bytes, replacement: bytes, message: str, exported: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.html"
    path.write_bytes(re.sub(pattern, replacement, exported.read_bytes()))
    with pytest.raises(ExportError, match=message):
        WebExporter(Options()).load(path)


def test_a_bomb_is_not_unpacked(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuropbr_exporters.web.page.LARGEST_MODEL", 1000)
    path = with_model(exported, tmp_path / "bomb.html", bytes(10**6))
    with pytest.raises(ExportError, match="larger than a page holds"):
        WebExporter(Options()).load(path)


@pytest.mark.slow
def test_commands_write_verify_and_run_a_page(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export`, `verify` and `infer --model` with a page; the runtime is needed for the first of them only."""
    monkeypatch.chdir(tmp_path)
    run = small_run.save_run(tmp_path / "run", small_run.small_recipe(*small_run.PLAIN))
    dataset = small_run.blank_dataset(tmp_path / "data", samples=1)
    photos = dataset / "input" / "clean" / "sample_0000"
    command = ["export", "--run", str(run), "--to", "web", "--output", "out", "--input", str(photos)]
    refused = CliRunner().invoke(root, command)
    assert "npm install --ignore-scripts onnxruntime-web@" in str(refused.exception)
    assert not Path("out").exists()
    done = CliRunner().invoke(root, [*command, "--option", f"web.runtime={package}"])
    assert done.exit_code == 0, done.exception
    record = json.loads(Path("out/web.html.verify.json").read_text())
    assert record["passed"]
    assert record["details"]["onnxruntime-web"] == VERSION
    # Pages are published, and the author's folders are nobody's business; the record stays at home.
    page = Path("out/web.html")
    assert str(package) in json.dumps(record)
    assert str(package) not in page.read_text(encoding="utf-8")
    assert str(package) not in json.dumps(WebExporter(Options()).read_metadata(page))
    verified = CliRunner().invoke(root, ["verify", "out/web.html", "--run", str(run), "--input", str(photos)])
    assert verified.exit_code == 0, verified.exception
    inferred = CliRunner().invoke(
        root, ["infer", "--model", "out/web.html", "--input", str(photos), "--output", "maps"]
    )
    assert inferred.exit_code == 0, inferred.exception
    assert (tmp_path / "maps" / "albedo.png").is_file()
