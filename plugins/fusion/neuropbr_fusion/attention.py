"""What transformers over views share: attention weighted by visibility, the block around it, the mean over views."""

import torch
from jaxtyping import Float
from timm.layers import DropPath, Mlp  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.errors import ModelError
from neuropbr_fusion.visibility import is_seen, view_weights

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


def require_heads_divide(fusion: str, heads: int, dim: int) -> None:
    """Refuse heads that do not divide the width of the tokens.

    Args:
        fusion: Name of the fusion block, for the message.
        heads: Attention heads.
        dim: Width of the tokens.

    Raises:
        ModelError: `heads` does not divide `dim`.
    """
    if dim % heads:
        nearest = heads * max(1, round(dim / heads))
        raise ModelError(
            f"fusion {fusion}: heads {heads} does not divide dim {dim}; make dim a multiple of heads, such as {nearest}"
        )


def start_like_timm(module: nn.Module) -> None:
    """Draw the weights of all linear layers as the vision transformers of timm do: truncated normal, no biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def mean_over_views(
    tokens: Float[Tensor, "B V P D"], visible: Float[Tensor, "B V 1 h w"] | None
) -> Float[Tensor, "B P D"]:
    """Average tokens over views, weighted by what each view sees.

    Args:
        tokens: Tokens of every pixel of every view.
        visible: Share of each pixel that the view sees, in [0, 1]; None when it is 1 everywhere.

    Returns:
        One token for each pixel.
    """
    if visible is None:
        return tokens.mean(dim=1)
    weights = view_weights(visible.flatten(3)).transpose(2, 3)
    return (tokens * weights).sum(dim=1)


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
        mixed = self.mix(self.query(tokens), self.key(tokens), self.value(tokens), bias)
        result: Tensor = self.dropout(self.out(mixed))
        return result

    def mix(
        self,
        query: Float[Tensor, "B T D"],
        key: Float[Tensor, "B K D"],
        value: Float[Tensor, "B K D"],
        bias: Float[Tensor, "B 1 1 K"] | None,
    ) -> Float[Tensor, "B T D"]:
        """Average values, in each head with the weights that the scores of queries and keys give.

        Args:
            query: Projected tokens that gather.
            key: Projected tokens to gather from.
            value: Other projections of these.
            bias: `visibility_bias` of the keys; None when all are visible.

        Returns:
            What each query gathered.
        """
        # Unlike a dropout module, the function applies its dropout in eval mode too.
        dropout = self.attention_dropout if self.training else 0.0
        if bias is not None:
            bias = bias.to(query.dtype)
        # Without a bias, PyTorch may choose flash attention, which takes none.
        mixed = F.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value), bias, dropout)
        return mixed.transpose(1, 2).flatten(2)

    def _split(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B heads T d"]:
        batch, count, _ = tokens.shape
        return tokens.reshape(batch, count, self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block: attention, then an MLP, each added to its input.

    Source: Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words", equations 2 and 3; stochastic depth: Huang et
    al. 2016, "Deep Networks with Stochastic Depth".

    Args:
        attention: A module that takes normalised tokens `(B, T, D)`, and whatever else `forward` is given.
        dim: Width of the tokens.
        mlp_ratio: Width of the MLP, relative to `dim`.
        dropout: Dropout in the MLP.
        drop_path: Probability, in [0, 1), that a sample skips each of the two branches in training.
    """

    def __init__(self, attention: nn.Module, dim: int, mlp_ratio: float, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), drop=dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Float[Tensor, "B T D"], *given: object) -> Float[Tensor, "B T D"]:
        """Transform tokens.

        Args:
            tokens: Tokens of all views.
            *given: What the attention takes beside them.

        Returns:
            The tokens with attention and MLP added.
        """
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens), *given))
        mixed: Tensor = tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))
        return mixed
