"""Conformance suite of encoders.

A test of an author's package subclasses it:

    from neuropbr_core.testing.encoder import EncoderSuite

    class TestConvNeXt(EncoderSuite):
        use = "convnext"
        option_sets = ({"variant": "tiny"}, {"variant": "small"})
"""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from neuropbr_core.contracts import Encoder
from neuropbr_core.testing import tensors
from neuropbr_core.testing.component import ComponentSuite


class EncoderSuite(ComponentSuite):
    """Tests of everything that the core relies on in an encoder (`neuropbr_core.contracts.Encoder`).

    Attributes:
        cells: Image sizes (height, width) to try, in multiples of the coarsest stride.
        tolerance: Largest difference between two computations of the same features, relative to their largest value.
    """

    kind = "encoder"
    cells: ClassVar[tuple[tuple[int, int], ...]] = ((1, 1), (2, 1), (2, 3))
    tolerance: ClassVar[float] = 1e-4

    def make_encoder(self, options: Any, in_channels: int = 3) -> Encoder:
        """Build the encoder with weights that do not change from call to call.

        Args:
            options: The component's options dataclass.
            in_channels: Channels of the images.

        Returns:
            The encoder.
        """
        torch.manual_seed(0)
        encoder = self.create(options, in_channels=in_channels)
        assert isinstance(encoder, Encoder), (
            f"create_encoder must return a neuropbr_core.contracts.Encoder, but returned a {type(encoder).__name__}"
        )
        return encoder

    def make_images(
        self, encoder: Encoder, count: int = 2, in_channels: int = 3, cells: tuple[int, int] = (2, 2)
    ) -> Tensor:
        """Draw random normalised images of a size that suits the encoder.

        Args:
            encoder: The encoder.
            count: Number of images.
            in_channels: Their channels.
            cells: Height and width in multiples of the coarsest stride.

        Returns:
            Images `(count, in_channels, H, W)`, the same in every call.
        """
        # Only multiples of the coarsest stride give every feature a whole size.
        height = cells[0] * encoder.strides[-1]
        width = cells[1] * encoder.strides[-1]
        return torch.randn(count, in_channels, height, width, generator=torch.Generator().manual_seed(1))

    def assert_close(self, features: list[Tensor], expected: list[Tensor], rule: str) -> None:
        """Compare two pyramids within `tolerance`.

        Args:
            features: The features to check.
            expected: What they should be.
            rule: What an encoder must do, as a sentence that starts an error.
        """
        assert len(features) == len(expected), f"{rule}: expected {len(expected)} features, got {len(features)}"
        for index, (feature, other) in enumerate(zip(features, expected, strict=True)):
            # Features that are small everywhere are compared absolutely, because rounding does not shrink with them.
            allowed = self.tolerance * max(1.0, float(other.abs().max()))

            # The default keeps the index of this round; a closure would read that of the last one.
            def message(text: str, number: int = index) -> str:
                return f"{rule}: feature {number}: {text}"

            torch.testing.assert_close(feature, other, rtol=0, atol=allowed, msg=message)

    def create_from_defaults(self, folder: Path) -> None:  # noqa: ARG002 - writes nothing
        """Build the encoder from default options on the meta device, where even a large one costs nothing."""
        with torch.device("meta"):
            self.create(self.options_type()(), in_channels=3)

    def test_declaration_is_well_formed(self, options: Any) -> None:
        """`channels` and `strides` are tuples of one length; strides are growing powers of two."""
        encoder = self.make_encoder(options)
        channels = encoder.channels
        strides = encoder.strides
        assert isinstance(channels, tuple), f"Encoder.channels must be a tuple, but is a {type(channels).__name__}"
        assert isinstance(strides, tuple), f"Encoder.strides must be a tuple, but is a {type(strides).__name__}"
        assert len(channels) == len(strides) > 0, (
            f"Encoder.channels and Encoder.strides must have an entry for each feature, but have {len(channels)} and "
            f"{len(strides)} entries"
        )
        for count in channels:
            assert isinstance(count, int), f"Encoder.channels must hold integers, but is {channels}"
            assert count > 0, f"Encoder.channels must be above 0, but is {channels}"
        for stride in strides:
            assert isinstance(stride, int), f"Encoder.strides must hold integers, but is {strides}"
            # A power of two has a single bit, which subtracting 1 clears.
            assert stride > 0 and stride & (stride - 1) == 0, (  # noqa: PT018 - one rule
                f"Encoder.strides must be powers of two, but is {strides}"
            )
        assert sorted(set(strides)) == list(strides), (
            f"Encoder.strides must grow, because features are listed finest first, but is {strides}"
        )

    @pytest.mark.parametrize("in_channels", [3, 6])
    def test_declaration_is_true(self, options: Any, in_channels: int) -> None:
        """Every feature has the declared channels and size, for images and for images with directions."""
        encoder = self.make_encoder(options, in_channels).eval()
        # 6 channels are an image and its directions; sizes that are not square would show swapped axes.
        for cells in self.cells:
            images = self.make_images(encoder, 1, in_channels, cells)
            height, width = images.shape[2:]
            with torch.no_grad():
                features = encoder(images)
            shapes = [tuple(feature.shape) for feature in features]
            expected: list[tuple[int, ...]] = []
            for channels, stride in zip(encoder.channels, encoder.strides, strict=True):
                expected.append((1, channels, height // stride, width // stride))
            assert shapes == expected, (
                f"Encoder.forward must return the features that channels {encoder.channels} and strides "
                f"{encoder.strides} declare: for images {tuple(images.shape)} expected {expected}, got {shapes}"
            )

    def test_builds_on_meta(self, options: Any) -> None:
        """On the meta device it costs no memory and declares the same."""
        real = self.make_encoder(options)
        # A run reads channels and strides from an instance on the meta device before it builds the real one.
        with torch.device("meta"):
            meta = self.make_encoder(options)
        tensors.assert_is_meta(meta)
        assert (meta.channels, meta.strides) == (real.channels, real.strides), (
            f"Encoder.channels and Encoder.strides must follow from the options alone, but are {meta.channels} and "
            f"{meta.strides} on the meta device, {real.channels} and {real.strides} elsewhere"
        )
        assert tensors.state_shapes(meta) == tensors.state_shapes(real), (
            "an encoder must have the same parameters and buffers on the meta device as elsewhere, but names or shapes "
            "of its state dict differ"
        )

    def test_gradients_reach_every_trainable_parameter(self, options: Any) -> None:
        """No parameter is unused (distributed training refuses those), and gradients are finite."""
        encoder = self.make_encoder(options).train()
        features = encoder(self.make_images(encoder))
        if not tensors.gradients(encoder):
            # Options froze the whole encoder.
            for index, feature in enumerate(features):
                assert not feature.requires_grad, (
                    f"features of an encoder that trains nothing must need no gradient, but feature {index} does"
                )
            return
        # Squared, because the plain mean of a batch-normalised feature has no gradient.
        torch.autograd.backward([feature.square().mean() for feature in features])
        unused = tensors.names_without_gradient(encoder)
        assert not unused, (
            f"every trainable parameter must get a gradient, because distributed training waits for all of them, but "
            f"none reaches {unused}"
        )
        wrong = tensors.names_of_non_finite(tensors.gradients(encoder))
        assert not wrong, f"gradients of an encoder must be finite, but those of {wrong} are not"

    def test_deterministic_in_eval(self, options: Any) -> None:
        """In eval mode the same images give the same features, and are not written to."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder)
        untouched = images.clone()
        with torch.no_grad():
            # Copies, because an encoder might return the same memory twice.
            first = [feature.clone() for feature in encoder(images)]
            second = encoder(images)
        assert torch.equal(images, untouched), "Encoder.forward must not change its images, but wrote to them in place"
        for index, (feature, again) in enumerate(zip(first, second, strict=True)):
            assert torch.equal(feature, again), (
                f"an encoder in eval mode must give equal features for equal images, but feature {index} of two passes "
                f"differs"
            )

    def test_images_do_not_see_each_other_in_eval(self, options: Any) -> None:
        """In eval mode N images together give what each gives alone."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder, count=3)
        # Batch norm in train mode couples images, which the contract allows; in eval mode nothing may.
        with torch.no_grad():
            together = encoder(images)
            for index in range(3):
                self.assert_close(
                    [feature[index : index + 1] for feature in together],
                    encoder(images[index : index + 1]),
                    f"in eval mode image {index} must give the same features alone and in a batch",
                )

    def test_state_dict_round_trip(self, options: Any) -> None:
        """The state dict, tensors only, carries all that another instance needs to give the same features."""
        encoder = self.make_encoder(options)
        with torch.no_grad():
            # A step in train mode moves buffers such as running statistics away from their start.
            encoder.train()(self.make_images(encoder))
        tensors.assert_state_is_tensors(encoder)
        # Built without a seed, so that its own weights differ.
        other = self.create(options, in_channels=3)
        other.load_state_dict(encoder.state_dict())
        images = self.make_images(encoder)
        with torch.no_grad():
            self.assert_close(
                other.eval()(images),
                encoder.eval()(images),
                "another instance with the same state dict must give the same features",
            )

    def test_finite_in_bfloat16(self, options: Any) -> None:
        """Under bf16 autocast every feature is finite."""
        # bf16 is the default precision on a GPU; autocast works on the CPU too, so the test needs none.
        encoder = self.make_encoder(options).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            features = encoder(self.make_images(encoder))
        by_name: dict[str, Tensor | None] = {}
        for index, feature in enumerate(features):
            by_name[f"feature {index}"] = feature
        wrong = tensors.names_of_non_finite(by_name)
        assert not wrong, f"features must be finite under bf16 autocast, but {wrong} are not"

    def test_exports(self, options: Any) -> None:
        """`torch.export` captures it, and the exported program gives the same features."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder)
        # Exporters trace the generator in this way, so a branch on a value would fail here and not in a user's export.
        with torch.no_grad():
            exported = torch.export.export(encoder, (images,)).module()
            self.assert_close(
                exported(images), encoder(images), "the program of torch.export must give the encoder's features"
            )

    def test_moves_to_another_device(self, options: Any) -> None:
        """`.to(device)` takes every tensor along."""
        encoder = self.make_encoder(options).eval()
        tensors.assert_moves(encoder, (self.make_images(encoder, count=1),))

    def test_can_be_frozen(self, options: Any) -> None:
        """A frozen encoder in eval mode needs no gradient and keeps its state."""
        encoder = self.make_encoder(options)
        tensors.assert_can_be_frozen(encoder, (self.make_images(encoder, count=1),), "Encoder")

    @pytest.mark.usefixtures("full")
    def test_compiles(self, options: Any) -> None:
        """`torch.compile` takes it, and its features stay the same."""
        encoder = self.make_encoder(options).eval()
        tensors.assert_compiles(encoder, (self.make_images(encoder),), "an encoder", self.tolerance)

    @pytest.mark.usefixtures("full")
    def test_gradient_is_the_derivative(self, options: Any) -> None:
        """The gradient in the images is what differences of the features say."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder, count=1)
        if not encoder(images.clone().requires_grad_())[0].requires_grad:
            pytest.skip("it passes no gradient on")
        # gradcheck takes tuples of outputs, and no lists.
        tensors.assert_gradient_is_true(_AsTuple(encoder), (images,), "an encoder")


class _AsTuple(torch.nn.Module):
    """An encoder that returns a tuple."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(images))
