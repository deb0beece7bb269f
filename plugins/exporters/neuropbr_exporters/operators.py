"""The operators that a model of a stranger may call: those that compute, and none that reaches files."""

import re
from functools import cache

import torch

_NAMESPACES = ("aten", "prim")
"""Where PyTorch's own operators are. Other namespaces belong to extensions, which may do anything."""

_FILE_ARGUMENT = re.compile(r"(file|path|name$|handle)", re.IGNORECASE)
"""Arguments of type text by which an operator could name a file, as `filename` of `aten::from_file`."""

_UNCHECKED = re.compile(r"unsafe|unchecked|from_blob|from_file|data_ptr|\bsave\b|\bload\b|pickle|python", re.IGNORECASE)
"""Operators that skip the checks of indices and sizes, read memory by address, write files, or call Python."""


@cache
def forbidden_operator(name: str) -> str:
    """Say why a model of a stranger may not call an operator.

    Args:
        name: `namespace::operator`, with or without the overload behind a dot.

    Returns:
        The reason, to be put behind the operator's name; empty when the operator only computes.
    """
    qualified, _, overload = name.partition(".")
    namespace, _, bare = qualified.partition("::")
    if namespace not in _NAMESPACES:
        return "is no operator of PyTorch itself"
    if _UNCHECKED.search(bare):
        return "reaches files or memory"
    schemas = torch._C._jit_get_schemas_for_operator(qualified)  # noqa: SLF001 - PyTorch has no public list of operators
    if not schemas:
        return "is not known to this PyTorch"
    overloads = {schema.overload_name or "default" for schema in schemas}
    if overload and overload not in overloads:
        return "is not known to this PyTorch"
    for schema in schemas:
        for argument in schema.arguments:
            if "str" in str(argument.type) and _FILE_ARGUMENT.search(argument.name):
                return "takes the name of a file"
    return ""
