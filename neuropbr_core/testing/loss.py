"""Conformance suite of losses.

A test of an author's package subclasses it:

    from neuropbr_core.testing.loss import LossSuite

    class TestL1(LossSuite):
        use = "l1"
        option_sets = ({}, {"albedo": 2.0})
"""

import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neuropbr_core.contracts import Loss, LossInput, LossResult, LossSetup, Maps, Prediction
from neuropbr_core.maps import MAP_NAMES, MAPS
from neuropbr_core.model.decoder import activate
from neuropbr_core.registry.catalog import default_registry
from neuropbr_core.testing import tensors
from neuropbr_core.testing.component import ComponentSuite

WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
"""Operators whose result the host must wait for: `.item()`, `if tensor`, and results whose size depends on values."""


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
        truth: Whether the targets equal the prediction.
        teacher: Whether there is a teacher's prediction.
        features: Channels of the prediction's intermediate features by name; each is a quarter of the maps' size.
        teacher_features: The same of the teacher; each is an eighth of the maps' size.
        seed: Seed of all values.

    Returns:
        The input. The prediction's logits are leaves that require a gradient, and its maps are computed from them.
    """
    # The order of the draws is fixed: authors compare with numbers that a seed gave them.
    random = torch.Generator().manual_seed(seed)
    prediction = _example_prediction(maps, batch, size, random, leaf=True)
    target = prediction.maps
    if not truth:
        target = _example_prediction(maps, batch, size, random).maps
    # Draws are in [0, 1), so that 1.0 takes every pixel and 0.0 none.
    share = {"all": 1.0, "some": 0.75, "none": 0.0}[valid]
    mask = (torch.rand((batch, 1, *size), generator=random) < share).float()
    # Every view sees the valid pixels, which is what makes them valid.
    visible = mask.unsqueeze(1).repeat(1, views, 1, 1, 1)
    teacher_prediction: Prediction | None = None
    if teacher:
        teacher_prediction = _example_prediction(maps, batch, size, random)
    student_features = _example_features(features or {}, batch, size, 4, random)
    target = {name: value.detach().clone() for name, value in target.items()}
    view_pixels = torch.rand((batch, views, 3, *size), generator=random) * visible
    if teacher_prediction is not None:
        # Another stride than the student's, as networks of different depths have.
        expected_features = _example_features(teacher_features or {}, batch, size, 8, random)
        teacher_prediction = teacher_prediction._replace(features=expected_features)
    return LossInput(
        prediction=prediction._replace(features=student_features),
        target=target,
        views=view_pixels,
        visible=visible,
        valid=mask,
        teacher=teacher_prediction,
    )


def _example_features(
    channels: Mapping[str, int], batch: int, size: tuple[int, int], stride: int, random: torch.Generator
) -> dict[str, Tensor]:
    height = max(1, size[0] // stride)
    width = max(1, size[1] // stride)
    return {name: torch.randn((batch, count, height, width), generator=random) for name, count in channels.items()}


def _example_prediction(
    maps: Sequence[str], batch: int, size: tuple[int, int], random: torch.Generator, *, leaf: bool = False
) -> Prediction:
    logits: Maps = {}
    activated: Maps = {}
    for name in maps:
        spec = MAPS[name]
        values = torch.randn((batch, spec.logit_channels, *size), generator=random)
        logits[name] = values.requires_grad_(leaf)
        activated[name] = activate(spec, logits[name])
    return Prediction(activated, logits, {})


class LossSuite(ComponentSuite):
    """Tests of everything that the core relies on in a loss (`neuropbr_core.contracts.Loss`).

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

    @classmethod
    def attributes_for(cls, use: str, option_sets: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
        """Give a teacher and features to a loss whose hook `loss_needs` asks for them."""
        options_type = default_registry().options("loss", use)
        needs = default_registry().needs("loss", use, msgspec.convert(dict(option_sets[0]), options_type))
        attributes: dict[str, Any] = {"teacher": needs.teacher}
        if needs.features:
            attributes["features"] = {"latent": 6, "decoder0": 4, "decoder1": 3}
        if needs.features and needs.teacher:
            attributes["teacher_features"] = {"latent": 8, "decoder0": 5}
        return attributes

    def create_from_defaults(self, folder: Path) -> None:  # noqa: ARG002 - writes nothing
        """Build the loss from default options, for maps of a usual size."""
        self.create(self.options_type()(), setup=LossSetup(self.maps, 256, self.features, self.teacher_features))

    def example(self, **changes: Any) -> LossInput:
        """Make an input for this suite's maps and size.

        Args:
            changes: Arguments of `example_loss_input` that differ from the suite's attributes.

        Returns:
            The input.
        """
        arguments: dict[str, Any] = {
            "size": self.size,
            "teacher": self.teacher,
            "features": self.features,
            "teacher_features": self.teacher_features,
        }
        return example_loss_input(self.maps, **(arguments | changes))

    @pytest.fixture
    def loss(self, options: Any) -> Loss:
        """The loss under test, created as a run does."""
        return self.make_loss(options)

    def make_loss(self, options: Any) -> Loss:
        """Build the loss with weights that do not change from call to call.

        Args:
            options: The component's options dataclass.

        Returns:
            The loss.
        """
        setup = LossSetup(self.maps, max(self.size), self.features, self.teacher_features)
        with _seeded():
            loss = self.create(options, setup=setup)
        assert isinstance(loss, Loss), (
            f"create_loss must return a neuropbr_core.contracts.Loss, but returned a {type(loss).__name__}"
        )
        return loss

    @pytest.fixture
    def critic(self, loss: Loss) -> nn.Module | None:
        """The loss's critic, frozen as in a generator step."""
        with _seeded():
            critic = loss.make_critic()
        if critic is None:
            return None
        return critic.requires_grad_(False)

    def test_value_is_a_finite_float32_scalar(self, loss: Loss, critic: nn.Module | None) -> None:
        """The total is one finite float32 number on the device of its input."""
        x = self.example()
        total = _evaluate(loss, x, critic).total
        assert total.shape == (), f"LossResult.total must be a scalar, but has the shape {tuple(total.shape)}"
        _assert_float32(total)
        assert total.device == x.valid.device, (
            f"LossResult.total must be on the device of the input, {x.valid.device}, but is on {total.device}"
        )
        assert total.isfinite(), f"LossResult.total must be finite, but is {total.item()}"

    def test_terms_are_detached_scalars_on_the_device(self, loss: Loss, critic: nn.Module | None) -> None:
        """Terms hold no graph and have not left the device."""
        x = self.example()
        for name, term in _evaluate(loss, x, critic).terms.items():
            assert isinstance(term, Tensor), (
                f"LossResult.terms must hold tensors, because a number would have waited for the device, but {name} is "
                f"a {type(term).__name__}"
            )
            assert term.shape == (), f"LossResult.terms must hold scalars, but {name} has the shape {tuple(term.shape)}"
            assert not term.requires_grad, (
                f"LossResult.terms must be detached, because logs would keep the graph alive, but {name} is not"
            )
            assert term.device == x.valid.device, (
                f"LossResult.terms must be on the device of the input, {x.valid.device}, but {name} is on {term.device}"
            )

    def test_what_it_needs_is_said(self, loss: Loss, options: Any) -> None:
        """A loss that reads a teacher's prediction declares that need, and does not decide which checkpoint is best."""
        needs = default_registry().needs("loss", self.use, options)
        assert needs.teacher == self.teacher, (
            f"the hook `loss_needs` and the suite must agree, but Needs.teacher is {needs.teacher} and the suite's "
            f"`teacher` is {self.teacher}: set `teacher` of the suite, or add the hook `loss_needs`"
        )
        assert needs.features == bool(self.features), (
            f"the hook `loss_needs` and the suite must agree, but Needs.features is {needs.features} and the suite's "
            f"`features` are {dict(self.features)}: set `features` of the suite, or add the hook `loss_needs`"
        )
        # Validation evaluates the reconstruction losses, and has no teacher.
        is_teacher_validated = needs.teacher and loss.reconstruction
        assert not is_teacher_validated, (
            "a loss that needs a teacher must have Loss.reconstruction = False, because validation has no teacher, but "
            "it is True"
        )

    def test_share_is_a_part(self, loss: Loss) -> None:
        """A loss can claim at most the whole of the reconstruction losses."""
        assert 0 <= loss.share <= 1, f"Loss.share must be in [0, 1], but is {loss.share}"
        # It would scale itself down.
        is_own_victim = loss.share > 0 and loss.reconstruction
        assert not is_own_victim, (
            f"a loss with Loss.share above 0 must have Loss.reconstruction = False, but its share is {loss.share}"
        )

    def test_input_is_left_as_it_was(self, loss: Loss, critic: nn.Module | None) -> None:
        """Other losses read the same tensors afterwards."""
        x = self.example()
        untouched = _tensors(self.example())
        _evaluate(loss, x, critic)
        for name, tensor in _tensors(x).items():
            assert torch.equal(tensor, untouched[name]), (
                f"Loss.forward must not change its input, which other losses read too, but changed {name} in place"
            )

    def test_zero_at_the_truth(self, loss: Loss, critic: nn.Module | None) -> None:
        """A reconstruction loss is zero when the prediction is the target, at every valid pixel."""
        _skip_unless_reconstruction(loss)
        for valid in ("all", "some"):
            total = _evaluate(loss, self.example(truth=True, valid=valid), critic).total
            assert total.abs() <= self.truth_tolerance, (
                f"a reconstruction loss must be 0 (at most {self.truth_tolerance:g}) at the truth, but is "
                f"{total.item():g} with {valid} pixels valid: set Loss.reconstruction = False if this is meant"
            )

    def test_positive_away_from_the_truth(self, loss: Loss, critic: nn.Module | None) -> None:
        """A reconstruction loss is positive when the prediction is not the target."""
        _skip_unless_reconstruction(loss)
        total = _evaluate(loss, self.example(), critic).total
        assert total > self.truth_tolerance, (
            f"a reconstruction loss must be above 0 away from the truth, but is {total.item():g}"
        )

    @pytest.mark.parametrize("truth", [False, True])
    def test_gradient_is_finite(self, loss: Loss, critic: nn.Module | None, truth: bool) -> None:
        """The prediction gets a finite gradient, also at the truth, and a non-zero one away from it."""
        # At the truth roots and angles have infinite slopes, which would make all weights NaN in one step.
        gradients = _gradients(loss, self.example(truth=truth), critic)
        wrong = tensors.names_of_non_finite(gradients)
        assert not wrong, f"the gradient of a loss must be finite, but that of the logits of {wrong} is not"
        if not truth:
            assert any(gradient.any() for gradient in gradients.values()), (
                "a loss must have a gradient in the prediction away from the truth, but it is 0 for every map"
            )

    def test_invalid_pixels_do_not_matter(self, loss: Loss, critic: nn.Module | None) -> None:
        """The content of invalid pixels of prediction and target changes neither value nor gradient."""
        x = self.example()
        value = _evaluate(loss, x, critic).total
        gradients = _gradients(loss, x, critic)
        # A product with `valid` hides large numbers, but not infinity: infinity times zero is not a number.
        for extreme in (1e6, math.inf):
            spoiled = _spoil(x, extreme)
            spoiled_value = _evaluate(loss, spoiled, critic).total
            # Equal bit by bit: anything that reads the pixels would differ by more than rounding, or by NaN.
            assert torch.equal(spoiled_value, value), (
                f"a loss must ignore pixels with LossInput.valid = 0, but values of {extreme:g} there change it from "
                f"{value.item():g} to {spoiled_value.item():g}: choose pixels with torch.where"
            )
            # Differentiated in the original logits, from which the spoiled maps were computed.
            for name, gradient in _gradients(loss, spoiled, critic, leaves=x.prediction.logits).items():
                assert torch.equal(gradient, gradients[name]), (
                    f"a loss must ignore pixels with LossInput.valid = 0, but values of {extreme:g} there change the "
                    f"gradient of {name}: choose pixels with torch.where before anything is computed from them"
                )

    def test_invalid_pixels_get_no_gradient(self, loss: Loss, critic: nn.Module | None) -> None:
        """The generator learns nothing where no view sees the texture."""
        x = self.example()
        for name, gradient in _gradients(loss, x, critic).items():
            assert not (gradient * (1 - x.valid)).any(), (
                f"a loss must have no gradient at pixels with LossInput.valid = 0, but {name} gets one there"
            )

    def test_finite_when_nothing_is_valid(self, loss: Loss, critic: nn.Module | None) -> None:
        """A crop that no view sees gives finite values and gradients."""
        x = self.example(valid="none")
        total = _evaluate(loss, x, critic).total
        assert total.isfinite(), f"a loss must be finite when no pixel is valid, but is {total.item()}"
        wrong = tensors.names_of_non_finite(_gradients(loss, x, critic))
        assert not wrong, f"the gradient of a loss must be finite when no pixel is valid, but that of {wrong} is not"

    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_batch_and_odd_sizes(self, loss: Loss, critic: nn.Module | None, batch: int) -> None:
        """A loss accepts a single sample, and maps that are neither square nor even."""
        # Odd sizes do not halve evenly, which pyramids of scales might assume.
        size = (self.size[0] - 1, self.size[1] - 5)
        total = _evaluate(loss, self.example(batch=batch, size=size), critic).total
        assert total.isfinite(), (
            f"a loss must be finite for any batch and size, but is {total.item()} for {batch} samples of {size}"
        )

    def test_order_of_views_does_not_matter(self, loss: Loss, critic: nn.Module | None) -> None:
        """Views have no order: permuting those that a loss sees leaves its value as it is."""
        x = self.example()
        order = [2, 0, 1]
        permuted = replace(x, views=x.views[:, order], visible=x.visible[:, order])
        torch.testing.assert_close(
            _evaluate(loss, permuted, critic).total,
            _evaluate(loss, x, critic).total,
            rtol=1e-4,
            atol=1e-6,
            msg=lambda text: f"a loss must not depend on the order of LossInput.views: {text}",
        )

    @pytest.mark.usefixtures("full")
    def test_gradient_is_the_derivative(self, loss: Loss, critic: nn.Module | None) -> None:
        """A small step along the gradient changes the loss by as much as the gradient says."""
        # Losses compute in float32, in which gradcheck cannot decide; along the gradient the change is largest.
        x = self.example(valid="all")
        gradients = _gradients(loss, x, critic)
        step = 1e-3
        ahead = _evaluate(loss, _descend(x, gradients, -step), critic).total
        behind = _evaluate(loss, _descend(x, gradients, step), critic).total
        expected = 0.0
        for gradient in gradients.values():
            expected += float(gradient.square().sum() / gradient.abs().max().clamp(min=1e-12))
        measured = float(ahead - behind) / (2 * step)
        assert abs(measured - expected) <= 0.05 * abs(expected) + 1e-3, (
            f"the gradient of a loss must be its derivative, but along it the loss changes by {measured:.4g} per unit, "
            f"and the gradient says {expected:.4g}"
        )

    @pytest.mark.usefixtures("full")
    def test_compiles(self, loss: Loss, critic: nn.Module | None) -> None:
        """`torch.compile` takes it, and its value stays the same."""
        x = self.example()
        expected = _evaluate(loss, x, critic).total
        torch._dynamo.reset()  # noqa: SLF001 - torch has no public name for it
        compiled = torch.compile(loss, backend="aot_eager")
        with _seeded():
            total = compiled(x, critic).total
        torch._dynamo.reset()  # noqa: SLF001
        torch.testing.assert_close(
            total,
            expected,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text: f"torch.compile must not change what a loss computes: {text}",
        )

    def test_descent_reduces_it(self, loss: Loss, critic: nn.Module | None) -> None:
        """Steps down its gradient make it smaller."""
        x = self.example()
        before = _evaluate(loss, x, critic).total
        # The steps are small, because a gradient is true only near its point.
        for _ in range(10):
            x = _descend(x, _gradients(loss, x, critic), step=0.02)
        after = _evaluate(loss, x, critic).total
        assert after < before, (
            f"a loss must fall along its gradient, but ten small steps change it from {before.item():g} to "
            f"{after.item():g}"
        )

    def test_autocast_does_not_coarsen_it(self, loss: Loss, critic: nn.Module | None) -> None:
        """Under bf16 autocast the total is float32; that of a reconstruction loss keeps its value."""
        x = self.example()
        with torch.autocast("cpu", torch.bfloat16):
            total = _evaluate(loss, x, critic).total
        _assert_float32(total)
        # A critic is a network, which autocast is meant to coarsen; formulas are not.
        if loss.reconstruction:
            expected = _evaluate(loss, x, critic).total
            torch.testing.assert_close(
                total,
                expected,
                rtol=1e-4,
                atol=1e-6,
                msg=lambda text: f"a reconstruction loss must compute in float32 under autocast: {text}",
            )

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
        # Launchers of several processes pickle a loss; checkpoints store its state dict.
        unpickled = pickle.loads(pickle.dumps(loss))  # noqa: S301 - our own bytes
        for way, copy in (("pickling", unpickled), ("its state dict", other)):
            value = _evaluate(copy, x, critic).total
            assert torch.equal(value, expected), (
                f"a copy of a loss by {way} must give the same value, but gives {value.item()} instead of "
                f"{expected.item()}"
            )

    def test_frozen_critic_gets_no_gradient(self, loss: Loss, critic: nn.Module | None) -> None:
        """The generator's loss flows through the critic to the prediction only, and leaves it frozen."""
        critic = _skip_without(critic)
        x = self.example()
        _evaluate(loss, x, critic).total.backward()  # type: ignore[no-untyped-call]
        gradients = [logits.grad for logits in x.prediction.logits.values()]
        assert any(gradient is not None and gradient.any() for gradient in gradients), (
            "Loss.forward must have a gradient in the prediction, but it is 0 for every map"
        )
        for name, parameter in critic.named_parameters():
            assert parameter.grad is None, (
                f"Loss.forward must not train the critic, which is frozen, but {name} gets a gradient"
            )
            assert not parameter.requires_grad, f"Loss.forward must leave the critic frozen, but thaws {name}"

    def test_critic_loss_trains_the_critic_alone(self, loss: Loss, critic: nn.Module | None) -> None:
        """Every parameter of the critic gets a finite gradient, the prediction none, attached or not."""
        critic = _skip_without(critic).requires_grad_(True)
        # The prediction is attached here, unlike in a run: a loss that forgets to detach it would show.
        x = self.example()
        with _seeded():
            result = loss.critic_loss(x, critic)
        result.total.backward()  # type: ignore[no-untyped-call]
        _assert_float32(result.total)
        for name, term in result.terms.items():
            assert not term.requires_grad, f"the terms of Loss.critic_loss must be detached, but {name} is not"
        # Of all parameters: a loss that freezes some of them inside trains less than the whole critic.
        unused: list[str] = []
        for name, parameter in critic.named_parameters():
            if parameter.grad is None:
                unused.append(name)
        assert not unused, (
            f"Loss.critic_loss must give every parameter of the critic a gradient, because distributed training waits "
            f"for all of them, but none reaches {unused}"
        )
        wrong = tensors.names_of_non_finite(tensors.gradients(critic))
        assert not wrong, f"the critic's gradients must be finite, but those of {wrong} are not"
        for name, logits in x.prediction.logits.items():
            assert logits.grad is None, f"Loss.critic_loss must not train the generator, but {name} gets a gradient"

    def test_critic_learns(self, loss: Loss, critic: nn.Module | None) -> None:
        """A few optimiser steps make the critic's loss smaller."""
        critic = _skip_without(critic).requires_grad_(True)
        x = _detached(self.example())
        values: list[float] = []
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
        for _ in range(6):
            optimizer.zero_grad()
            # The same draws in every step, so that the values compare.
            with _seeded():
                total = loss.critic_loss(x, critic).total
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            values.append(total.item())
        assert values[-1] < values[0], f"the critic's loss must fall in six steps of Adam, but went {values}"

    def test_loss_does_not_keep_its_critic(self, loss: Loss, critic: nn.Module | None) -> None:
        """The trainer owns the critic; a critic stored on the loss would be saved and optimised twice."""
        critic = _skip_without(critic)
        _evaluate(loss, self.example(), critic)
        loss.critic_loss(_detached(self.example()), critic)
        for name, module in loss.named_modules():
            assert module is not critic, (
                f"a loss must not store its critic, which the trainer owns, but has it as {name}"
            )
        # A critic in a list or behind a private name is no submodule, and is kept all the same.
        for name, value in vars(loss).items():
            assert value is not critic, (
                f"a loss must not store its critic, which the trainer owns, but has it as {name}"
            )


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
        waits = name in WAITS
        # Indexing by integers keeps sizes; by a mask, the size of the result is the number of ones.
        if name == "aten::index":
            waits = any(index is not None and index.dtype == torch.bool for index in args[1])
        if waits:
            pytest.fail(
                f"a loss must not wait for the device, because that stalls a GPU in every step, but {name} does: avoid "
                f"`.item()`, branches on tensors and indexing by a mask",
                pytrace=False,
            )
        return func(*args, **(kwargs or {}))


@contextmanager
def _seeded() -> Iterator[None]:
    """Give losses that draw random numbers the same ones each time, and restore the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _evaluate(loss: Loss, x: LossInput, critic: nn.Module | None) -> LossResult:
    with _seeded():
        result: LossResult = loss(x, critic)
    return result


def _gradients(loss: Loss, x: LossInput, critic: nn.Module | None, leaves: Maps | None = None) -> Maps:
    """Return the gradient of the total in the prediction's logits, or in `leaves`; zero where there is none."""
    if leaves is None:
        leaves = x.prediction.logits
    total = _evaluate(loss, x, critic).total
    # The graph is kept, because maps and their spoiled copies share it from call to call.
    gradients = torch.autograd.grad(total, list(leaves.values()), retain_graph=True, allow_unused=True)
    by_name: Maps = {}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        by_name[name] = torch.zeros_like(leaf)
        if gradient is not None:
            by_name[name] = gradient
    return by_name


def _descend(x: LossInput, gradients: Maps, step: float) -> LossInput:
    """Move the logits down the gradient, the farthest of each map by `step`."""
    logits: Maps = {}
    maps: Maps = {}
    for name, value in x.prediction.logits.items():
        gradient = gradients[name]
        # The clamp leaves logits without gradient where they are.
        direction = step * gradient / gradient.abs().max().clamp(min=1e-12)
        logits[name] = (value - direction).detach().requires_grad_()
        maps[name] = activate(MAPS[name], logits[name])
    return replace(x, prediction=Prediction(maps, logits, x.prediction.features))


def _spoil(x: LossInput, extreme: float) -> LossInput:
    """Put extreme values into the invalid pixels of everything that losses compare."""

    def spoiled(maps: Maps, value: float) -> Maps:
        return {name: torch.where(x.valid == 0, value, tensor) for name, tensor in maps.items()}

    def spoiled_prediction(prediction: Prediction, value: float) -> Prediction:
        maps = spoiled(prediction.maps, value)
        return Prediction(maps, spoiled(prediction.logits, value), prediction.features)

    teacher = x.teacher
    if teacher is not None:
        teacher = spoiled_prediction(teacher, -extreme / 10)
    # Different values, so that their differences are extreme too.
    prediction = spoiled_prediction(x.prediction, extreme)
    return replace(x, prediction=prediction, target=spoiled(x.target, -extreme), teacher=teacher)


def _detached(x: LossInput) -> LossInput:
    """Cut the prediction from its graph, as a run does for the step of a critic."""

    def detached(maps: Maps) -> Maps:
        return {name: value.detach() for name, value in maps.items()}

    maps = detached(x.prediction.maps)
    return replace(x, prediction=Prediction(maps, detached(x.prediction.logits), x.prediction.features))


def _tensors(x: LossInput) -> dict[str, Tensor]:
    """List every tensor of an input under the name that a loss reads it by."""
    by_name = {"views": x.views, "visible": x.visible, "valid": x.valid}
    groups: dict[str, Maps] = {"target": x.target}
    for owner, prediction in (("prediction", x.prediction), ("teacher", x.teacher)):
        if prediction is not None:
            groups[f"{owner}.maps"] = prediction.maps
            groups[f"{owner}.logits"] = prediction.logits
            groups[f"{owner}.features"] = prediction.features
    for group, maps in groups.items():
        for name, tensor in maps.items():
            by_name[f"{group}[{name!r}]"] = tensor
    return by_name


def _assert_float32(total: Tensor) -> None:
    assert total.dtype == torch.float32, f"LossResult.total must be float32, but is {total.dtype}"


def _skip_unless_reconstruction(loss: Loss) -> None:
    if not loss.reconstruction:
        pytest.skip("not a reconstruction loss")


def _skip_without(critic: nn.Module | None) -> nn.Module:
    if critic is None:
        pytest.skip("no critic")
    return critic
