"""What a recipe's networks cost: parameters, arithmetic and memory, counted without running them.

Everything happens on tensors that have a shape but no values, so that the largest recipe takes seconds and no memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from neuropbr_core.contracts import LossInput, LossSetup, Prediction
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.model.generator import Generator
from neuropbr_core.model.spec import ModelSpec, build_generator, parameter_count, unfilled
from neuropbr_core.recipe.sections import Recipe

PARTS = ("encoder", "fusion", "decoder", "heads")
OTHER = "other"
"""The rest of the generator: normalisation of views, merging of skips, the reflectance profile, activation of maps."""


@dataclass(frozen=True)
class PartCost:
    """What one part costs.

    Attributes:
        name: `encoder`, `fusion`, `decoder`, `heads`, `other`, or `critic NAME` for the critic of loss NAME.
        parameters: Numbers that training changes or could change.
        flops: Floating-point operations of one forward pass, a multiplication and its addition counted as two;
            convolutions, matrix products and attention only, which is nearly all.
        saved_bytes: Bytes that a forward pass keeps for the backward pass; None for critics.
    """

    name: str
    parameters: int
    flops: int
    saved_bytes: int | None


@dataclass(frozen=True)
class Cost:
    """What one sample costs.

    Attributes:
        views: Its views.
        image_size: Side of each view in pixels, for `flops`.
        output_size: Side of the maps that come out of it.
        train_size: Side of the views in training, for `saved_bytes`; smaller than `image_size` where crops are cut.
        parts: One entry a part.
    """

    views: int
    image_size: int
    output_size: int
    train_size: int
    parts: tuple[PartCost, ...]

    @property
    def total(self) -> PartCost:
        """The sum of all parts."""
        return PartCost(
            "total",
            sum(part.parameters for part in self.parts),
            sum(part.flops for part in self.parts),
            sum(part.saved_bytes or 0 for part in self.parts),
        )


def cost(recipe: Recipe) -> Cost:
    """Count what the networks of a recipe cost for one sample.

    Memory is that of bfloat16 autocast, without checkpointing, and with attention that does not store its scores;
    the losses' own is not in it.

    Raises:
        PluginError: A component is missing or breaks its contract.
        ModelError: The parts do not fit together.
    """
    spec = ModelSpec.from_recipe(recipe)
    train_size = recipe.data.crop_side
    # On `meta`, where counting operations needs shapes alone.
    with unfilled():
        generator = build_generator(spec)
        inputs = blank_inputs(spec, spec.image_size)
        flops, prediction = _generator_flops(generator, inputs)
        critics = _critic_costs(recipe, inputs, prediction, generator.feature_channels)
    # At the side of the crops: operations are those of a prediction, and memory is that of training.
    saved = saved_bytes(generator, spec, train_size)
    parameters: Counter[str] = Counter()
    for name in PARTS:
        parameters[name] = parameter_count(getattr(generator, name))
    # What no part has is counted as the rest, so that the sum is right whatever the generator contains.
    parameters[OTHER] = parameter_count(generator) - parameters.total()
    parts = []
    for name in (*PARTS, OTHER):
        parts.append(PartCost(name, parameters[name], flops[name], saved[name]))
    output_size = next(iter(prediction.maps.values())).shape[-1]
    return Cost(spec.views, spec.image_size, output_size, train_size, (*parts, *critics))


def blank_inputs(spec: ModelSpec, size: int, samples: int = 1) -> dict[str, Tensor]:
    """Samples of views of side `size`, with all that the generator takes beside them."""
    shape = (samples, spec.views, 3, size, size)
    inputs = {"views": torch.zeros(shape), "visible": torch.ones(samples, spec.views, 1, size, size)}
    if spec.section.directed:
        inputs["directions"] = torch.zeros(shape)
    return inputs


def saved_bytes(generator: Generator, spec: ModelSpec, size: int, *, half: bool = True) -> Counter[str]:
    """Bytes that autograd keeps of one forward pass of a sample in training, by part.

    Tensors that share memory count once; parameters and buffers do not count, their copies in bfloat16 do.

    Args:
        generator: Built on any device; only its shapes are used.
        spec: Its spec.
        size: Side of the views in pixels.
        half: Whether the pass runs in bfloat16 autocast; otherwise in float32.
    """
    samples = 1
    # Batch norm refuses a single value for each channel, which one view as small as the stride has.
    if spec.views == 1 and size <= generator.encoder.strides[-1]:
        samples = 2
    with FakeTensorMode():
        # Fake CPU tensors, not `meta`: only there attention takes the kernel that does not store its scores.
        state = {}
        for name, value in generator.state_dict(keep_vars=True).items():
            state[name] = torch.empty(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
        kept = _Kept(state.values())
        handles = []
        for name in PARTS:
            handles += kept.watch(getattr(generator, name), name)
        hooks = torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor)
        try:
            with hooks, torch.autocast("cpu", torch.bfloat16, enabled=half):
                torch.func.functional_call(generator.train(), state, (), blank_inputs(spec, size, samples))
        finally:
            for handle in handles:
                handle.remove()
    return Counter({name: count // samples for name, count in kept.bytes.items()})


def feature_bytes(generator: Generator, views: int, size: int, *, half: bool = True) -> int:
    """Bytes of what the encoder returns for the views of a sample.

    Args:
        generator: Built on any device.
        views: Views of a sample.
        size: Their side in pixels.
        half: Whether features are in bfloat16; otherwise in float32.
    """
    values = 0
    for channels, stride in zip(generator.encoder.channels, generator.encoder.strides, strict=True):
        values += channels * (size // stride) ** 2
    return values * views * (2 if half else 4)


def kept_bytes(forward: Callable[[], object], free: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps of a computation, on tensors with values or without.

    Args:
        forward: The computation.
        free: Tensors that do not count, such as its inputs and parameters.
    """
    kept = _Kept(free)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        forward()
    return kept.bytes.total()


@dataclass(frozen=True)
class PredictionCost:
    """What a prediction without gradients takes, for one sample.

    Attributes:
        peak_bytes: Bytes of inputs and activations at the worst moment; most are given back as the pass goes on.
        feature_values: Numbers in the intermediate features that it returns.
    """

    peak_bytes: int
    feature_values: int


def prediction_cost(
    generator: Generator, spec: ModelSpec, size: int, *, half: bool = True, features: bool = False
) -> PredictionCost:
    """Count the memory of one forward pass of a sample that keeps nothing for a backward pass.

    Args:
        generator: Built on any device; only its shapes are used.
        spec: Its spec.
        size: Side of the views in pixels.
        half: Whether the pass runs in bfloat16 autocast; otherwise in float32.
        features: Whether it returns its intermediate features.
    """
    with FakeTensorMode():
        state = {}
        for name, value in generator.state_dict(keep_vars=True).items():
            state[name] = torch.empty(value.shape, dtype=value.dtype)
        live = _Live(state)
        with live, torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            inputs = blank_inputs(spec, size)
            prediction = torch.func.functional_call(generator.eval(), state, (), {**inputs, "features": features})
    values = sum(feature.numel() for feature in prediction.features.values())
    return PredictionCost(live.peak, values)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations make and that are still there.

    Args:
        state: Parameters and buffers, which do not count.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._state = {_weak(tensor) for tensor in state.values()}
        self._bytes: dict[Any, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **kwargs or {})
        for value in tree_leaves(result):
            if not isinstance(value, Tensor):
                continue
            # A view shares its storage, also with a parameter, and takes no memory of its own.
            storage = _weak(value)
            if storage not in self._state:
                self._bytes[storage] = value.untyped_storage().nbytes()
        # A reference tells whether its storage was given back; a dictionary must not change while it is read.
        for storage in list(self._bytes):
            if storage.expired():
                del self._bytes[storage]
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result


def _weak(tensor: Tensor) -> Any:
    """A reference to a tensor's storage that does not keep it."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


class _Kept:
    """Counts the storages that autograd keeps, by the part of the generator that is running.

    Args:
        free: Tensors that do not count, such as parameters.
    """

    def __init__(self, free: Iterable[Tensor]) -> None:
        self.bytes: Counter[str] = Counter()
        self._part = OTHER
        # These count as seen from the start, so that what autograd keeps of them is not added.
        self._counted = {_storage(tensor): tensor for tensor in free}

    def watch(self, part: nn.Module, name: str) -> list[Any]:
        """Count under `name` while `part`, or an entry of it where it is a mapping of modules, runs."""
        if isinstance(part, nn.ModuleDict):
            modules = list(part.values())
        else:
            modules = [part]
        handles: list[Any] = []
        for module in modules:
            handles.append(module.register_forward_pre_hook(lambda *_: self._enter(name)))
            handles.append(module.register_forward_hook(lambda *_: self._enter(OTHER)))
        return handles

    def pack(self, tensor: Tensor) -> Tensor:
        """Count a tensor's storage the first time; the tensor is kept, so that no other gets the same identity."""
        storage = _storage(tensor)
        if storage not in self._counted:
            self._counted[storage] = tensor
            self.bytes[self._part] += tensor.untyped_storage().nbytes()
        return tensor

    def _enter(self, part: str) -> None:
        self._part = part


def _storage(tensor: Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata  # noqa: SLF001 (what holds no values has no address of its own)
    return identity


def _generator_flops(generator: Generator, inputs: dict[str, Tensor]) -> tuple[Counter[str], Prediction]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        prediction: Prediction = generator(**inputs, features=True)
    counts = {}
    for name, by_operator in counter.get_flop_counts().items():
        counts[name] = sum(by_operator.values())
    root = type(generator).__name__
    flops: Counter[str] = Counter()
    for name in PARTS:
        flops[name] = counts.get(f"{root}.{name}", 0)
    # `heads` is a mapping that is never called, so its entries (`Generator.heads.albedo`) are counted instead of it.
    flops["heads"] = 0
    for name, count in counts.items():
        if name.count(".") == 2 and ".heads." in name:
            flops["heads"] += count
    flops[OTHER] = counter.get_total_flops() - flops.total()
    return flops, prediction


def _critic_costs(
    recipe: Recipe,
    inputs: dict[str, Tensor],
    prediction: Prediction,
    features: Mapping[str, int],
) -> list[PartCost]:
    """What each loss's critic costs to judge the prediction of one sample."""
    setup = LossSetup(MAP_NAMES, prediction.maps["albedo"].shape[-1], features, features)  # no critic sees a teacher
    valid = torch.ones_like(prediction.maps["roughness"])
    x = LossInput(prediction, prediction.maps, inputs["views"], inputs["visible"], valid)
    costs = []
    for name, part in recipe.losses.items():
        loss = part.create(setup=setup)
        critic = loss.make_critic()
        if critic is None:
            continue
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            loss(x, critic)
        flops = sum(counter.get_flop_counts()[type(critic).__name__].values())
        costs.append(PartCost(f"critic {name}", parameter_count(critic), flops, None))
    return costs
