"""The table of operators that the evaluator knows."""

from collections.abc import Callable, Sequence

from torch import Tensor

from neuropbr_exporters.coreml.evaluator.arguments import Arguments

Operator = Callable[[Arguments], Tensor | Sequence[Tensor]]
"""Computes an operation's outputs in float32 (integers and truth values as they are); the evaluator rounds them."""

OPERATORS: dict[str, Operator] = {}


def operator(kind: str) -> Callable[[Operator], Operator]:
    """Enter a function under the name that MIL gives the operation."""

    def enter(function: Operator) -> Operator:
        if kind in OPERATORS:
            raise ValueError(f"operator {kind} is entered twice")
        OPERATORS[kind] = function
        return function

    return enter
