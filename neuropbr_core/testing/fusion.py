"""Conformance suite of fusion blocks.

A test of an author's package subclasses it:

    from neuropbr_core.testing.fusion import FusionSuite

    class TestMeanPool(FusionSuite):
        use = "meanpool"
        option_sets = ({}, {"out_channels": 8})
"""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from neuropbr_core.contracts import Fusion
from neuropbr_core.testing import tensors
from neuropbr_core.testing.component import ComponentSuite


class FusionSuite(ComponentSuite):
    """Tests of everything that the core relies on in a fusion block (`neuropbr_core.contracts.Fusion`).

    Attributes:
        in_channels: Channels of the latents that the block is tested with.
        size: Height and width of the latents; they differ, so that swapped axes show.
        tolerance: Largest difference between two computations of the same result, relative to its largest value.
    """

    kind = "fusion"
    in_channels: ClassVar[int] = 16
    size: ClassVar[tuple[int, int]] = (3, 5)
    tolerance: ClassVar[float] = 1e-5

    def make_fusion(self, options: Any) -> Fusion:
        """Build the block with weights that do not change from call to call.

        Args:
            options: The component's options dataclass.

        Returns:
            The block.
        """
        torch.manual_seed(0)
        fusion = self.create(options, in_channels=self.in_channels)
        assert isinstance(fusion, Fusion), (
            f"create_fusion must return a neuropbr_core.contracts.Fusion, but returned a {type(fusion).__name__}"
        )
        return fusion

    def make_latents(self, views: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
        """Draw random latents and visibility; every view sees at least a third of every pixel.

        Args:
            views: Views of a sample.
            batch: Samples.

        Returns:
            Latents `(batch, views, in_channels, h, w)` and visibility `(batch, views, 1, h, w)`; they are the same in
            every call.
        """
        generator = torch.Generator().manual_seed(views)
        latents = torch.randn(batch, views, self.in_channels, *self.size, generator=generator)
        visible = 1 - 2 / 3 * torch.rand(batch, views, 1, *self.size, generator=generator)
        return latents, visible

    def assert_close(self, result: Tensor, expected: Tensor, rule: str) -> None:
        """Compare two results within `tolerance`.

        Args:
            result: The result to check.
            expected: What it should be.
            rule: What a block must do, as a sentence that starts an error.
        """
        worst = float((result - expected).abs().max())
        # Results that are small everywhere are compared absolutely, because rounding does not shrink with them.
        allowed = self.tolerance * max(1.0, float(expected.abs().max()))
        assert worst <= allowed, f"{rule}: the results differ by {worst:.3g}, and {allowed:.3g} is allowed"

    def create_from_defaults(self, folder: Path) -> None:  # noqa: ARG002 - writes nothing
        """Build the block from default options on the meta device, where even a large one costs nothing."""
        # Channels as networks have them: a default number of heads or groups may not divide fewer.
        with torch.device("meta"):
            self.create(self.options_type()(), in_channels=64)

    @pytest.mark.parametrize("views", [1, 2, 3, 5])
    def test_fuses_any_number_of_views(self, options: Any, views: int) -> None:
        """One block takes any V and returns `(B, out_channels, h, w)`."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents(views)
        with torch.no_grad():
            fused = fusion(latents, visible)
        expected = (2, fusion.out_channels, *self.size)
        assert tuple(fused.shape) == expected, (
            f"Fusion.forward must return (B, out_channels, h, w) for any number of views: for {views} views expected "
            f"{expected}, got {tuple(fused.shape)}"
        )
        assert bool(fused.isfinite().all()), f"Fusion.forward must return finite values, but did not for {views} views"

    @pytest.mark.parametrize("views", [1, 3])
    def test_nothing_hidden_is_as_all_visible(self, options: Any, views: int) -> None:
        """Without `visible` the result is that of ones."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents(views)
        with torch.no_grad():
            self.assert_close(
                fusion(latents, None),
                fusion(latents, torch.ones_like(visible)),
                "Fusion.forward takes visible=None when every view sees everything",
            )

    @pytest.mark.parametrize("size", [(1, 1), (4, 2)])
    def test_fuses_any_size(self, options: Any, size: tuple[int, int]) -> None:
        """One block takes latents of any height and width."""
        fusion = self.make_fusion(options).eval()
        with torch.no_grad():
            fused = fusion(torch.randn(1, 2, self.in_channels, *size), torch.ones(1, 2, 1, *size))
        expected = (1, fusion.out_channels, *size)
        assert tuple(fused.shape) == expected, (
            f"Fusion.forward must keep the latents' size: for {size} expected {expected}, got {tuple(fused.shape)}"
        )

    def test_order_of_views_does_not_matter(self, options: Any) -> None:
        """Permuting the views leaves the result as it is."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents(views=4)
        # Every view changes its place.
        order = torch.tensor([2, 0, 3, 1])
        with torch.no_grad():
            self.assert_close(
                fusion(latents[:, order], visible[:, order]),
                fusion(latents, visible),
                "a fusion block must not depend on the order of the views",
            )

    @pytest.mark.parametrize("views", [1, 3])
    def test_unseen_pixels_stay_finite(self, options: Any, views: int) -> None:
        """Pixels that no view sees, and samples without any visible pixel, give finite values and gradients."""
        # With one view, statistics across views are degenerate: the deviation is 0, and its gradient may divide by it.
        fusion = self.make_fusion(options).train()
        latents, visible = self.make_latents(views)
        visible[0, :, :, 1, 2] = 0
        visible[1] = 0
        latents.requires_grad_()
        fused = fusion(latents, visible)
        assert bool(fused.isfinite().all()), (
            "Fusion.forward must return finite values where no view sees the texture, but did not"
        )
        fused.square().mean().backward()
        wrong = tensors.names_of_non_finite({"the latents": latents.grad} | tensors.gradients(fusion))
        assert not wrong, (
            f"gradients must be finite where no view sees the texture, but those of {', '.join(wrong)} are not"
        )

    def test_content_of_invisible_views_does_not_matter(self, options: Any) -> None:
        """The content of a view that sees nothing of the texture does not change the result."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        visible[:, 1] = 0
        # One pixel that no view sees, because a block may treat such pixels in a way of its own.
        visible[0, :, :, 0, 0] = 0
        other = latents.clone()
        # Large, so that even a weight of a millionth exceeds the tolerance.
        other[:, 1] = 1e3 * torch.randn_like(other[:, 1])
        with torch.no_grad():
            self.assert_close(
                fusion(other, visible),
                fusion(latents, visible),
                "a fusion block must ignore the latents of a view that sees nothing",
            )

    def test_invisible_view_is_as_no_view(self, options: Any) -> None:
        """Adding a view that sees nothing of the texture changes nothing."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        visible[:, 1] = 0
        visible[0, :, :, 0, 0] = 0
        # A mean over all three views, instead of over the two that see, would show.
        others = torch.tensor([0, 2])
        with torch.no_grad():
            self.assert_close(
                fusion(latents, visible),
                fusion(latents[:, others], visible[:, others]),
                "a view that sees nothing must not count as a view",
            )

    def test_gradients_reach_every_parameter_and_view(self, options: Any) -> None:
        """No parameter is unused (distributed training refuses those), and each view's encoder gets a gradient."""
        fusion = self.make_fusion(options).train()
        latents, visible = self.make_latents()
        latents.requires_grad_()
        # Squared, because the plain mean of a normalised result has no gradient.
        fusion(latents, visible).square().mean().backward()
        unused = tensors.names_without_gradient(fusion)
        assert not unused, (
            f"every trainable parameter must get a gradient, because distributed training waits for all of them, but "
            f"none reaches {unused}"
        )
        assert latents.grad is not None, "a gradient must reach the latents, but none does: the encoder would not train"
        reached = latents.grad.abs().amax(dim=(2, 3, 4)) > 0
        missed = (~reached).nonzero().tolist()
        assert not missed, f"a gradient must reach every view, but none reaches (sample, view) {missed}"

    def test_samples_do_not_see_each_other_in_eval(self, options: Any) -> None:
        """In eval mode a batch gives what each sample gives alone, and inputs are not written to."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        untouched_latents = latents.clone()
        untouched_visible = visible.clone()
        # Batch norm in train mode couples samples, which the contract allows; in eval mode nothing may.
        with torch.no_grad():
            together = fusion(latents, visible)
            alone: list[Tensor] = []
            for index in range(2):
                alone.append(fusion(latents[index : index + 1], visible[index : index + 1]))
        self.assert_close(
            together, torch.cat(alone), "in eval mode a sample must give the same result alone and in a batch"
        )
        assert torch.equal(latents, untouched_latents), (
            "Fusion.forward must not change its inputs, but wrote to `latents` in place"
        )
        assert torch.equal(visible, untouched_visible), (
            "Fusion.forward must not change its inputs, but wrote to `visible` in place"
        )

    def test_builds_on_meta(self, options: Any) -> None:
        """On the meta device it costs no memory and declares the same."""
        real = self.make_fusion(options)
        # A run reads `out_channels` from an instance on the meta device before it builds the real one.
        with torch.device("meta"):
            meta = self.make_fusion(options)
        tensors.assert_is_meta(meta)
        assert meta.out_channels == real.out_channels, (
            f"Fusion.out_channels must follow from the options alone, but is {meta.out_channels} on the meta device "
            f"and {real.out_channels} elsewhere"
        )
        assert tensors.state_shapes(meta) == tensors.state_shapes(real), (
            "a fusion block must have the same parameters and buffers on the meta device as elsewhere, but names or "
            "shapes of its state dict differ"
        )

    def test_state_dict_round_trip(self, options: Any) -> None:
        """The state dict, tensors only, carries all that another instance needs to give the same result."""
        fusion = self.make_fusion(options).eval()
        tensors.assert_state_is_tensors(fusion)
        # Built without a seed, so that its own weights differ.
        other = self.create(options, in_channels=self.in_channels)
        other.load_state_dict(fusion.state_dict())
        latents, visible = self.make_latents()
        with torch.no_grad():
            self.assert_close(
                other.eval()(latents, visible),
                fusion(latents, visible),
                "another instance with the same state dict must give the same result",
            )

    def test_finite_in_bfloat16(self, options: Any) -> None:
        """Under bf16 autocast the result is finite, where nothing is seen too."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        visible[0, 0] = 0
        visible[1] = 0
        # The encoder's last layer hands over bf16 latents under autocast; visibility stays in float32.
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            fused = fusion(latents.bfloat16(), visible)
        assert bool(fused.isfinite().all()), "Fusion.forward must return finite values under bf16 autocast, but did not"

    def test_exports(self, options: Any) -> None:
        """`torch.export` captures it without looking at values: one program serves whatever is visible."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        # Exported while everything is visible and called while a view is not: a constant that was baked in would show.
        with torch.no_grad():
            exported = torch.export.export(fusion, (latents, torch.ones_like(visible))).module()
            visible[:, 1] = 0
            self.assert_close(
                exported(latents, visible),
                fusion(latents, visible),
                "the program of torch.export must give the block's result for any visibility",
            )

    def test_moves_to_another_device(self, options: Any) -> None:
        """`.to(device)` takes every tensor along."""
        tensors.assert_moves(self.make_fusion(options).eval(), self.make_latents())

    def test_can_be_frozen(self, options: Any) -> None:
        """A frozen block in eval mode needs no gradient and keeps its state."""
        tensors.assert_can_be_frozen(self.make_fusion(options), self.make_latents(), "Fusion")

    @pytest.mark.usefixtures("full")
    def test_compiles(self, options: Any) -> None:
        """`torch.compile` takes it, and its result stays the same."""
        fusion = self.make_fusion(options).eval()
        tensors.assert_compiles(fusion, self.make_latents(), "a fusion block", self.tolerance)

    @pytest.mark.usefixtures("full")
    def test_gradient_is_the_derivative(self, options: Any) -> None:
        """The gradient in the latents is what differences of the result say."""
        tensors.assert_gradient_is_true(self.make_fusion(options).eval(), self.make_latents(), "a fusion block")
