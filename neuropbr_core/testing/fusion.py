"""Conformance suite of fusion blocks.

from neuropbr_core.testing.fusion import FusionSuite

class TestMeanPool(FusionSuite):
    use = "meanpool"
    option_sets = ({}, {"out_channels": 8})
"""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from neuropbr_core.contracts import Fusion
from neuropbr_core.testing.component import ComponentSuite


class FusionSuite(ComponentSuite):
    """What the core relies on in every fusion block.

    Attributes:
        in_channels: Channels of the latents that the block is tested with.
        size: Their height and width; not square, so that swapped axes show.
        tolerance: Largest difference between two ways to the same result, relative to its largest value.
    """

    kind = "fusion"
    in_channels: ClassVar[int] = 16
    size: ClassVar[tuple[int, int]] = (3, 5)
    tolerance: ClassVar[float] = 1e-5

    def make_fusion(self, options: Any) -> Fusion:
        """Build the block with weights that do not change from call to call."""
        torch.manual_seed(0)
        fusion = self.create(options, in_channels=self.in_channels)
        assert isinstance(fusion, Fusion), f"{type(fusion)} is not a Fusion"
        return fusion

    def make_latents(self, views: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
        """Random latents, and visibility in which every pixel of every view is seen at least by a third."""
        generator = torch.Generator().manual_seed(views)
        latents = torch.randn(batch, views, self.in_channels, *self.size, generator=generator)
        visible = 1 - 2 / 3 * torch.rand(batch, views, 1, *self.size, generator=generator)
        return latents, visible

    def assert_close(self, found: Tensor, expected: Tensor, message: str) -> None:
        """Compare two results within `tolerance`."""
        worst = float((found - expected).abs().max())
        allowed = self.tolerance * max(1.0, float(expected.abs().max()))
        assert worst <= allowed, f"{message}: off by {worst:.3g}, {allowed:.3g} is allowed"

    @pytest.mark.parametrize("views", [1, 2, 3, 5])
    def test_fuses_any_number_of_views(self, options: Any, views: int) -> None:
        """One block takes any V and returns `(B, out_channels, h, w)`."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents(views)
        with torch.no_grad():
            fused = fusion(latents, visible)
        expected = (2, fusion.out_channels, *self.size)
        assert tuple(fused.shape) == expected, f"{views} views give {tuple(fused.shape)}; declared {expected}"
        assert bool(fused.isfinite().all()), f"{views} views give values that are not finite"

    @pytest.mark.parametrize("size", [(1, 1), (4, 2)])
    def test_fuses_any_size(self, options: Any, size: tuple[int, int]) -> None:
        """One block takes latents of any height and width."""
        fusion = self.make_fusion(options).eval()
        with torch.no_grad():
            fused = fusion(torch.randn(1, 2, self.in_channels, *size), torch.ones(1, 2, 1, *size))
        assert tuple(fused.shape) == (1, fusion.out_channels, *size), f"latents of {size} give {tuple(fused.shape)}"

    def test_order_of_views_does_not_matter(self, options: Any) -> None:
        """Permuting the views leaves the result as it is."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents(views=4)
        order = torch.tensor([2, 0, 3, 1])
        with torch.no_grad():
            self.assert_close(
                fusion(latents[:, order], visible[:, order]), fusion(latents, visible), "depends on the order of views"
            )

    @pytest.mark.parametrize("views", [1, 3])
    def test_unseen_pixels_stay_finite(self, options: Any, views: int) -> None:
        """Pixels that no view sees, and samples without any visible pixel, give finite values and gradients.

        With one view, statistics across views are degenerate: deviation is 0, and so may be what divides its gradient.
        """
        fusion = self.make_fusion(options).train()
        latents, visible = self.make_latents(views)
        visible[0, :, :, 1, 2] = 0
        visible[1] = 0
        latents.requires_grad_()
        fused = fusion(latents, visible)
        assert bool(fused.isfinite().all()), "values are not finite where no view sees the texture"
        fused.square().mean().backward()
        gradients = {"the latents": latents.grad} | {name: value.grad for name, value in fusion.named_parameters()}
        wrong = [name for name, value in gradients.items() if value is not None and not bool(value.isfinite().all())]
        assert not wrong, f"gradients of {wrong} are not finite where no view sees the texture"

    def test_content_of_invisible_views_does_not_matter(self, options: Any) -> None:
        """Whatever a view holds that sees nothing of the texture, the result is the same."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        visible[:, 1] = 0
        visible[0, :, :, 0, 0] = 0
        other = latents.clone()
        other[:, 1] = 1e3 * torch.randn_like(other[:, 1])
        with torch.no_grad():
            self.assert_close(fusion(other, visible), fusion(latents, visible), "depends on a view that sees nothing")

    def test_invisible_view_is_as_no_view(self, options: Any) -> None:
        """Adding a view that sees nothing of the texture changes nothing."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        visible[:, 1] = 0
        visible[0, :, :, 0, 0] = 0
        kept = torch.tensor([0, 2])
        with torch.no_grad():
            self.assert_close(
                fusion(latents, visible), fusion(latents[:, kept], visible[:, kept]), "counts a view that sees nothing"
            )

    def test_gradients_reach_every_parameter_and_view(self, options: Any) -> None:
        """No parameter is unused (distributed training refuses those), and each view's encoder gets a gradient."""
        fusion = self.make_fusion(options).train()
        latents, visible = self.make_latents()
        latents.requires_grad_()
        fusion(latents, visible).square().mean().backward()
        unused = [name for name, value in fusion.named_parameters() if value.requires_grad and value.grad is None]
        assert not unused, f"no gradient reaches {unused}"
        assert latents.grad is not None, "no gradient reaches the latents"
        reached = latents.grad.abs().amax(dim=(2, 3, 4)) > 0
        assert bool(reached.all()), f"no gradient reaches (sample, view) {(~reached).nonzero().tolist()}"

    def test_samples_do_not_see_each_other_in_eval(self, options: Any) -> None:
        """In eval mode a batch gives what each sample gives alone, and inputs are not written to."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        kept = latents.clone(), visible.clone()
        with torch.no_grad():
            together = fusion(latents, visible)
            alone = torch.cat([fusion(latents[index : index + 1], visible[index : index + 1]) for index in range(2)])
        self.assert_close(together, alone, "samples of a batch influence each other")
        assert torch.equal(latents, kept[0]), "the block changed the latents in place"
        assert torch.equal(visible, kept[1]), "the block changed the visibility in place"

    def test_builds_on_meta(self, options: Any) -> None:
        """On the meta device it costs no memory and declares the same."""
        real = self.make_fusion(options)
        with torch.device("meta"):
            meta = self.make_fusion(options)
        assert all(value.is_meta for value in meta.state_dict().values()), "a tensor was placed on a device of its own"
        assert meta.out_channels == real.out_channels, f"declares {meta.out_channels} on meta, {real.out_channels} else"
        assert _shapes(meta) == _shapes(real), "has other parameters on meta"

    def test_state_dict_round_trip(self, options: Any) -> None:
        """The state dict, tensors only, carries all that another instance needs to give the same result."""
        fusion = self.make_fusion(options).eval()
        state = fusion.state_dict()
        assert all(isinstance(value, Tensor) for value in state.values()), "the state dict holds more than tensors"
        other = self.create(options, in_channels=self.in_channels)
        other.load_state_dict(state)
        latents, visible = self.make_latents()
        with torch.no_grad():
            self.assert_close(other.eval()(latents, visible), fusion(latents, visible), "reloaded weights differ")

    def test_finite_in_bfloat16(self, options: Any) -> None:
        """Under bf16 autocast the result is finite, where nothing is seen too."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        visible[0, 0], visible[1] = 0, 0
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            fused = fusion(latents.bfloat16(), visible)
        assert bool(fused.isfinite().all()), "values are not finite in bf16"

    def test_exports(self, options: Any) -> None:
        """`torch.export` captures it without looking at values: one program serves whatever is visible."""
        fusion = self.make_fusion(options).eval()
        latents, visible = self.make_latents()
        with torch.no_grad():
            exported = torch.export.export(fusion, (latents, torch.ones_like(visible))).module()
            visible[:, 1] = 0
            self.assert_close(exported(latents, visible), fusion(latents, visible), "the exported program differs")


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}
