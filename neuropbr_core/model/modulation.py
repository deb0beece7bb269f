"""Features that a condition scales and shifts."""

from jaxtyping import Float
from torch import Tensor, nn


class Modulation(nn.Module):
    """Scales and shifts features by a function of a condition, one number a channel; starts as the identity.

    Source: Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer", equation 1.
    """

    def __init__(self, conditions: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(conditions, 2 * channels)
        # Zero makes it the identity: training starts from the network without the condition.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "B C h w"], condition: Float[Tensor, "B K"]) -> Float[Tensor, "B C h w"]:
        """Modulate `x`."""
        modulation: Tensor = self.linear(condition)
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift
