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
from neuropbr_exporters.operators import forbidden_operator

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

_CALL = re.compile(r"(?<![\w.])(torch|ops)\s*\.\s*(\w+)(?:\s*\.\s*(\w+))?")
"""An operator: `torch.NAME` is one of namespace `aten`, `ops.NAMESPACE.NAME` one of any. The name of a class, such as
`__torch__.torch.nn.modules.conv.Conv2d`, has a dot before `torch`."""

_WORDS = re.compile(r"\b(from_file|save|load|classes|pickle|ctypes)\b")
"""Words that no exported model contains, wherever they are."""


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
    word = _WORDS.search(text)
    if word is not None:
        raise refusal(path, f"its program contains {word[0]!r}")
    for match in _CALL.finditer(text):
        base, first, second = match.groups()
        operator = f"aten::{first}"
        if base == "ops":
            operator = f"{first}::{second}"
        reason = forbidden_operator(operator)
        if reason:
            raise refusal(path, f"its program calls {operator}, which {reason}")
    for part in ast.walk(tree):
        # A name that is imported is none of the file's own.
        if isinstance(part, ast.Import | ast.ImportFrom):
            raise refusal(path, "its program imports another")


def _check_objects(path: Path, content: bytes) -> None:
    """Refuse objects of classes that are compiled into extensions; TorchScript's own are in the program."""
    try:
        for _, argument, _ in pickletools.genops(content):
            if isinstance(argument, str) and argument.startswith("__torch__.torch.classes"):
                raise refusal(path, f"it holds an object of class {argument[:80]!r}")
    except (ValueError, EOFError, IndexError, UnicodeDecodeError) as error:
        raise damaged(path, FILE_TYPE, error) from error
