"""Reads `torch.export` archives of strangers: without unpickling, and without evaluating a text of theirs.

`torch.export.load` trusts its file. It unpickles sample inputs and some weights, evaluates the expressions of symbolic
sizes, executes the guards, imports what the description of the arguments names, and loads compiled libraries. Here each
of these is refused or replaced before PyTorch sees it. Source: `torch/export/pt2_archive/_package.py` and
`torch/_export/serde/serialize.py` of PyTorch 2.11 to 2.14.
"""

import ast
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neuropbr_exporters.archives import Members, pack, read_members, refusal
from neuropbr_exporters.files import MANIFEST_NAME, damaged
from neuropbr_exporters.operators import forbidden_operator

FILE_TYPE = "a torch.export archive"

_PROGRAM = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_EXTRA = f"extra/{MANIFEST_NAME}"

# Named one by one: an archive may also hold pickled objects, libraries and programs of other runtimes.
_ALLOWED = tuple(
    map(
        re.compile,
        (
            re.escape(_PROGRAM),
            re.escape(_WEIGHTS),
            re.escape(_CONSTANTS),
            re.escape(_SAMPLE_INPUTS),
            re.escape(_EXTRA),
            r"data/weights/weight_\d+",
            r"data/constants/tensor_\d+",
            r"archive_format|archive_version|byteorder|\.data/(version|serialization_id|alignment)",
        ),
    )
)

_LONGEST_EXPRESSION = 20_000
"""Characters of an expression; those of open sizes have some hundred."""

_LARGEST_NUMBER = 2**63
_LARGEST_EXPONENT = 16

_SYMPY = {
    "Symbol",
    "Integer",
    "Float",
    "Rational",
    "Mul",
    "Add",
    "Mod",
    "Pow",
    "Max",
    "Min",
    "floor",
    "ceiling",
    "Abs",
    "Eq",
    "Ne",
    "Equality",
    "Unequality",
    "StrictLessThan",
    "LessThan",
    "StrictGreaterThan",
    "GreaterThan",
    "And",
    "Or",
    "Not",
    "FloorDiv",
    "ModularIndexing",
    "Where",
    "PythonMod",
    "CleanDiv",
    "CeilToInt",
    "FloorToInt",
    "CeilDiv",
    "PowByNatural",
    "FloatPow",
    "FloatTrueDiv",
    "IntTrueDiv",
    "TruncToFloat",
    "TruncToInt",
    "RoundToInt",
    "ToFloat",
    "Identity",
}
"""Functions of the expressions of sizes: those that `sympy.srepr` writes, and torch's own."""

_ASSUMPTIONS = {"positive", "integer", "nonnegative", "real", "zero", "negative", "nonzero", "finite"}
_MEASURES = {"size", "stride", "storage_offset"}
"""Methods of a tensor that a guard may call."""

_ROUNDING = {"sym_max", "sym_min", "sym_int", "sym_float", "trunc", "ceil", "floor"}
"""Functions of numbers that a guard may call."""

_SCALARS = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|pow|and_|or_|not_|eq|ne|lt|le|gt|ge|getitem|index)"
    r"|math\.(trunc|ceil|floor|sqrt)"
    r"|torch\.(sym_(int|float|max|min|not|ite|sum|sqrt)|_sym_sqrt)"
)
"""Functions of the numbers that sizes are computed with."""

_TENSOR_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)")


def read_untrusted(path: Path) -> io.BytesIO:
    """Read and check an archive.

    Args:
        path: The file.

    Returns:
        An archive with the same program and weights, which `torch.export.load` may read.

    Raises:
        ExportError: The file is missing or damaged, or holds something that could run code.
    """
    members = read_members(path, "pt2", file_type=FILE_TYPE, allowed=_ALLOWED)
    program = _document(path, members, _PROGRAM)
    for config in (_WEIGHTS, _CONSTANTS):
        _check_tensors(path, members, config)
    _check_program(path, program)
    # The program of a generator needs no sample of its inputs, and those that are there are a pickle.
    return pack({**members, _PROGRAM: json.dumps(program).encode(), _SAMPLE_INPUTS: b""})


def _document(path: Path, members: Members, name: str) -> Any:
    """A JSON member, parsed."""
    try:
        return json.loads(members[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise damaged(path, FILE_TYPE, error) from error


def _check_tensors(path: Path, members: Members, config: str) -> None:
    """Refuse pickled tensors, and tensors that are larger than what the archive stores of them."""
    folder = config.rpartition("/")[0]
    try:
        for name, entry in _document(path, members, config)["config"].items():
            stored = f"{folder}/{entry['path_name']}"
            if entry["use_pickle"] is not False or stored not in members:
                raise refusal(path, f"its tensor {name[:80]!r} is pickled, or stored elsewhere")
            sizes = [size["as_int"] for size in entry["tensor_meta"]["sizes"]]
            # PyTorch fills a tensor of which nothing is stored with zeros, however large it claims to be.
            if not members[stored] and math.prod(sizes):
                raise refusal(path, f"nothing is stored of its tensor {name[:80]!r}")
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(path, FILE_TYPE, error) from error


def _check_program(path: Path, program: Any) -> None:
    """Check everything in a program that PyTorch would look up, evaluate or execute; notes for people are removed."""
    if not isinstance(program, dict):
        raise damaged(path, FILE_TYPE, ValueError("its program is no JSON object"))
    guards = program.get("guards_code", [])
    if not isinstance(guards, list):
        raise damaged(path, FILE_TYPE, ValueError("its guards are no list"))
    for guard in guards:
        if not isinstance(guard, str) or not _is_guard(guard):
            raise refusal(path, f"its guard {str(guard)[:80]!r} is more than a comparison of sizes")
    for node in _mappings(program):
        for key, value in node.items():
            # PyTorch looks up the functions that these notes name; they serve debugging alone.
            if key == "metadata":
                node[key] = {}
            elif key == "expr_str" and not _is_size(value):
                raise refusal(path, f"its expression {str(value)[:80]!r} is more than arithmetic of sizes")
            elif key in ("in_spec", "out_spec") and not _is_plain_tree(value):
                raise refusal(path, f"its description of the arguments, {str(value)[:80]!r}, names a class")
            elif key in ("as_operator", "as_graph", "as_custom_obj") or (key == "custom_obj_values" and value):
                raise refusal(path, f"it holds {key!r}, a part that is no tensor")
        if "target" in node and "inputs" in node:
            reason = _forbidden_target(node["target"])
            if reason:
                raise refusal(path, f"it calls {str(node['target'])[:80]!r}, which {reason}")


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """All mappings in a JSON document, the outer ones first."""
    # By a list of what is left, because a document may be nested deeper than Python can call itself.
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield item
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)


def _forbidden_target(target: Any) -> str:
    """Why a node may not call a function; empty when it may."""
    if not isinstance(target, str):
        return "is no name"
    if _SCALARS.fullmatch(target):
        return ""
    match = _TENSOR_OPERATOR.fullmatch(target)
    if match is None:
        return "is no operator of PyTorch itself"
    namespace, name, overload = match.groups()
    return forbidden_operator(f"{namespace}::{name}.{overload}")


def _parsed(text: Any) -> ast.expr | None:
    """A text as a Python expression; None when it is none, or is too long to be one of a generator."""
    if not isinstance(text, str) or len(text) > _LONGEST_EXPRESSION or not text.isascii():
        return None
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _is_size(text: Any) -> bool:
    """Whether a text is arithmetic of sizes, which sympy may evaluate."""
    expression = _parsed(text)
    return expression is not None and all(map(_is_arithmetic, _parts(expression)))


def _parts(expression: ast.expr) -> list[ast.AST]:
    """All parts of an expression that decide what it does; operators and contexts do not."""
    parts: list[ast.AST] = []
    for part in ast.walk(expression):
        if not isinstance(part, ast.operator | ast.unaryop | ast.cmpop | ast.boolop | ast.expr_context):
            parts.append(part)
    return parts


def _is_arithmetic(part: ast.AST) -> bool:
    match part:
        case ast.BinOp(op=ast.Pow()) | ast.BinOp(op=ast.LShift()):
            return False
        case ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.BoolOp():
            return True
        case ast.Call(func=ast.Name(id=name), args=arguments):
            # 9**(9**9) is arithmetic too, and would never end.
            return name in _SYMPY and ("Pow" not in name or _is_small_power(arguments))
        case ast.keyword(arg=name, value=ast.Constant()):
            return name in _ASSUMPTIONS
        case ast.Name(id=name):
            # A symbol of a size, such as s39 or u0, or a function that is called.
            return name in _SYMPY or re.fullmatch(r"[a-z]{1,4}\d*|int_oo|oo", name) is not None
        case ast.Constant(value=str() as name):
            # The name of a symbol. sympy evaluates text, so nothing else may be in it, and no number.
            return re.fullmatch(r"[A-Za-z_]\w{0,39}", name) is not None
        case ast.Constant(value=bool() | None):
            return True
        case ast.Constant(value=int() | float() as number):
            return abs(number) <= _LARGEST_NUMBER
    return False


def _is_small_power(arguments: Sequence[ast.expr]) -> bool:
    """Whether the arguments of a power are a base without powers and a small whole number."""
    if len(arguments) != 2:
        return False
    base, exponent = arguments
    for part in ast.walk(base):
        if isinstance(part, ast.Name) and "Pow" in part.id:
            return False
    if isinstance(exponent, ast.Call) and isinstance(exponent.func, ast.Name) and exponent.func.id == "Integer":
        if len(exponent.args) != 1 or exponent.keywords:
            return False
        exponent = exponent.args[0]
    if isinstance(exponent, ast.UnaryOp) and isinstance(exponent.op, ast.USub):
        exponent = exponent.operand
    if not isinstance(exponent, ast.Constant) or not isinstance(exponent.value, int):
        return False
    return abs(exponent.value) <= _LARGEST_EXPONENT


def _is_guard(text: str) -> bool:
    """Whether a text compares sizes of inputs, such as `L['views'].size()[3] == 512`."""
    expression = _parsed(text)
    return expression is not None and all(map(_is_comparison, _parts(expression)))


def _is_comparison(part: ast.AST) -> bool:
    match part:
        case ast.BinOp(op=ast.Pow()) | ast.BinOp(op=ast.LShift()):
            return False
        case ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.BoolOp() | ast.Subscript():
            return True
        case ast.Call(func=ast.Attribute(attr=name), keywords=[]) | ast.Attribute(attr=name):
            return name in _MEASURES or name in _ROUNDING
        case ast.Name(id=name):
            return name in ("L", "torch", "math")  # the inputs, and where the functions of sizes are
        case ast.Constant(value=str() as name):
            return re.fullmatch(r"\w{1,40}", name) is not None
        case ast.Constant(value=int() as number):
            return abs(number) <= _LARGEST_NUMBER
    return False


def _is_plain_tree(text: Any) -> bool:
    """Whether the description of arguments has tuples, lists and dictionaries alone.

    The context of a dictionary is JSON within JSON: its keys. PyTorch imports any class that a mapping in it names.
    """
    try:
        version, root = json.loads(text)
        left = [root]
        while left:
            node = left.pop()
            context = node["context"]
            if node["type"] not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
                return False
            if context is not None:
                keys = json.loads(context)
                if keys is not None and not all(type(key) is str for key in keys):
                    return False
                if not isinstance(keys, list | None):
                    return False
            left.extend(node["children_spec"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return type(version) is int
