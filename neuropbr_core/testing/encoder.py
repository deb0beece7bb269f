"""Conformance suite of encoders.

from neuropbr_core.testing.encoder import EncoderSuite

class TestConvNeXt(EncoderSuite):
    use = "convnext"
    option_sets = ({"variant": "tiny"}, {"variant": "small"})
"""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from neuropbr_core.contracts import Encoder
from neuropbr_core.testing.component import ComponentSuite


class EncoderSuite(ComponentSuite):
    """What the core relies on in every encoder.

    Attributes:
        cells: Sizes to try (height, width), in cells of the coarsest stride.
        tolerance: Largest difference between two ways to the same features, relative to their largest value.
    """

    kind = "encoder"
    cells: ClassVar[tuple[tuple[int, int], ...]] = ((1, 1), (2, 1), (2, 3))
    tolerance: ClassVar[float] = 1e-4

    def make_encoder(self, options: Any, in_channels: int = 3) -> Encoder:
        """Build the encoder with weights that do not change from call to call."""
        torch.manual_seed(0)
        encoder = self.create(options, in_channels=in_channels)
        assert isinstance(encoder, Encoder), f"{type(encoder)} is not an Encoder"
        return encoder

    def make_images(
        self, encoder: Encoder, count: int = 2, in_channels: int = 3, cells: tuple[int, int] = (2, 2)
    ) -> Tensor:
        """Random normalised images of a size that suits the encoder."""
        height, width = (cell * encoder.strides[-1] for cell in cells)
        return torch.randn(count, in_channels, height, width, generator=torch.Generator().manual_seed(1))

    def assert_close(self, found: list[Tensor], expected: list[Tensor]) -> None:
        """Compare two pyramids within `tolerance`."""
        assert len(found) == len(expected), f"{len(found)} features instead of {len(expected)}"
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=self.tolerance * max(1.0, float(other.abs().max())))

    def test_declaration_is_well_formed(self, options: Any) -> None:
        """`channels` and `strides` are tuples of one length; strides are growing powers of two."""
        encoder = self.make_encoder(options)
        channels, strides = encoder.channels, encoder.strides
        assert isinstance(channels, tuple), f"channels is a {type(channels)}, not a tuple"
        assert isinstance(strides, tuple), f"strides is a {type(strides)}, not a tuple"
        assert len(channels) == len(strides) > 0, f"{len(channels)} channel counts and {len(strides)} strides"
        assert all(isinstance(count, int) and count > 0 for count in channels), f"channels {channels}"
        assert all(isinstance(step, int) and step > 0 and step & (step - 1) == 0 for step in strides), (
            f"strides {strides} are not all powers of two"
        )
        assert sorted(set(strides)) == list(strides), f"strides {strides} do not grow"

    @pytest.mark.parametrize("in_channels", [3, 6])
    def test_declaration_is_true(self, options: Any, in_channels: int) -> None:
        """Every feature has the declared channels and size, for images and for images with directions."""
        encoder = self.make_encoder(options, in_channels).eval()
        for cells in self.cells:
            images = self.make_images(encoder, 1, in_channels, cells)
            with torch.no_grad():
                found = [tuple(feature.shape) for feature in encoder(images)]
            expected = [
                (1, channels, images.shape[2] // stride, images.shape[3] // stride)
                for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
            ]
            assert found == expected, f"features {found} for images {tuple(images.shape)}; declared {expected}"

    def test_builds_on_meta(self, options: Any) -> None:
        """On the meta device it costs no memory and declares the same."""
        real = self.make_encoder(options)
        with torch.device("meta"):
            meta = self.make_encoder(options)
        assert all(value.is_meta for value in meta.state_dict().values()), "a tensor was placed on a device of its own"
        assert (meta.channels, meta.strides) == (real.channels, real.strides), "declares something else on meta"
        assert _shapes(meta) == _shapes(real), "has other parameters on meta"

    def test_gradients_reach_every_trainable_parameter(self, options: Any) -> None:
        """No parameter is unused (distributed training refuses those), and gradients are finite."""
        encoder = self.make_encoder(options).train()
        features = encoder(self.make_images(encoder))
        trainable = {name: value for name, value in encoder.named_parameters() if value.requires_grad}
        if not trainable:
            assert not any(feature.requires_grad for feature in features), "frozen, but its features need gradients"
            return
        torch.autograd.backward([feature.square().mean() for feature in features])
        unused = [name for name, value in trainable.items() if value.grad is None]
        assert not unused, f"no gradient reaches {unused}"
        wrong = [
            name for name, value in trainable.items() if value.grad is not None and not value.grad.isfinite().all()
        ]
        assert not wrong, f"gradients of {wrong} are not finite"

    def test_deterministic_in_eval(self, options: Any) -> None:
        """In eval mode the same images give the same features, and are not written to."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder)
        kept = images.clone()
        with torch.no_grad():
            first = [feature.clone() for feature in encoder(images)]
            second = encoder(images)
        assert torch.equal(images, kept), "the encoder changed its input in place"
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True)), "two passes differ"

    def test_images_do_not_see_each_other_in_eval(self, options: Any) -> None:
        """In eval mode N images together give what each gives alone."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder, count=3)
        with torch.no_grad():
            together = encoder(images)
            alone = [encoder(images[index : index + 1]) for index in range(3)]
        self.assert_close(together, [torch.cat(level) for level in zip(*alone, strict=True)])

    def test_state_dict_round_trip(self, options: Any) -> None:
        """The state dict, tensors only, carries all that another instance needs to give the same features."""
        encoder = self.make_encoder(options)
        with torch.no_grad():
            encoder.train()(self.make_images(encoder))
        state = encoder.state_dict()
        assert all(isinstance(value, Tensor) for value in state.values()), "the state dict holds more than tensors"
        other = self.create(options, in_channels=3)
        other.load_state_dict(state)
        images = self.make_images(encoder)
        with torch.no_grad():
            self.assert_close(other.eval()(images), encoder.eval()(images))

    def test_finite_in_bfloat16(self, options: Any) -> None:
        """Under bf16 autocast every feature is finite."""
        encoder = self.make_encoder(options).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            features = encoder(self.make_images(encoder))
        assert all(bool(feature.isfinite().all()) for feature in features), "features overflow in bf16"

    def test_exports(self, options: Any) -> None:
        """`torch.export` captures it, and the exported program gives the same features."""
        encoder = self.make_encoder(options).eval()
        images = self.make_images(encoder)
        with torch.no_grad():
            exported = torch.export.export(encoder, (images,)).module()
            self.assert_close(exported(images), encoder(images))


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}
