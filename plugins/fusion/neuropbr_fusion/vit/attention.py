"""Multi-head self-attention that weights each token by how much of it is visible."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_fusion.visibility import is_seen

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

    def forward(self, tokens: Float[Tensor, "B T D"], bias: Float[Tensor, "B 1 1 T"]) -> Float[Tensor, "B T D"]:
        """Let every token gather from all tokens of its sample.

        Args:
            tokens: Normalised tokens.
            bias: `visibility_bias` of the tokens.

        Returns:
            What each token gathered, projected.
        """
        query = self._split(self.query(tokens))
        key = self._split(self.key(tokens))
        value = self._split(self.value(tokens))
        # Unlike a dropout module, the function applies its dropout in eval mode too.
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)
        result: Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return result

    def _split(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B heads T d"]:
        batch, count, _ = tokens.shape
        return tokens.reshape(batch, count, self.heads, -1).transpose(1, 2)
