"""Which sides of views an encoder takes."""


def unsuitable(side: float, stride: int) -> str:
    """Explain why an encoder cannot take views of a side.

    Args:
        side: Side in pixels; the share of a larger side may be a fraction.
        stride: The encoder's coarsest stride: how many input pixels its last feature spans along each axis.

    Returns:
        `takes multiples of 32; the nearest is 96`, to be put behind the encoder's name; empty when it takes the side.
    """
    if side % stride == 0:
        return ""
    nearest = max(stride, round(side / stride) * stride)
    return f"takes multiples of {stride}; the nearest is {nearest}"
