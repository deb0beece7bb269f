"""Whether the packages that an exporter needs are installed; nothing is imported for it."""

from importlib.util import find_spec

from neuropbr_core.contracts import Availability


def installed(extra: str, *packages: str) -> Availability:
    """Say whether all packages are there and, if not, how to install them.

    Args:
        extra: The extra of this distribution that brings them.
        packages: Names by which they are imported.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if not missing:
        return Availability(ok=True)
    verb = "is" if len(missing) == 1 else "are"
    return Availability(
        ok=False, reason=f"{' and '.join(missing)} {verb} not installed; pip install 'neuropbr[{extra}]'"
    )
