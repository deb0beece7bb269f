"""Reads TorchScript files of strangers: their programs are looked through before PyTorch loads them.

A TorchScript file is a program in PyTorch's own language, and parts of it run while it is loaded. The language has no
files or sockets of its own, but a few operators have. They are called by name, so the text of a program shows them.
"""

import ast
import io
import pickletools
import re
from pathlib import Path

from neuropbr_exporters.archives import pack, read_members, refusal
from neuropbr_exporters.files import MANIFEST_NAME, damaged
from neuropbr_exporters.operators import forbidden_method, forbidden_operator

FILE_TYPE = "a TorchScript file"

_NOTES = re.compile(r"code/.*\.debug_pkl|traced_inputs(\.pkl|/\d+)")
"""Places in the source, for messages of PyTorch, and the inputs that were traced; no program needs them."""

_ALLOWED = tuple(
    map(
        re.compile,
        (
            rf"extra/{re.escape(MANIFEST_NAME)}",
            r"code/[\w./]+\.py",
            _NOTES.pattern,
            r"data\.pkl|constants\.pkl",
            r"(data|constants)/\d+",
            r"version|byteorder|\.data/(version|serialization_id|alignment)",
        ),
    )
)

_BASE = re.compile(r"(?<![\w.])(torch|ops)\b(?:\s*\.\s*(\w+))?(?:\s*\.\s*(\w+))?\s*(\(?)")
"""An operator that is called: `torch.NAME` is one of namespace `aten`, `ops.NAMESPACE.NAME` one of any. The name of a
class, such as `__torch__.torch.nn.modules.conv.Conv2d`, has a dot before `torch`."""

_CLASSES = re.compile(r"\bclasses\b")
"""Namespace of the classes that are compiled into extensions: `torch.classes`."""

_WORDS = re.compile(
    r"\b(from_file|save|load|classes|pickle|ctypes|print|fork|awaitable|rpc_\w+|uninitialized|unchecked_cast)\b"
)
"""Words that no exported model contains, wherever they are: they name files, classes of extensions, other processes,
the terminal, and values that are taken for another type than they have."""


def read_untrusted(path: Path) -> io.BytesIO:
    """Read and check a file.

    Args:
        path: The file.

    Returns:
        A file with the same program and weights, which `torch.jit.load` may read.

    Raises:
        ExportError: The file is missing or damaged, or its program reaches files or calls extensions.
    """
    members = read_members(path, "torchscript", file_type=FILE_TYPE, allowed=_ALLOWED)
    kept = {}
    for name, content in members.items():
        if _NOTES.fullmatch(name):
            continue
        if name.endswith(".py"):
            _check_program(path, content)
        elif name.endswith(".pkl"):
            _check_objects(path, content)
        kept[name] = content
    return pack(kept)


def _check_program(path: Path, content: bytes) -> None:
    """Refuse a program that calls what no generator needs."""
    try:
        text = content.decode("ascii")  # another reader could take other letters for the same names
        tree = ast.parse(text)  # TorchScript is written in the grammar of Python
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise damaged(path, FILE_TYPE, error) from error
    # In the raw text and not in the tree: PyTorch's parser could see a call where Python's sees a comment or a string.
    found = _WORDS.search(text)
    if found is not None:
        raise refusal(path, f"its program contains {found[0]!r}")
    for match in _BASE.finditer(text):
        base, first, second, bracket = match.groups()
        operator = f"{first}::{second}"
        if base == "torch":
            operator = f"aten::{first}"
        # Under another name, as after `x = ops`, the calls that follow would not look like calls of operators.
        if not bracket or (base == "torch") is not (second is None):
            raise refusal(path, f"its program uses {match[0].strip()[:80]!r} without a call")
        reason = forbidden_operator(operator)
        if reason:
            raise refusal(path, f"its program calls {operator}, which {reason}")
    # Tensors have the operators as methods, and getattr takes the name of one as a text.
    words = set(re.findall(r"\w+", text))
    for part in ast.walk(tree):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            words.add(part.value)
    for word in sorted(words):
        reason = forbidden_method(word)
        if reason:
            raise refusal(path, f"its program contains {word[:80]!r}, which {reason}")
    for part in ast.walk(tree):
        # A name that is imported is none of the file's own.
        if isinstance(part, ast.Import | ast.ImportFrom):
            raise refusal(path, "its program imports another")


def _check_objects(path: Path, content: bytes) -> None:
    """Refuse objects of classes that are compiled into extensions; TorchScript's own are in the program."""
    try:
        for _, argument, _ in pickletools.genops(content):
            # As a word anywhere: a pickle may split the name of a class where it likes.
            if isinstance(argument, str) and _CLASSES.search(argument):
                raise refusal(path, f"it holds an object of class {argument[:80]!r}")
    except (ValueError, EOFError, IndexError, UnicodeDecodeError) as error:
        raise damaged(path, FILE_TYPE, error) from error
