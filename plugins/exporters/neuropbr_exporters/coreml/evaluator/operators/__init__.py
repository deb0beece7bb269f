"""The operators, grouped by family; importing a group enters its operators into the table."""

from importlib import import_module

GROUPS = (
    "activation",
    "constexpr",
    "convolution",
    "elementwise",
    "linear",
    "normalization",
    "reduction",
    "resize",
    "selection",
    "shape",
)


def load() -> None:
    """Enter all operators; later calls do nothing."""
    for group in GROUPS:
        import_module(f"{__name__}.{group}")
