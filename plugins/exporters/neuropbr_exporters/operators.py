"""The operators that a model of a stranger may call: those that compute, and none that reaches files."""

import re
from functools import cache

import torch

_NAMESPACES = ("aten", "prim")
"""Where PyTorch's own operators are. Other namespaces belong to extensions, which may do anything."""

_PRIMITIVES = {
    "NumToTensor",
    "RaiseException",
    "TupleIndex",
    "TupleUnpack",
    "abs",
    "device",
    "dtype",
    "itemsize",
    "layout",
    "max",
    "min",
}
"""Operators of `prim` that programs contain; the others belong to the interpreter, which trusts their arguments."""

_INTERNAL = {
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "_assert_scalar",
    "_assert_tensor_metadata",
    "_conj",
    "_conj_physical",
    "_convolution",
    "_convolution_mode",
    "_fft_c2c",
    "_fft_c2r",
    "_fft_r2c",
    "_local_scalar_dense",
    "_log_softmax",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_prelu_kernel",
    "_safe_softmax",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_set_item",
    "_shape_as_tensor",
    "_softmax",
    "_stack",
    "_to_copy",
    "_trilinear",
    "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa",
    "_upsample_nearest_exact2d",
    "_weight_norm",
}
"""Operators of `aten` with one leading underscore that exports contain. PyTorch calls the others after its own checks:
`_reshape_alias` reads any memory when a program calls it."""

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
    if namespace == "prim" and bare not in _PRIMITIVES:
        return "is a part of PyTorch's interpreter"
    if re.match("_[^_]", bare) and bare not in _INTERNAL:
        return "is internal to PyTorch"
    if bare == "warn":
        return "writes to the terminal"
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


def forbidden_method(name: str) -> str:
    """Say why a program of a stranger may not contain a word, by which it could call an operator of a tensor.

    Args:
        name: A word of the program.

    Returns:
        The reason, to be put behind the word; empty when no operator has that name, or the operator only computes.
    """
    operator = f"aten::{name}"
    if not re.fullmatch(r"\w+", name) or not torch._C._jit_get_schemas_for_operator(operator):  # noqa: SLF001 - as above
        return ""
    return forbidden_operator(operator)
