"""Names of distributions."""

import re


def normalized(name: str) -> str:
    """Normalise a distribution's name.

    Source: the name normalisation of PEP 503.
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
