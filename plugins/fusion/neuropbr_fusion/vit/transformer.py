"""A transformer over the tokens of all views; attention weights each token by how much of it is visible."""

from jaxtyping import Float
from timm.layers import build_sincos2d_pos_embed  # type: ignore[attr-defined]
from torch import Tensor, nn

from neuropbr_core.contracts import Fusion
from neuropbr_core.errors import ModelError
from neuropbr_fusion.attention import (
    Attention,
    Block,
    mean_over_views,
    require_heads_divide,
    start_like_timm,
    visibility_bias,
)
from neuropbr_fusion.visibility import blank_unseen
from neuropbr_fusion.vit import Options


class ViewTransformer(Fusion):
    """Lets all pixels of all views attend to each other, then averages over views.

    Tokens carry the position of their pixel (2-D sines, computed for any size) but not the number of their view, so the
    order of views cannot matter. Where a view sees nothing, its token is blanked, no other token attends to it, and it
    has no weight in the mean. A pixel that no view sees is filled from what its tokens, which hold their position only,
    gather elsewhere.

    Source: Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words"; Vaswani et al. 2017, "Attention Is All You Need",
    section 3.5 (sines).

    Args:
        options: The recipe's options.
        in_channels: Channels of the latents.

    Raises:
        ModelError: `heads` does not divide `dim`, or `dim` does not suit `position: sine2d`.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        dim = options.dim
        require_heads_divide("vit", options.heads, dim)
        # Sine and cosine of each of the two axes take a quarter of the channels each.
        if options.position == "sine2d" and dim % 4:
            raise ModelError(
                f"fusion vit: position sine2d needs dim divisible by 4, found {dim}; or set `position: none`"
            )
        self.out_channels = dim
        self.positioned = options.position == "sine2d"
        self.project = nn.Linear(in_channels, dim)
        self.blocks = nn.ModuleList()
        for index in range(options.depth):
            attention = Attention(dim, options.heads, options.dropout, options.attention_dropout)
            # Huang et al. 2016, section 3: the probability of skipping grows linearly, up to `drop_path` at the end.
            drop_path = options.drop_path * (index + 1) / options.depth
            self.blocks.append(Block(attention, dim, options.mlp_ratio, options.dropout, drop_path))
        self.norm = nn.LayerNorm(dim)
        start_like_timm(self)

    def forward(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"] | None = None
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1]; None when it is 1 everywhere.

        Returns:
            The fused latent.
        """
        batch, views, _, height, width = latents.shape
        tokens = self.embed(latents, visible)
        bias = None
        if visible is not None:
            # Flattened visibility has the order of the tokens.
            bias = visibility_bias(visible.flatten(1))
        for block in self.blocks:
            tokens = block(tokens, bias)

        tokens = self.norm(tokens).reshape(batch, views, height * width, -1)
        return mean_over_views(tokens, visible).transpose(1, 2).reshape(batch, -1, height, width)

    def embed(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"] | None
    ) -> Float[Tensor, "B T D"]:
        """Make one token for each view and pixel.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1]; None when it is 1 everywhere.

        Returns:
            The tokens, views outermost, then rows; a token holds only its position where its view sees nothing.
        """
        batch, _, _, height, width = latents.shape
        blanked = latents.flatten(3)
        if visible is not None:
            blanked = blank_unseen(blanked, visible.flatten(3))
        tokens: Tensor = self.project(blanked.flatten(0, 1).transpose(1, 2))
        if self.positioned:
            # All views share the positions, added while views are still part of the batch axis.
            tokens = tokens + build_sincos2d_pos_embed(
                [height, width], self.out_channels, device=tokens.device, dtype=tokens.dtype
            )
        return tokens.reshape(batch, -1, self.out_channels)
