"""Entry-point groups that look like NeuroPBR's and are not, whose components nothing would find."""

from importlib import metadata

from neuropbr_core.kinds import KINDS
from neuropbr_core.registry.names import normalized
from neuropbr_core.suggestions import nearest

_PREFIX = "neuropbr"


def unknown_groups() -> list[str]:
    """What installed distributions declare for NeuroPBR in groups that it does not have, as whole sentences.

    A distribution with damaged metadata is passed over. A group of a newer NeuroPBR is listed too.

    Returns:
        A sentence for each distribution and group, sorted.
    """
    groups = [kind.group for kind in KINDS.values()]
    sentences = set()
    for distribution in metadata.distributions():
        try:
            # The text comes first because parsing the entry points of all packages is slow.
            if _PREFIX not in (distribution.read_text("entry_points.txt") or "").lower():
                continue
            name = normalized(str(distribution.metadata["Name"]))
            declared = {point.group for point in distribution.entry_points}
        except Exception:  # noqa: S112 - somebody else's damaged metadata must not break a listing
            continue
        for group in declared:
            near = nearest(group.lower(), groups)
            # Another project may be called `neuropbr_tools` and have groups of its own.
            is_meant = group.startswith(f"{_PREFIX}.") or (near is not None and normalized(group).startswith(_PREFIX))
            if group in groups or not is_meant:
                continue
            advice = f"groups are {', '.join(groups)}."
            if near is not None:
                advice = f"did you mean `{near}`?"
            sentences.add(f"{name} declares the group `{group}`, which does not exist; {advice}")
    return sorted(sentences)
