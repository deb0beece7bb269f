"""Files of strangers: what could run code or reach files is refused before PyTorch sees it."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from neuropbr_core.contracts import Exporter
from neuropbr_core.errors import ExportError
from neuropbr_core.testing.exporter import TinyGenerator, example_export_spec
from neuropbr_exporters.files import MANIFEST_NAME
from neuropbr_exporters.operators import forbidden_operator
from neuropbr_exporters.pt2 import Options as ArchiveOptions
from neuropbr_exporters.pt2.exporter import ArchiveExporter
from neuropbr_exporters.torchscript import Options as ScriptOptions
from neuropbr_exporters.torchscript.exporter import TorchScriptExporter

EXPORTERS: dict[str, Exporter] = {
    "pt2": ArchiveExporter(ArchiveOptions()),
    "torchscript": TorchScriptExporter(ScriptOptions()),
}


@pytest.fixture(scope="module", params=EXPORTERS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Exporter, Path]:
    exporter = EXPORTERS[request.param]
    path = tmp_path_factory.mktemp("sound") / f"model{exporter.suffix}"
    exporter.export(TinyGenerator(directed=True).eval(), example_export_spec(), path)
    return exporter, path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    EXPORTERS["pt2"].export(TinyGenerator(directed=True).eval(), example_export_spec(), path)
    return path


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that an attack makes when it runs."""
    return tmp_path / "attacked"


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def rewritten(source: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """Copy an archive with some members replaced or added, by their names below the top folder."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as copy:
        left = dict(changes)
        for name in whole.namelist():
            root, _, inner = name.partition("/")
            copy.writestr(name, left.pop(inner, whole.read(name)))
        for inner, content in left.items():
            copy.writestr(f"{root}/{inner}", content)
    return target


def program_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as whole:
        name = next(name for name in whole.namelist() if name.endswith("models/model.json"))
        program: dict[str, Any] = json.loads(whole.read(name))
    return program


def with_program(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    program = program_of(source)
    change(program)
    return rewritten(source, target, {"models/model.json": json.dumps(program).encode()})


def test_a_sound_file_of_a_stranger_gives_the_same_maps(exported: tuple[Exporter, Path]) -> None:
    exporter, path = exported
    inputs = example_export_spec().inputs
    expected = exporter.load(path)(inputs)
    for name, value in exporter.load_untrusted(path)(inputs).items():
        torch.testing.assert_close(value, expected[name], atol=0, rtol=0)


def test_open_sizes_of_a_stranger(tmp_path: Path) -> None:
    exporter = ArchiveExporter(ArchiveOptions(size="open"))
    path = tmp_path / "model.pt2"
    exporter.export(TinyGenerator(directed=True).eval(), example_export_spec(), path)
    inputs = example_export_spec(size=32).inputs
    assert exporter.load_untrusted(path)(inputs)["albedo"].shape[-1] == 32


def test_sample_inputs_are_never_unpickled(archive: Path, mark: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save(((Attack(mark),), {}), content)
    path = rewritten(archive, tmp_path / "evil.pt2", {"data/sample_inputs/model.pt": content.getvalue()})
    EXPORTERS["pt2"].load_untrusted(path)(example_export_spec().inputs)
    assert not mark.exists()


def expression(text: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        first = next(iter(values.values()))
        first["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 1}}}

    return change


def guard(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda program: program.update(guards_code=[text])


def tree(text: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text

    return change


def target(name: str) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = name

    return change


def member(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["inputs"].append({"name": "x", "arg": {key: value}, "kind": 1})

    return change


_ENUM = json.dumps({"__enum__": True, "fqn": "antigravity:x", "name": "y"})
_DICT = {"type": "builtins.dict", "context": _ENUM, "children_spec": []}


@pytest.mark.parametrize(
    "change",
    [
        expression("__import__('pathlib').Path('MARK').touch()"),
        expression("[x for x in (1,)]"),
        expression("Integer(9)**Integer(9)**Integer(9)"),
        expression("Pow(Integer(9), Integer(999999999))"),
        expression("Pow(Integer(9), Pow(Integer(9), Integer(9)))"),
        expression("Pow(Integer(9), Mul(Integer(16), Integer(16), Integer(16)))"),
        expression("Pow(Pow(Integer(9), Integer(16)), Integer(16))"),
        expression("Pow(Integer(9), Integer('99999999999'))"),
        expression("PowByNatural(s0, s0)"),
        expression("Symbol('s0', positive=Integer(1))"),
        expression("exec('1')"),
        expression("s0.__class__"),
        expression("Symbol('__import__(1)')"),
        expression("(" * 5000),
        guard("__import__('pathlib').Path('MARK').touch()"),
        guard("L['views'].size()[0] == 1, 0); __import__('os'); ("),
        guard("L.__class__ == 1"),
        guard("L['views'].size()[0] == 9**9**9"),
        guard("L['views'].size()[0] == 1 << 9000000000"),
        guard("L['\"); x = 1; (\"'].size()[0] == 1"),
        tree(json.dumps([1, _DICT])),
        tree(json.dumps([1, {"type": "os.system", "context": None, "children_spec": []}])),
        tree("nonsense"),
        target("torch.ops.aten.from_file.default"),
        target("torch.ops.mylib.run.default"),
        target("torch.hub.load"),
        target("torch.ops.aten.add.__call__"),
        target("math.__loader__"),
        target("torch.ops.aten._reshape_alias.default"),
        target("torch.ops.aten._print.default"),
        target("torch.ops.prim.rpc_async.default"),
        target("_operator.methodcaller"),
        target("os.system"),
        member("as_operator", "torch.hub.load"),
        member("as_custom_obj", {"name": "x", "class_fqn": "y"}),
        lambda program: program.update(guards_code="text"),
        lambda program: program["graph_module"]["graph"].update(custom_obj_values={"x": {}}),
    ],
)
def test_programs_that_could_do_more_are_refused(
    change: Callable[[dict[str, Any]], None], archive: Path, mark: Path, tmp_path: Path
) -> None:
    path = with_program(archive, tmp_path / "evil.pt2", change)
    path.write_bytes(path.read_bytes())
    with pytest.raises(ExportError, match=r"evil\.pt2: .*(--trust|damaged)"):
        EXPORTERS["pt2"].load_untrusted(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/weights/model.pt",
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/aotinductor/model/x.so",
        "models/other.json",
        "MODELS/model.json",
        "extra/../../x",
    ],
)
def test_members_that_no_model_needs_are_refused(name: str, archive: Path, tmp_path: Path) -> None:
    path = rewritten(archive, tmp_path / "evil.pt2", {name: b"{}"})
    with pytest.raises(ExportError, match=r"which an exported model has no use for.*--trust"):
        EXPORTERS["pt2"].load_untrusted(path)


def test_pickled_weights_are_refused(archive: Path, mark: Path, tmp_path: Path) -> None:
    name = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(archive) as whole:
        inner = next(inner for inner in whole.namelist() if inner.endswith(name))
        config = json.loads(whole.read(inner))
    next(iter(config["config"].values()))["use_pickle"] = True
    changes = {name: json.dumps(config).encode(), "data/weights/weight_0": pickle.dumps(Attack(mark))}
    with pytest.raises(ExportError, match=r"is pickled, or stored elsewhere"):
        EXPORTERS["pt2"].load_untrusted(rewritten(archive, tmp_path / "evil.pt2", changes))
    assert not mark.exists()


def test_two_members_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.pt2"
    path.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(path, "a") as whole, pytest.warns(UserWarning, match="Duplicate name"):
        whole.writestr(next(name for name in whole.namelist() if name.endswith("model.json")), b"{}")
    with pytest.raises(ExportError, match="is there twice"):
        EXPORTERS["pt2"].load_untrusted(path)


def test_an_archive_that_unpacks_to_far_more_is_refused(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    path.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as whole:
        root = whole.namelist()[0].partition("/")[0]
        whole.writestr(f"{root}/data/weights/weight_99", bytes(80 * 2**20))
    with pytest.raises(ExportError, match="far larger than the file"):
        EXPORTERS["pt2"].load_untrusted(path)


class Writer(nn.Module):
    """A script that maps a file into memory, and makes it when it is missing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return torch.from_file(self.name, shared=True, size=4) + views.sum()


class Saver(nn.Module):
    """A script that writes a file."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        torch.save(views, self.name)
        return views


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("script", [Writer, Saver])
def test_scripts_that_touch_files_are_refused(script: type[nn.Module], mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.jit.save(
        torch.jit.script(script(str(mark))),
        path,
        _extra_files={MANIFEST_NAME: json.dumps({"inputs": {"views": [1]}, "outputs": ["albedo"]})},
    )
    with pytest.raises(ExportError, match=r"its program c.*--trust"):
        EXPORTERS["torchscript"].load_untrusted(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ops.mylib.run(views)", r"calls mylib::run, which is no operator of PyTorch itself"),
        ("torch . from_file(views)", r"contains 'from_file'"),
        ("torch.unknown_thing(views)", r"is not known to this PyTorch"),
        ("__torch__.torch.classes.x.Y()", r"contains 'classes'"),
        ("ops.prim.pythonop(views)", r"reaches files or memory"),
        ("ops.prim.rpc_async(views)", r"contains 'rpc_async'"),
        ("ops.prim.Print(views)", r"is a part of PyTorch's interpreter"),
        ("torch.warn('text')", r"writes to the terminal"),
        ("print('text')", r"contains 'print'"),
        ("unchecked_cast(int, views)", r"contains 'unchecked_cast'"),
        ("ops", r"uses 'ops' without a call"),
        ("ops.aten", r"uses 'ops.aten' without a call"),
        ("torch", r"uses 'torch' without a call"),
        ("torch.relu", r"uses 'torch.relu' without a call"),
        ("getattr(torch, 'relu')(views)", r"uses 'torch' without a call"),
        ("(torch. # a comment\n relu(views))", r"uses 'torch' without a call"),
        ("views._reshape_alias([99999], [1])", r"contains '_reshape_alias', which is internal to PyTorch"),
        ("views._unsafe_view([1])", r"contains '_unsafe_view', which reaches files or memory"),
        ("getattr(views, '_unsafe' '_view')([1])", r"contains '_unsafe_view', which reaches files or memory"),
    ],
)
def test_scripts_of_other_operators_are_refused(change: str, said: str, tmp_path: Path) -> None:
    sound = tmp_path / "model.pt"
    EXPORTERS["torchscript"].export(TinyGenerator(directed=True).eval(), example_export_spec(), sound)
    with zipfile.ZipFile(sound) as whole:
        name = next(name for name in whole.namelist() if name.endswith(".py"))
        text = whole.read(name).decode()
    line = next(line for line in text.splitlines() if "self.generator" in line)  # the first of a function
    indent = line[: len(line) - len(line.lstrip())]
    evil = text.replace(line, f"{indent}extra = {change}\n{line}", 1)
    path = rewritten(sound, tmp_path / "evil.pt", {name.partition("/")[2]: evil.encode()})
    with pytest.raises(ExportError, match=said):
        EXPORTERS["torchscript"].load_untrusted(path)


@pytest.mark.parametrize(
    "global_name", [b"__torch__.torch.classes.quantized\nX", b"__torch__\ntorch.classes.quantized.X"]
)
def test_objects_of_compiled_classes_are_refused(global_name: bytes, tmp_path: Path) -> None:
    """A pickle may split the name of a class into module and name where it likes."""
    exporter = EXPORTERS["torchscript"]
    sound = tmp_path / "model.pt"
    exporter.export(TinyGenerator(directed=True).eval(), example_export_spec(), sound)
    evil = rewritten(sound, tmp_path / "evil.pt", {"data.pkl": b"\x80\x02c" + global_name + b"\n)\x81."})
    with pytest.raises(ExportError, match=r"holds an object of class .*torch\.classes.*--trust"):
        exporter.load_untrusted(evil)


def test_a_program_that_is_no_python_is_damaged(tmp_path: Path) -> None:
    sound = tmp_path / "model.pt"
    EXPORTERS["torchscript"].export(TinyGenerator(directed=True).eval(), example_export_spec(), sound)
    path = rewritten(sound, tmp_path / "odd.pt", {"code/__torch__/other.py": "class Ä: pass".encode()})
    with pytest.raises(ExportError, match="damaged"):
        EXPORTERS["torchscript"].load_untrusted(path)


@pytest.mark.parametrize("byte", range(40))
def test_a_file_with_a_changed_byte_is_refused_or_computes(
    byte: int, exported: tuple[Exporter, Path], tmp_path: Path
) -> None:
    """Nothing but an `ExportError`: the checksums of the archive find what is left of damage."""
    exporter, sound = exported
    content = bytearray(sound.read_bytes())
    content[byte * len(content) // 40] ^= 0xFF
    path = tmp_path / sound.name
    path.write_bytes(content)
    with suppress(ExportError):
        exporter.load_untrusted(path)


def _place_elsewhere(onnx: Any, tensor: Any) -> None:
    """Make a tensor name another file as the place of its values."""
    tensor.name = "stolen"
    tensor.dims[:] = [4]
    tensor.data_type = onnx.TensorProto.UINT8
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")


def _in_a_sparse_tensor(onnx: Any, model: Any) -> None:
    _place_elsewhere(onnx, model.graph.sparse_initializer.add().values)


def _in_an_attribute(onnx: Any, model: Any) -> None:
    attribute = model.graph.node[0].attribute.add(name="sparse", type=onnx.AttributeProto.SPARSE_TENSOR)
    _place_elsewhere(onnx, attribute.sparse_tensor.values)


def _in_a_functions_default(onnx: Any, model: Any) -> None:
    function = model.functions.add(name="f", domain="")
    default = function.attribute_proto.add(name="value", type=onnx.AttributeProto.TENSOR)
    _place_elsewhere(onnx, default.t)


def test_onnx_keeps_its_weights_in_one_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from neuropbr_exporters.onnx import Options
    from neuropbr_exporters.onnx.exporter import OnnxExporter

    exporter = OnnxExporter(Options())
    path = tmp_path / "model.onnx"
    exporter.export(TinyGenerator(directed=True).eval(), example_export_spec(), path)
    exporter.load_untrusted(path)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    onnx.save(model, tmp_path / "evil.onnx")
    with pytest.raises(ExportError, match="in another file"):
        exporter.load_untrusted(tmp_path / "evil.onnx")
    for hide in (_in_a_sparse_tensor, _in_an_attribute, _in_a_functions_default):
        model = onnx.load(path)
        hide(onnx, model)
        onnx.save(model, tmp_path / "evil.onnx")
        with pytest.raises(ExportError, match="in another file"):
            exporter.load_untrusted(tmp_path / "evil.onnx")
    model = onnx.load(path)
    model.graph.node[0].domain = "com.evil"
    onnx.save(model, tmp_path / "evil.onnx")
    with pytest.raises(ExportError, match="no operator of ONNX"):
        exporter.load_untrusted(tmp_path / "evil.onnx")


def test_onnx_of_another_format_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from neuropbr_exporters.onnx.exporter import check_model

    # The name of a model's producer is at its beginning, where ONNX Runtime looks for its own format's mark.
    with pytest.raises(ExportError, match=r"of ONNX Runtime's own format.*--trust"):
        check_model(b"\x12\x0ezzORTM" + bytes(8), tmp_path / "evil.onnx")


@pytest.mark.parametrize("outputs", [["albedo"], ["albedo"] * 9])
def test_files_that_return_other_maps_than_they_name_are_refused(outputs: list[str], tmp_path: Path) -> None:
    sound = tmp_path / "model.pt"
    EXPORTERS["torchscript"].export(TinyGenerator(directed=True).eval(), example_export_spec(), sound)
    with zipfile.ZipFile(sound) as whole:
        manifest = json.loads(whole.read(next(name for name in whole.namelist() if name.endswith(MANIFEST_NAME))))
    manifest["outputs"] = outputs
    path = rewritten(sound, tmp_path / "odd.pt", {f"extra/{MANIFEST_NAME}": json.dumps(manifest).encode()})
    with pytest.raises(ExportError, match=rf"does not return the {len(outputs)} maps"):
        EXPORTERS["torchscript"].load_untrusted(path)(example_export_spec().inputs)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("aten::conv2d", True),
        ("aten::conv2d.default", True),
        ("aten::conv2d.nonsense", False),
        ("aten::einsum", True),
        ("aten::from_file", False),
        ("aten::save", False),
        ("aten::_unsafe_index.Tensor", False),
        ("aten::_reshape_alias", False),
        ("aten::_convolution", True),
        ("aten::__getitem__", True),
        ("aten::warn", False),
        ("prim::profile", False),
        ("prim::NumToTensor.Scalar", True),
        ("mkldnn::_convolution_pointwise", False),
        ("nonsense", False),
    ],
)
def test_operators(name: str, allowed: bool) -> None:
    assert (forbidden_operator(name) == "") is allowed
