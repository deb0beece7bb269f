"""Multi-head self-attention in which a token counts by how much of it is visible."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_fusion.visibility import is_seen

_MASKED = -3e4
"""Bias of an invisible key: its weight underflows to exactly 0, and the number is finite in fp16 and bf16, so that a
row in which every key is masked stays finite."""


def visibility_bias(visible: Float[Tensor, "B T"]) -> Float[Tensor, "B 1 1 T"]:
    """Bias of attention scores that scales each key's weight by its visibility.

    softmax(s + log m)_j is proportional to m_j · exp(s_j): a key seen by half counts half, an invisible one not at
    all. The bias depends on the key alone; it is never expanded to T × T.
    """
    seen = is_seen(visible)
    return torch.where(seen, visible.masked_fill(~seen, 1).log(), _MASKED)[:, None, None, :]


class Attention(nn.Module):
    """Scaled dot-product attention of all tokens of a sample.

    Queries, keys and values have a projection each and tensors stay at rank 4 or below, which mobile accelerators
    want. Keys have no bias: it would add the same to all scores of a query, which softmax ignores.

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
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B T D"], bias: Float[Tensor, "B 1 1 T"]) -> Float[Tensor, "B T D"]:
        """Attend.

        Args:
            tokens: Normalised tokens.
            bias: `visibility_bias` of the tokens.
        """
        query, key, value = (self._split(project(tokens)) for project in (self.query, self.key, self.value))
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)
        result: Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return result

    def _split(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B heads T d"]:
        batch, count, _ = tokens.shape
        return tokens.reshape(batch, count, self.heads, -1).transpose(1, 2)
