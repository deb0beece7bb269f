"""Each operator of the reference evaluator, against values worked out by hand and coremltools' own inference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator import Evaluator, MilProgram, Operation, Variable
from neuropbr_exporters.coreml.evaluator.program import OPERATORS
from neuropbr_exporters.coreml.package import from_pymil
from neuropbr_exporters.coreml.toolkit import coremltools, quiet

Numbers = Any


def run(kind: str, arguments: dict[str, Any], *expected: Tensor, dtype: str = "fp32") -> list[Tensor]:
    """Run one operation whose arguments are all constants; outputs have the extents of `expected`."""
    constants: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for name, value in arguments.items():
        items = value if isinstance(value, tuple) else (value,)
        keys = tuple(f"{name}{place}" for place in range(len(items)))
        constants |= dict(zip(keys, map(constant, items), strict=True))
        names[name] = keys if isinstance(value, tuple) else keys[0]
    outputs = tuple(Variable(f"out{n}", tuple(e.shape), type_of(e, dtype)) for n, e in enumerate(expected))
    program = MilProgram((), (Operation("it", kind, names, outputs),), tuple(o.name for o in outputs), constants)
    return list(Evaluator(program).run({}).values())


def constant(value: Any) -> Any:
    return value if isinstance(value, (str, Tensor)) else torch.tensor(value)


def type_of(value: Tensor, dtype: str) -> str:
    return {torch.bool: "bool", torch.int64: "int32", torch.int32: "int32"}.get(value.dtype, dtype)


def image(values: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values)[None, None]


ROW = image([[1.0, 2.0, 3.0, 4.0]])
SQUARE = image([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
ONES = torch.ones(1, 1, 2, 2)
CUMULATIVE = 0.8413447460685429  # of the normal distribution at 1

BY_HAND: list[tuple[str, dict[str, Any], tuple[Tensor, ...]]] = [
    # convolution and pooling
    ("conv", {"x": SQUARE, "weight": ONES}, (image([[12.0, 16.0], [24.0, 28.0]]),)),
    ("conv", {"x": SQUARE, "weight": ONES, "bias": [1.0], "strides": [2, 2]}, (image([[13.0]]),)),
    ("conv", {"x": SQUARE, "weight": ONES, "dilations": [2, 2]}, (image([[20.0]]),)),
    # "same" with an even kernel pads behind, "same_lower" before
    ("conv", {"x": ROW, "weight": image([[1.0, 10.0]]), "pad_type": "same"}, (image([[21.0, 32.0, 43.0, 4.0]]),)),
    (
        "conv",
        {"x": ROW, "weight": image([[1.0, 10.0]]), "pad_type": "same_lower"},
        (image([[10.0, 21.0, 32.0, 43.0]]),),
    ),
    (
        "conv",
        {"x": ROW, "weight": image([[1.0]]), "pad_type": "custom", "pad": [0, 0, 1, 2]},
        (image([[0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]]),),
    ),
    (
        "conv",
        {"x": torch.tensor([[[[2.0]], [[3.0]]]]), "weight": torch.tensor([[[[5.0]]], [[[7.0]]]]), "groups": 2},
        (torch.tensor([[[[10.0]], [[21.0]]]]),),
    ),
    (
        "conv_transpose",
        {"x": image([[1.0, 2.0]]), "weight": image([[1.0, 10.0]]), "strides": [1, 2]},
        (image([[1.0, 10.0, 2.0, 20.0]]),),
    ),
    (
        "conv_transpose",
        {"x": image([[1.0, 2.0]]), "weight": image([[1.0, 2.0, 3.0]]), "pad_type": "custom", "pad": [0, 0, 1, 1]},
        (image([[4.0, 7.0]]),),
    ),
    (
        "max_pool",
        {"x": -ROW, "kernel_sizes": [1, 2], "strides": [1, 2], "pad_type": "custom", "pad": [0, 0, 1, 1]},
        (image([[-1.0, -2.0, -4.0]]),),
    ),
    ("avg_pool", {"x": SQUARE, "kernel_sizes": [2, 2], "strides": [1, 1]}, (image([[3.0, 4.0], [6.0, 7.0]]),)),
    (
        "avg_pool",
        {"x": ROW, "kernel_sizes": [1, 2], "strides": [1, 2], "pad_type": "custom", "pad": [0, 0, 1, 1]},
        (image([[0.5, 2.5, 2.0]]),),
    ),
    (
        "avg_pool",
        {
            "x": ROW,
            "kernel_sizes": [1, 2],
            "strides": [1, 2],
            "pad_type": "custom",
            "pad": [0, 0, 1, 1],
            "exclude_padding_from_average": True,
        },
        (image([[1.0, 2.5, 4.0]]),),
    ),
    # resampling: the grid points of coremltools' documentation
    (
        "upsample_bilinear",
        {"x": image([[0.0, 1.0]]), "scale_factor_width": 2.5, "align_corners": False},
        (image([[0.0, 0.1, 0.5, 0.9, 1.0]]),),
    ),
    (
        "upsample_bilinear",
        {"x": image([[0.0, 1.0]]), "scale_factor_width": 2.5},
        (image([[0.0, 0.25, 0.5, 0.75, 1.0]]),),
    ),
    ("upsample_nearest_neighbor", {"x": image([[1.0, 2.0]])}, (image([[1.0, 1.0, 2.0, 2.0]]),)),
    (
        "pixel_shuffle",
        {"x": torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1), "upscale_factor": 2},
        (image([[1.0, 2.0], [3.0, 4.0]]),),
    ),
    (
        "pixel_unshuffle",
        {"x": image([[1.0, 2.0], [3.0, 4.0]]), "downscale_factor": 2},
        (torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1),),
    ),
    # normalisation
    (
        "batch_norm",
        {"x": image([[3.0]]), "mean": [1.0], "variance": [3.0], "gamma": [4.0], "beta": [5.0], "epsilon": 1.0},
        (image([[9.0]]),),
    ),
    ("instance_norm", {"x": image([[1.0, 3.0]]), "epsilon": 0.0}, (image([[-1.0, 1.0]]),)),
    (
        "layer_norm",
        {"x": [[1.0, 3.0]], "axes": [-1], "gamma": [2.0, 2.0], "beta": [0.0, 1.0], "epsilon": 3.0},
        (torch.tensor([[-1.0, 2.0]]),),
    ),
    (
        "layer_norm",
        {"x": [[[1.0], [3.0]]], "axes": [1], "gamma": [2.0, 4.0], "epsilon": 0.0},
        (torch.tensor([[[-2.0], [4.0]]]),),
    ),
    # activation
    ("relu6", {"x": [-1.0, 3.0, 7.0]}, (torch.tensor([0.0, 3.0, 6.0]),)),
    ("elu", {"x": [-1.0, 2.0], "alpha": 2.0}, (torch.tensor([2 * (math.exp(-1) - 1), 2.0]),)),
    ("leaky_relu", {"x": [-1.0, 2.0], "alpha": 0.1}, (torch.tensor([-0.1, 2.0]),)),
    ("silu", {"x": [1.0]}, (torch.tensor([1 / (1 + math.exp(-1))]),)),
    ("softplus", {"x": [0.0]}, (torch.tensor([math.log(2)]),)),
    ("gelu", {"x": [1.0, -1.0]}, (torch.tensor([CUMULATIVE, CUMULATIVE - 1]),)),
    ("gelu", {"x": [1.0], "mode": "SIGMOID_APPROXIMATION"}, (torch.tensor([1 / (1 + math.exp(-1.702))]),)),
    (
        "gelu",
        {"x": [1.0], "mode": "TANH_APPROXIMATION"},
        (torch.tensor([0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * 1.044715))]),),
    ),
    # shape
    ("concat", {"values": ([[1.0]], [[2.0]]), "axis": 1, "interleave": False}, (torch.tensor([[1.0, 2.0]]),)),
    (
        "concat",
        {"values": ([[1.0, 2.0]], [[3.0, 4.0]]), "axis": 1, "interleave": True},
        (torch.tensor([[1.0, 3.0, 2.0, 4.0]]),),
    ),
    (
        "split",
        {"x": [[1.0, 2.0, 3.0]], "axis": 1, "split_sizes": [1, 2]},
        (torch.tensor([[1.0]]), torch.tensor([[2.0, 3.0]])),
    ),
    ("fill_like", {"ref_tensor": [1.0, 2.0], "value": 7.0}, (torch.tensor([7.0, 7.0]),)),
    (
        "pad",
        {"x": [[1.0, 2.0]], "pad": [0, 0, 1, 2], "constant_val": 9.0},
        (torch.tensor([[9.0, 1.0, 2.0, 9.0, 9.0]]),),
    ),
    (
        "pad",
        {"x": [[1.0, 2.0, 3.0]], "pad": [1, 1], "mode": "reflect"},
        (torch.tensor([[2.0, 1.0, 2.0, 3.0, 2.0]]),),
    ),
    ("slice_by_size", {"x": [1.0, 2.0, 3.0], "begin": [1], "size": [2]}, (torch.tensor([2.0, 3.0]),)),
    (
        "slice_by_index",
        {
            "x": [[1, 2, 3], [4, 5, 6]],
            "begin": [-1, 2],
            "end": [0, 0],
            "stride": [1, -2],
            "squeeze_mask": [True, False],
            "end_mask": [False, True],
        },
        (torch.tensor([6, 4]),),
    ),
    # choice
    ("topk", {"x": [1.0, 3.0, 2.0], "k": 2, "ascending": False}, (torch.tensor([3.0, 2.0]), torch.tensor([1, 2]))),
    ("topk", {"x": [1.0, 3.0, 2.0], "k": 1, "ascending": True}, (torch.tensor([1.0]), torch.tensor([0]))),
    ("argsort", {"x": [3.0, 1.0, 2.0], "ascending": True}, (torch.tensor([1, 2, 0]),)),
    # epsilons, which also keep a division finite
    ("inverse", {"x": [0.0, 1.0], "epsilon": 0.5}, (torch.tensor([2.0, 1 / 1.5]),)),
    ("rsqrt", {"x": [0.0, 3.0], "epsilon": 1.0}, (torch.tensor([1.0, 0.5]),)),
    ("log", {"x": [1.0], "epsilon": 1.0}, (torch.tensor([math.log(2)]),)),
    # types
    ("cast", {"x": [-1.5, 2.7], "dtype": "int32"}, (torch.tensor([-1, 2]),)),
    ("cast", {"x": [0.0, 0.5], "dtype": "bool"}, (torch.tensor([False, True]),)),
    ("cast", {"x": [True, False], "dtype": "fp32"}, (torch.tensor([1.0, 0.0]),)),
    ("real_div", {"x": [-7], "y": [2]}, (torch.tensor([-4]),)),
    # compressed weights: 2 bits an index, least significant first: 0b11100100 is 0, 1, 2, 3
    (
        "constexpr_lut_to_dense",
        {"lut": [5.0, 6.0, 7.0, 8.0], "indices": torch.tensor([0b11100100, 0b01], dtype=torch.uint8), "shape": [5]},
        (torch.tensor([5.0, 6.0, 7.0, 8.0, 6.0]),),
    ),
    # 6 bits an index: the second one lies in both bytes
    (
        "constexpr_lut_to_dense",
        {
            "lut": torch.arange(64.0),
            "indices": torch.tensor([(33 & 3) << 6 | 5, 33 >> 2], dtype=torch.uint8),
            "shape": [2],
        },
        (torch.tensor([5.0, 33.0]),),
    ),
    # from iOS 18 on: two tables of two entries, one for each row
    (
        "constexpr_lut_to_dense",
        {
            "lut": torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, 1, 2, 1),
            "indices": torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=torch.uint8),
        },
        (torch.tensor([[1.0, 2.0, 2.0], [4.0, 3.0, 3.0]]),),
    ),
    (
        "constexpr_affine_dequantize",
        {
            "quantized_data": torch.tensor([[1, 2], [3, 4]], dtype=torch.int8),
            "scale": [0.5, 2.0],
            "zero_point": torch.tensor([1, 0], dtype=torch.int8),
            "axis": 0,
        },
        (torch.tensor([[0.0, 0.5], [6.0, 8.0]]),),
    ),
]


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"), BY_HAND, ids=lambda value: value if isinstance(value, str) else ""
)
def test_value_by_hand(kind: str, arguments: dict[str, Any], expected: tuple[Tensor, ...]) -> None:
    for result, truth in zip(run(kind, arguments, *expected), expected, strict=True):
        torch.testing.assert_close(result, truth.to(result.dtype))


A = np.array([[-1.5, 0.0, 2.5], [3.0, -0.25, 0.5]], np.float32)
B = np.array([[2.0, 1.0, -2.5], [3.0, 0.5, 4.0]], np.float32)
P = np.abs(A) + 0.5
TRUE = np.array([[True, False, True], [False, False, True]])
SAME = np.array([[True, True, False], [False, True, True]])

BY_INFERENCE: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"x": A, "y": B}) for kind in ("add", "sub", "mul", "real_div", "maximum", "minimum", "mod", "floor_div")),
    *((kind, {"x": A, "y": B}) for kind in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")),
    *((kind, {"x": TRUE, "y": SAME}) for kind in ("logical_and", "logical_or", "logical_xor")),
    *((kind, {"x": A}) for kind in ("abs", "ceil", "cos", "erf", "exp", "exp2", "floor", "round", "sign", "sin")),
    *((kind, {"x": A}) for kind in ("square", "tanh", "identity", "sigmoid", "relu")),
    *((kind, {"x": P}) for kind in ("sqrt", "log", "rsqrt", "inverse")),
    *((kind, {"x": P, "axes": [1], "keep_dims": True}) for kind in ("reduce_mean", "reduce_sum", "reduce_max")),
    *(
        (kind, {"x": A, "axes": [0]})
        for kind in ("reduce_min", "reduce_l1_norm", "reduce_l2_norm", "reduce_sum_square")
    ),
    ("reduce_log_sum_exp", {"x": A, "axes": [-1]}),
    ("reduce_mean", {"x": A}),
    ("pow", {"x": P, "y": B}),
    ("floor_div", {"x": np.array([-7, 7], np.int32), "y": np.array([2, 2], np.int32)}),
    ("logical_not", {"x": TRUE}),
    ("clip", {"x": A, "alpha": np.float32(-1), "beta": np.float32(2)}),
    ("sigmoid_hard", {"x": A, "alpha": np.float32(0.3), "beta": np.float32(0.4)}),
    ("thresholded_relu", {"x": A, "alpha": np.float32(0.5)}),
    ("softmax", {"x": A, "axis": 0}),
    ("softplus", {"x": A}),
    ("cast", {"x": A, "dtype": "int32"}),
    ("select", {"cond": TRUE, "a": A, "b": B}),
    ("linear", {"x": A, "weight": B, "bias": np.array([1.0, -1.0], np.float32)}),
    ("matmul", {"x": A, "y": B, "transpose_y": True}),
    ("matmul", {"x": A, "y": B, "transpose_x": True}),
    ("reshape", {"x": A, "shape": np.array([3, -1], np.int32)}),
    ("transpose", {"x": A, "perm": [1, 0]}),
    ("expand_dims", {"x": A, "axes": [0, -1]}),
    ("squeeze", {"x": A[None], "axes": [0]}),
    ("concat", {"values": [A, B], "axis": 0}),
    ("stack", {"values": [A, B], "axis": 1}),
    ("tile", {"x": A, "reps": np.array([2, 1], np.int32)}),
    ("fill", {"shape": np.array([2, 2], np.int32), "value": np.float32(3)}),
    ("reverse", {"x": A, "axes": [1]}),
    ("slice_by_index", {"x": A, "begin": [0, 1], "end": [2, 3], "stride": [1, 1]}),
    ("slice_by_index", {"x": A, "begin": [1, 0], "end": [2, 3], "stride": [1, 2], "begin_mask": [False, True]}),
    ("gather", {"x": A, "indices": np.array([2, 0, -1], np.int32), "axis": 1}),
    ("gather_along_axis", {"x": A, "indices": np.array([[0, 2], [1, -1]], np.int32), "axis": 1}),
    ("pad", {"x": A, "pad": np.array([1, 0, 0, 2], np.int32), "mode": "constant", "constant_val": np.float32(1)}),
]


@pytest.mark.parametrize(("kind", "arguments"), BY_INFERENCE, ids=lambda value: value if isinstance(value, str) else "")
def test_value_by_coremltools(kind: str, arguments: dict[str, Any]) -> None:
    """The operation as coremltools builds it, with its defaults, against the value that coremltools infers for it."""
    coremltools()
    with quiet():
        from coremltools.converters.mil.mil import Builder as mb  # noqa: N813
        from coremltools.converters.mil.mil import Function, types
        from coremltools.converters.mil.mil import Program as PymilProgram

        program = PymilProgram()
        with Function({"unused": mb.placeholder((1,), dtype=types.fp32)}) as function:
            value = getattr(mb, kind)(**arguments)
            function.set_outputs([value])
        program.add_function("main", function)
        truth = torch.from_numpy(np.array(value.val))
        (result,) = Evaluator(from_pymil(program)).run({"unused": torch.zeros(1)}).values()
    assert result.is_floating_point() == truth.is_floating_point()
    torch.testing.assert_close(result, truth, check_dtype=False, rtol=1e-5, atol=1e-6)


def test_every_operator_has_a_test() -> None:
    assert OPERATORS.keys() == {kind for kind, *_ in BY_HAND} | {kind for kind, *_ in BY_INFERENCE}


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("avg_pool", {"x": ROW, "kernel_sizes": [1, 2], "ceil_mode": True}, "pooling with ceil_mode"),
        ("conv_transpose", {"x": ROW, "weight": ONES, "pad_type": "same"}, "symmetric padding only"),
        ("pad", {"x": ROW, "pad": [1, 1], "mode": "wrap"}, "pad with mode wrap"),
        ("lstm", {"x": ROW}, r"does not know the ML Program operations lstm; it knows abs, .* on macOS"),
    ],
)
def test_what_is_not_known_is_refused(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        run(kind, arguments, ROW)


def test_results_are_rounded_to_the_declared_type() -> None:
    """1 + 2^-11 lies halfway between two FP16 numbers and goes to the even one; float32 keeps it."""
    arguments = {"x": [1.0], "y": [2.0**-11]}
    assert run("add", arguments, torch.ones(1), dtype="fp16")[0].item() == 1.0
    assert run("add", arguments, torch.ones(1), dtype="fp32")[0].item() == 1 + 2.0**-11


def test_sums_are_accumulated_in_float32() -> None:
    """4,096 ones and as many 2^-4: an FP16 sum would stop growing at 2,048."""
    x = torch.cat((torch.ones(4096), torch.full((4096,), 2.0**-4))).half()
    assert run("reduce_sum", {"x": x, "axes": [0]}, torch.ones(()), dtype="fp16")[0].item() == 4352


def test_wrong_extents_are_refused() -> None:
    with pytest.raises(
        ExportError, match=r"operation it \(relu\) made \(1, 1, 1, 4\), but .* declares \(4,\) for out0"
    ):
        run("relu", {"x": ROW}, torch.ones(4))
