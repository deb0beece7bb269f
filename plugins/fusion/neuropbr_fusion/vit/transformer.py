"""A transformer over the tokens of all views; attention weights each token by how much of it is visible."""

import torch
from jaxtyping import Float
from timm.layers import DropPath, Mlp, build_sincos2d_pos_embed  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Fusion
from neuropbr_core.errors import ModelError
from neuropbr_fusion.visibility import blank_unseen, is_seen, view_weights
from neuropbr_fusion.vit import Options

_MASKED = -3e4
"""Bias of an invisible key, whose weight then underflows to exactly 0. The number is finite in fp16 and bf16, so a row
in which every key is masked stays finite."""


def visibility_bias(visible: Float[Tensor, "B T"]) -> Float[Tensor, "B 1 1 T"]:
    """Compute a bias of attention scores that scales each key's weight by its visibility.

    softmax(s + log m)_j is proportional to m_j · exp(s_j): a key that is half visible counts half, and an invisible key
    does not count.

    Args:
        visible: Share of each token that its view sees, in [0, 1].

    Returns:
        The bias, to be added to the scores of every query.
    """
    counted = is_seen(visible)
    # log 1 where nothing is visible, because log 0 would send NaN into the gradient of the branch not taken.
    logarithm = visible.masked_fill(~counted, 1).log()
    # The bias depends on the key alone; it broadcasts over queries and is never expanded to T × T.
    return torch.where(counted, logarithm, _MASKED)[:, None, None, :]


class Attention(nn.Module):
    """Scaled dot-product attention of all tokens of a sample.

    Queries, keys and values have a projection each, and tensors have at most four axes, which mobile accelerators want.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.

    Args:
        dim: Width of the tokens.
        heads: Attention heads; divides `dim`.
        dropout: Dropout of the output projection.
        attention_dropout: Dropout of the attention weights.
    """

    def __init__(self, dim: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.query = nn.Linear(dim, dim)
        # A bias of keys would add the same number to all scores of a query, which softmax ignores.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B T D"], bias: Float[Tensor, "B 1 1 T"] | None) -> Float[Tensor, "B T D"]:
        """Let every token gather from all tokens of its sample.

        Args:
            tokens: Normalised tokens.
            bias: `visibility_bias` of the tokens; None when all are visible.

        Returns:
            What each token gathered, projected.
        """
        query = self._split(self.query(tokens))
        key = self._split(self.key(tokens))
        value = self._split(self.value(tokens))
        # Unlike a dropout module, the function applies its dropout in eval mode too.
        dropout = self.attention_dropout if self.training else 0.0
        if bias is not None:
            bias = bias.to(query.dtype)
        # Without a bias, PyTorch may choose flash attention, which takes none.
        mixed = F.scaled_dot_product_attention(query, key, value, bias, dropout)
        result: Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return result

    def _split(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B heads T d"]:
        batch, count, _ = tokens.shape
        return tokens.reshape(batch, count, self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block: attention, then an MLP, each added to its input.

    Source: Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words", equations 2 and 3; stochastic depth: Huang et
    al. 2016, "Deep Networks with Stochastic Depth".

    Args:
        options: The recipe's options.
        drop_path: Probability, in [0, 1), that a sample skips each of the two branches in training.
    """

    def __init__(self, options: Options, drop_path: float) -> None:
        super().__init__()
        dim = options.dim
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, options.heads, options.dropout, options.attention_dropout)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, round(dim * options.mlp_ratio), drop=options.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Float[Tensor, "B T D"], bias: Float[Tensor, "B 1 1 T"] | None) -> Float[Tensor, "B T D"]:
        """Transform tokens.

        Args:
            tokens: Tokens of all views.
            bias: `visibility_bias` of the tokens; None when all are visible.

        Returns:
            The tokens with attention and MLP added.
        """
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens), bias))
        mixed: Tensor = tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))
        return mixed


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
        heads = options.heads
        if dim % heads:
            nearest = heads * max(1, round(dim / heads))
            raise ModelError(
                f"fusion vit: heads {heads} does not divide dim {dim}; make dim a multiple of heads, such as {nearest}"
            )
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
            # Huang et al. 2016, section 3: the probability of skipping grows linearly, up to `drop_path` at the end.
            self.blocks.append(Block(options, options.drop_path * (index + 1) / options.depth))
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # The vision transformers of timm start from the same truncated normal distribution.
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

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
        fused: Tensor
        if visible is None:
            fused = tokens.mean(dim=1)
        else:
            weights = view_weights(visible.flatten(3)).transpose(2, 3)
            fused = (tokens * weights).sum(dim=1)
        return fused.transpose(1, 2).reshape(batch, -1, height, width)

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
