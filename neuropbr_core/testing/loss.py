"""Conformance suite of losses.

from neuropbr_core.testing.loss import LossSuite

class TestL1(LossSuite):
    use = "l1"
    option_sets = ({}, {"albedo": 2.0})
"""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Maps, Prediction
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.model.heads import activate
from neuropbr_core.registry import default_registry
from neuropbr_core.testing.component import ComponentSuite

WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
"""Operators whose result the host must wait for: `.item()`, `if tensor`, what has as many values as a mask has ones."""


def example_loss_input(  # noqa: PLR0913 - named choices of a test, each with a default
    maps: Sequence[str] = MAP_NAMES,
    *,
    batch: int = 2,
    size: tuple[int, int] = (32, 32),
    views: int = 3,
    valid: Literal["all", "some", "none"] = "some",
    truth: bool = False,
    teacher: bool = False,
    features: Mapping[str, int] | None = None,
    teacher_features: Mapping[str, int] | None = None,
    seed: int = 0,
) -> LossInput:
    """Make a loss input as the trainer would, from random logits.

    Args:
        maps: Names of the maps.
        batch: Samples.
        size: Height and width of maps and views, in pixels.
        views: Views of a sample.
        valid: Which pixels are valid; `some` leaves a quarter out, at random.
        truth: Make the targets equal to the prediction.
        teacher: Include a teacher's prediction.
        features: Channels of the prediction's intermediate features by name; each is a quarter of the maps' size.
        teacher_features: The same of the teacher; each is an eighth of the maps' size.
        seed: Seed of all values.

    Returns:
        The input. The prediction's logits are leaves that require a gradient, and its maps are computed from them.
    """
    random = torch.Generator().manual_seed(seed)
    prediction = _example_prediction(maps, batch, size, random, leaf=True)
    target = prediction.maps if truth else _example_prediction(maps, batch, size, random).maps
    share = {"all": 1.0, "some": 0.75, "none": 0.0}[valid]
    seen = (torch.rand((batch, 1, *size), generator=random) < share).float()
    visible = seen.unsqueeze(1).repeat(1, views, 1, 1, 1)
    taught = _example_prediction(maps, batch, size, random) if teacher else None
    return LossInput(
        prediction=prediction._replace(features=_example_features(features or {}, batch, size, 4, random)),
        target={name: value.detach().clone() for name, value in target.items()},
        views=torch.rand((batch, views, 3, *size), generator=random) * visible,
        visible=visible,
        valid=seen,
        teacher=taught and taught._replace(features=_example_features(teacher_features or {}, batch, size, 8, random)),
    )


def _example_features(
    channels: Mapping[str, int], batch: int, size: tuple[int, int], stride: int, random: torch.Generator
) -> dict[str, Tensor]:
    shape = [max(1, side // stride) for side in size]
    return {name: torch.randn((batch, count, *shape), generator=random) for name, count in channels.items()}


def _example_prediction(
    maps: Sequence[str], batch: int, size: tuple[int, int], random: torch.Generator, *, leaf: bool = False
) -> Prediction:
    logits = {
        name: torch.randn((batch, MAPS[name].logit_channels, *size), generator=random).requires_grad_(leaf)
        for name in maps
    }
    return Prediction({name: activate(MAPS[name], value) for name, value in logits.items()}, logits, {})


class LossSuite(ComponentSuite):
    """What the core relies on in every loss.

    Attributes:
        maps: Maps that the generator predicts.
        size: Height and width of the test's maps; the larger side is the setup's `output_size`.
        teacher: Whether inputs come with a teacher's prediction.
        features: Channels of the generator's intermediate features by name, for a loss that compares them.
        teacher_features: The same of the teacher.
        truth_tolerance: Largest value at the truth that still counts as zero.
    """

    kind = "loss"
    maps: ClassVar[tuple[str, ...]] = MAP_NAMES
    size: ClassVar[tuple[int, int]] = (32, 32)
    teacher: ClassVar[bool] = False
    features: ClassVar[Mapping[str, int]] = {}
    teacher_features: ClassVar[Mapping[str, int]] = {}
    truth_tolerance: ClassVar[float] = 1e-5

    def example(self, **changes: Any) -> LossInput:
        """Make an input for this suite's maps and size; `changes` are arguments of `example_loss_input`."""
        given = ("size", "teacher", "features", "teacher_features")
        return example_loss_input(self.maps, **{**{name: getattr(self, name) for name in given}, **changes})

    @pytest.fixture
    def loss(self, options: Any) -> Loss:
        """The loss under test, created as a run does."""
        return self.make_loss(options)

    def make_loss(self, options: Any) -> Loss:
        """Build the loss, with weights that do not change from call to call."""
        setup = LossSetup(self.maps, max(self.size), self.features, self.teacher_features)
        with _seeded():
            loss = self.create(options, setup=setup)
        assert isinstance(loss, Loss), f"{type(loss)} is not a Loss"
        return loss

    @pytest.fixture
    def critic(self, loss: Loss) -> nn.Module | None:
        """Its critic, frozen as in a generator step."""
        with _seeded():
            critic = loss.make_critic()
        return critic.requires_grad_(False) if critic is not None else None

    def test_value_is_a_finite_float32_scalar(self, loss: Loss, critic: nn.Module | None) -> None:
        """The total is one finite float32 number on the device of its input."""
        x = self.example()
        total = _evaluate(loss, x, critic).total
        assert total.shape == ()
        assert total.dtype == torch.float32
        assert total.device == x.valid.device
        assert total.isfinite()

    def test_terms_are_detached_scalars_on_the_device(self, loss: Loss, critic: nn.Module | None) -> None:
        """Terms hold no graph and have not left the device."""
        x = self.example()
        for name, term in _evaluate(loss, x, critic).terms.items():
            assert isinstance(term, Tensor), name
            assert term.shape == (), name
            assert not term.requires_grad, name
            assert term.device == x.valid.device, name

    def test_what_it_needs_is_said(self, loss: Loss, options: Any) -> None:
        """A loss that reads a teacher's prediction says so, and does not decide which checkpoint is best."""
        needs = default_registry().needs("loss", self.use, options)
        assert needs.teacher == self.teacher, "set `teacher` of the suite, or add the hook `loss_needs`"
        assert needs.features == bool(self.features), "set `features` of the suite, or add the hook `loss_needs`"
        assert not (needs.teacher and loss.reconstruction), "validation has no teacher: set `reconstruction = False`"

    def test_share_is_a_part(self, loss: Loss) -> None:
        """What a loss claims from the reconstruction losses is no more than all of them."""
        assert 0 <= loss.share <= 1
        assert not (loss.share and loss.reconstruction), "a loss that claims a share is itself no reconstruction loss"

    def test_input_is_left_as_it_was(self, loss: Loss, critic: nn.Module | None) -> None:
        """Other losses read the same tensors afterwards."""
        x, untouched = self.example(), self.example()
        _evaluate(loss, x, critic)
        for tensor, before in zip(_tensors(x), _tensors(untouched), strict=True):
            assert torch.equal(tensor, before)

    def test_zero_at_the_truth(self, loss: Loss, critic: nn.Module | None) -> None:
        """A reconstruction loss is zero when the prediction is the target, at every valid pixel."""
        _only_reconstruction(loss)
        for valid in ("all", "some"):
            total = _evaluate(loss, self.example(truth=True, valid=valid), critic).total
            assert total.abs() <= self.truth_tolerance, valid

    def test_positive_away_from_the_truth(self, loss: Loss, critic: nn.Module | None) -> None:
        """A reconstruction loss is positive when the prediction is not the target."""
        _only_reconstruction(loss)
        assert _evaluate(loss, self.example(), critic).total > self.truth_tolerance

    @pytest.mark.parametrize("truth", [False, True])
    def test_gradient_is_finite(self, loss: Loss, critic: nn.Module | None, truth: bool) -> None:
        """The prediction gets a finite gradient, also at the truth, and a non-zero one away from it."""
        gradients = _gradients(loss, self.example(truth=truth), critic)
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        assert truth or any(gradient.any() for gradient in gradients.values())

    def test_invalid_pixels_do_not_matter(self, loss: Loss, critic: nn.Module | None) -> None:
        """Whatever stands in invalid pixels of prediction and target changes neither value nor gradient."""
        x = self.example()
        value, gradients = _evaluate(loss, x, critic).total, _gradients(loss, x, critic)
        spoiled = _spoil(x)
        assert torch.equal(_evaluate(loss, spoiled, critic).total, value)
        for name, gradient in _gradients(loss, spoiled, critic, leaves=x.prediction.logits).items():
            assert torch.equal(gradient, gradients[name]), name

    def test_invalid_pixels_get_no_gradient(self, loss: Loss, critic: nn.Module | None) -> None:
        """The generator learns nothing where nothing was seen."""
        x = self.example()
        for name, gradient in _gradients(loss, x, critic).items():
            assert not (gradient * (1 - x.valid)).any(), name

    def test_finite_when_nothing_is_valid(self, loss: Loss, critic: nn.Module | None) -> None:
        """A crop that no view sees does no harm."""
        x = self.example(valid="none")
        assert _evaluate(loss, x, critic).total.isfinite()
        assert all(gradient.isfinite().all() for gradient in _gradients(loss, x, critic).values())

    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_batch_and_odd_sizes(self, loss: Loss, critic: nn.Module | None, batch: int) -> None:
        """One sample is enough, and maps need be neither square nor even."""
        height, width = self.size
        assert _evaluate(loss, self.example(batch=batch, size=(height - 1, width - 5)), critic).total.isfinite()

    def test_descent_reduces_it(self, loss: Loss, critic: nn.Module | None) -> None:
        """Steps down its gradient make it smaller."""
        x = self.example()
        before = _evaluate(loss, x, critic).total
        for _ in range(10):
            x = _descend(x, _gradients(loss, x, critic), step=0.02)
        assert _evaluate(loss, x, critic).total < before

    def test_autocast_does_not_coarsen_it(self, loss: Loss, critic: nn.Module | None) -> None:
        """Under bf16 autocast the total is float32; that of a reconstruction loss keeps its value."""
        x = self.example()
        with torch.autocast("cpu", torch.bfloat16):
            total = _evaluate(loss, x, critic).total
        assert total.dtype == torch.float32
        if loss.reconstruction:
            torch.testing.assert_close(total, _evaluate(loss, x, critic).total, rtol=1e-4, atol=1e-6)

    def test_never_waits_for_the_device(self, loss: Loss, critic: nn.Module | None) -> None:
        """No `.item()`, no branch on a tensor and no indexing by a mask: each would stall a GPU every step."""
        x = self.example()
        with _NoWaits():  # type: ignore[no-untyped-call]
            _evaluate(loss, x, critic)
            if critic is not None:
                loss.critic_loss(_detached(x), critic)

    def test_survives_pickling_and_state_dict(self, loss: Loss, critic: nn.Module | None, options: Any) -> None:
        """A pickled copy, and another instance with its state, give the same value."""
        x = self.example()
        expected = _evaluate(loss, x, critic).total
        other = self.make_loss(options)
        other.load_state_dict(loss.state_dict())
        for copy in (pickle.loads(pickle.dumps(loss)), other):  # noqa: S301 - our own bytes
            assert torch.equal(_evaluate(copy, x, critic).total, expected)

    def test_frozen_critic_gets_no_gradient(self, loss: Loss, critic: nn.Module | None) -> None:
        """The generator's loss flows through the critic to the prediction only, and leaves it frozen."""
        critic, x = _only_with(critic), self.example()
        _evaluate(loss, x, critic).total.backward()  # type: ignore[no-untyped-call]
        assert any(logits.grad is not None and logits.grad.any() for logits in x.prediction.logits.values())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in critic.parameters())

    def test_critic_loss_trains_the_critic_alone(self, loss: Loss, critic: nn.Module | None) -> None:
        """Every parameter of the critic gets a finite gradient, the prediction none, attached or not."""
        critic = _only_with(critic).requires_grad_(True)
        x = self.example()
        with _seeded():
            result = loss.critic_loss(x, critic)
        result.total.backward()  # type: ignore[no-untyped-call]
        assert result.total.dtype == torch.float32
        assert not any(term.requires_grad for term in result.terms.values())
        gradients = [parameter.grad for parameter in critic.parameters()]
        assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
        assert all(logits.grad is None for logits in x.prediction.logits.values())

    def test_critic_learns(self, loss: Loss, critic: nn.Module | None) -> None:
        """A few optimiser steps make the critic's loss smaller."""
        critic = _only_with(critic).requires_grad_(True)
        x, values = _detached(self.example()), []
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
        for _ in range(6):
            optimizer.zero_grad()
            with _seeded():
                total = loss.critic_loss(x, critic).total
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            values.append(total.item())
        assert values[-1] < values[0]

    def test_loss_does_not_keep_its_critic(self, loss: Loss, critic: nn.Module | None) -> None:
        """The trainer owns the critic; one stored on the loss would be saved and optimised twice."""
        critic = _only_with(critic)
        _evaluate(loss, self.example(), critic)
        loss.critic_loss(_detached(self.example()), critic)
        assert all(module is not critic for module in loss.modules())
        assert all(value is not critic for value in vars(loss).values())


class _NoWaits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails on an operator whose result the host must wait for."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "_schema").name  # noqa: B009 - torch has no public name for it
        by_mask = name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITS or by_mask:
            pytest.fail(f"{name} makes the host wait for the device", pytrace=False)
        return func(*args, **(kwargs or {}))


@contextmanager
def _seeded() -> Iterator[None]:
    """Give losses that draw random numbers the same ones each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _evaluate(loss: Loss, x: LossInput, critic: nn.Module | None) -> LossResult:
    with _seeded():
        result: LossResult = loss(x, critic)
    return result


def _gradients(loss: Loss, x: LossInput, critic: nn.Module | None, leaves: Maps | None = None) -> Maps:
    """Gradient of the total in the prediction's logits (or in `leaves`); zero where it does not depend on them."""
    leaves = leaves or x.prediction.logits
    total = _evaluate(loss, x, critic).total
    found = torch.autograd.grad(total, list(leaves.values()), retain_graph=True, allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if gradient is None else gradient for (name, leaf), gradient in pairs}


def _descend(x: LossInput, gradients: Maps, step: float) -> LossInput:
    """Move the logits down the gradient, the farthest of each map by `step`."""
    logits = {
        name: (value - step * gradients[name] / gradients[name].abs().max().clamp(min=1e-12)).detach().requires_grad_()
        for name, value in x.prediction.logits.items()
    }
    maps = {name: activate(MAPS[name], value) for name, value in logits.items()}
    return replace(x, prediction=Prediction(maps, logits, x.prediction.features))


def _spoil(x: LossInput) -> LossInput:
    """Put extreme values into the invalid pixels of everything that losses compare."""

    def spoiled(maps: Maps, value: float) -> Maps:
        return {name: torch.where(x.valid == 0, value, tensor) for name, tensor in maps.items()}

    prediction, teacher = (
        each and Prediction(spoiled(each.maps, value), spoiled(each.logits, value), each.features)
        for each, value in ((x.prediction, 1e6), (x.teacher, -1e5))
    )
    assert prediction is not None
    return replace(x, prediction=prediction, target=spoiled(x.target, -1e6), teacher=teacher)


def _detached(x: LossInput) -> LossInput:
    maps, logits = ({n: v.detach() for n, v in each.items()} for each in (x.prediction.maps, x.prediction.logits))
    return replace(x, prediction=Prediction(maps, logits, x.prediction.features))


def _tensors(x: LossInput) -> list[Tensor]:
    predictions = [x.prediction] if x.teacher is None else [x.prediction, x.teacher]
    groups = [x.target, *(group for each in predictions for group in each)]
    return [x.views, x.visible, x.valid, *(tensor for group in groups for tensor in group.values())]


def _only_reconstruction(loss: Loss) -> None:
    if not loss.reconstruction:
        pytest.skip("not a reconstruction loss")


def _only_with(critic: nn.Module | None) -> nn.Module:
    if critic is None:
        pytest.skip("no critic")
    return critic
