"""Names of procedural materials in a dataset. This module imports nothing."""

PREFIX = "proc_"
"""Start of the names of procedural materials, and of no other names."""


def material_name(kind: str, seed: int) -> str:
    """Return the name of a procedural material.

    Args:
        kind: A key of `catalog.KINDS`.
        seed: Seed of the material.

    Returns:
        A name such as `proc_bricks_7`.
    """
    return f"{PREFIX}{kind}_{seed}"


def is_procedural(name: str) -> bool:
    """Whether a name belongs to a procedural material.

    Args:
        name: Name of any material.

    Returns:
        True if the name has the prefix of procedural materials.
    """
    return name.startswith(PREFIX)
