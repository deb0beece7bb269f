"""What the graph becomes on its way to a package: rewrites are exact, and each operator survives the whole way."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F

from neuropbr_exporters.coreml.evaluator import Evaluator, MilProgram
from neuropbr_exporters.coreml.graph import decomposed, fit_to_half, fold_constants
from neuropbr_exporters.coreml.package import from_pymil
from neuropbr_exporters.coreml.toolkit import coremltools, quiet

Layer = Callable[[Tensor], Tensor]


@cache
def weight(*shape: int) -> Tensor:
    """Made when a layer runs for the first time, which must be before it is traced."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def bright(x: Tensor) -> Tensor:
    return x > 0.5


LAYERS: dict[str, Layer] = {
    "strided convolution": lambda x: F.conv2d(x, weight(6, 8, 3, 3), weight(6), stride=2, padding=1),
    "grouped convolution": lambda x: F.conv2d(x, weight(8, 1, 5, 5), padding=2, groups=8),
    "dilated convolution": lambda x: F.conv2d(x, weight(4, 8, 3, 3), padding=2, dilation=2),
    "transposed convolution": lambda x: F.conv_transpose2d(x, weight(8, 3, 4, 4), stride=2, padding=1),
    "one-dimensional convolution": lambda x: F.conv1d(x[:, :, 0], weight(4, 8, 3), padding=1),
    "maximum pooling": lambda x: F.max_pool2d(x, 3, 2, 1),
    "mean pooling": lambda x: F.avg_pool2d(x, 2),
    "padded mean pooling": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "mean pooling without padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "global pooling": lambda x: F.adaptive_avg_pool2d(x, 1),
    "group normalisation": lambda x: F.group_norm(x, 2, weight(8), weight(8)),
    "layer normalisation": lambda x: F.layer_norm(x, (12,), weight(12), weight(12)),
    "instance normalisation": F.instance_norm,
    "unit vectors": lambda x: F.normalize(x, dim=1),
    "bilinear upsampling": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "bilinear upsampling to corners": lambda x: F.interpolate(x, size=(24, 36), mode="bilinear", align_corners=True),
    "nearest upsampling": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "reflected border": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "zero border": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "gelu": F.gelu,
    "approximate gelu": lambda x: F.gelu(x, approximate="tanh"),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "relu6": F.relu6,
    "elu": F.elu,
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "whole bounds": lambda x: x.clamp_min(0) + x.clamp_max(1),
    "softplus": F.softplus,
    "softmax": lambda x: x.softmax(1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x.flip(2), x * 2, torch.zeros(1, 1, 1, 12)),
    "linear": lambda x: F.linear(x, weight(5, 12), weight(5)),
    "matrix product": lambda x: x @ x.transpose(-1, -2),
    "mean and maximum": lambda x: torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1),
    "deviation": lambda x: x.std(1),
    "logit": lambda x: torch.logit(x.sigmoid().clamp(0.01, 0.99)),
    "bounded logit": lambda x: torch.logit(x, eps=0.1),
    "power": lambda x: x.abs() ** 2.4,
    "logarithm": lambda x: (x.abs() + 0.01).log(),
    "masked fill": lambda x: x.masked_fill(~bright(x), -3e4),
    "where with a number": lambda x: torch.where(bright(x), x, -1.0),
    "where with a number first": lambda x: torch.where(bright(x), 2.0, x),
    "or and and": lambda x: ((bright(x) | (x < 0)) & (x > -1)).float(),
    "any": lambda x: bright(x).any(dim=1, keepdim=True).float(),
    "new ones": lambda x: x * x.new_ones(1, 8, 1, 1),
    "minimum and maximum": lambda x: torch.minimum(x[:, :4], x[:, 4:]) + torch.maximum(x[:, :4], x[:, 4:]),
    "chunks": lambda x: x.chunk(2, dim=1)[1] - x.chunk(2, dim=1)[0],
    "permuted": lambda x: x.permute(0, 2, 3, 1).reshape(1, 144, 8),
    "strided slice": lambda x: x[:, 1:7:2, -3:],
}


class Layers(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer in LAYERS.values())


def images() -> Tensor:
    return torch.randn(1, 8, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def outputs() -> dict[str, tuple[Tensor, Tensor]]:
    """What each layer gives in the evaluator after conversion, and in torch."""
    ct = coremltools()
    truths = Layers()(images())
    graph = decomposed(Layers(), (images(),))
    with quiet():
        program = ct.convert(
            graph,
            convert_to="milinternal",
            inputs=[ct.TensorType("x", (1, 8, 12, 12))],
            outputs=[ct.TensorType(f"layer{place}") for place in range(len(LAYERS))],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
        )
    results = Evaluator(from_pymil(program)).run({"x": images()}).values()
    return dict(zip(LAYERS, zip(results, truths, strict=True), strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_survives(name: str, outputs: dict[str, tuple[Tensor, Tensor]]) -> None:
    result, truth = outputs[name]
    torch.testing.assert_close(result, truth, rtol=1e-4, atol=2e-5)


def exported(layer: Layer) -> GraphModule:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer(x)

    layer(images())
    module: Any = decomposed(Module(), (images(),)).module(check_guards=False)
    return module  # type: ignore[no-any-return]


def operators(module: GraphModule) -> list[str]:
    return [str(node.target).split(".")[1] for node in module.graph.nodes if node.op == "call_function"]


def test_what_depends_on_no_input_is_computed_ahead() -> None:
    module = exported(lambda x: F.conv2d(x, F.normalize(weight(8, 1, 3, 3), dim=(2, 3)), groups=8))  # type: ignore[arg-type]
    expected = module(images())
    fold_constants(module)
    assert operators(module) == ["conv2d"]
    torch.testing.assert_close(module(images()), expected)


def test_equal_values_become_one_where_they_are_broadcast() -> None:
    """A whole mask of ones needs no memory in a product, but keeps its extents in a join."""
    module = exported(lambda x: torch.cat((x * torch.ones(1, 8, 12, 12), torch.ones(1, 1, 12, 12)), 1))
    expected = module(images())
    fold_constants(module)
    assert sorted(value.numel() for value in module.buffers()) == [1, 144]
    assert torch.equal(module(images()), expected)


def test_bounds_move_to_numbers_of_fp16() -> None:
    module = exported(lambda x: (x / x.abs().clamp_min(1e-12)).masked_fill(x > 9, -3e38) + 1e-6 * x.clamp(-1e30, 0.5))
    fit_to_half(module)
    numbers = {
        str(node.target): node.args[1:]
        for node in module.graph.nodes
        if "clamp" in str(node.target) or "fill" in str(node.target)
    }
    assert numbers["aten.clamp_min.default"] == (2.0**-14,)
    assert numbers["aten.clamp.default"] == (-65504.0, 0.5)
    assert numbers["aten.masked_fill.Scalar"][1] == -65504.0
    (factor,) = [node.args[1] for node in module.graph.nodes if str(node.target) == "aten.mul.Tensor"]
    assert factor == 1e-6, "factors stay as they are"


def test_a_zero_divisor_stays_finite_in_fp16() -> None:
    """0 / max(0, 1e-12) is 0 in float32, and 0 / 0 where FP16 makes the bound 0."""

    def program(*, fit: bool) -> MilProgram:
        module = exported(lambda x: x / x.abs().clamp_min(1e-12))
        if fit:
            fit_to_half(module)
        ct = coremltools()
        with quiet():
            graph = torch.export.export(module, (images(),)).run_decompositions({})
            return from_pymil(
                ct.convert(
                    graph,
                    convert_to="milinternal",
                    inputs=[ct.TensorType("x", (1, 8, 12, 12))],
                    minimum_deployment_target=ct.target.iOS17,
                )
            )

    zeros = {"x": torch.zeros(1, 8, 12, 12)}
    (fitted,) = Evaluator(program(fit=True)).run(zeros).values()
    assert torch.equal(fitted, zeros["x"])
    bound = [
        value
        for value in program(fit=True).constants.values()
        if isinstance(value, Tensor) and value.dtype == torch.float16
    ]
    assert [value.item() for value in bound] == [2.0**-14]
    (loose,) = [v for v in program(fit=False).constants.values() if isinstance(v, Tensor) and v.dtype == torch.float16]
    assert loose.item() < 2.0**-14, "else this test shows nothing"
