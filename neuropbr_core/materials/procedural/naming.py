"""Names of procedural materials, by which a dataset knows them. Imports nothing."""

PREFIX = "proc_"
"""With what the names of procedural materials start, and no others."""


def material_name(kind: str, seed: int) -> str:
    """Name of the material of a kind and a seed, such as `proc_bricks_7`."""
    return f"{PREFIX}{kind}_{seed}"


def is_procedural(name: str) -> bool:
    """Whether a material is procedural, by its name."""
    return name.startswith(PREFIX)
