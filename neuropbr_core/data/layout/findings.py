"""The findings about a dataset. People read them, programs parse them, and the quarantine acts on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuropbr_core.errors import DataError
from neuropbr_core.materials.lint import Level

_SHOWN = 50  # problems that an error spells out; `neuropbr data check --json` has them all

# The order is that of reports: the worst level comes first.
LEVELS: tuple[Level, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing about a dataset.

    Attributes:
        level: `error`: training is not possible with it; `warning`: training works, but probably not as intended;
            `info`: good to know.
        code: A short name of the kind of finding. It stays the same between versions.
        path: The file or folder.
        message: What is wrong, and what to do.
        sample: The affected sample, such as `clean/sample_0000`.
        material: The affected material: a folder below `output/`.
    """

    level: Level
    code: str
    path: str
    message: str
    sample: str | None = None
    material: str | None = None

    def __str__(self) -> str:
        """`PATH: MESSAGE`."""
        return f"{self.path}: {self.message}"


def of_level(findings: Iterable[Finding], level: Level) -> list[Finding]:
    """Return the findings of one level, in their order."""
    return [finding for finding in findings if finding.level == level]


def allow(findings: Iterable[Finding], allowed: Sequence[str]) -> tuple[list[Finding], list[str]]:
    """Lower the warnings that a person has accepted to `info`. Errors keep their level.

    Args:
        findings: The findings of a check.
        allowed: Entries `CODE`, or `CODE:NAME` for the warnings about one material, sample or file.

    Returns:
        The findings, errors first, and the entries of `allowed` that match no warning.
    """
    lowered = []
    used = set()
    for finding in findings:
        matching = set()
        # Errors are never lowered: training would stop on them anyway, only later.
        if finding.level == "warning":
            entries = {finding.code}
            for name in (finding.material, finding.sample, Path(finding.path).name):
                if name is not None:
                    entries.add(f"{finding.code}:{name}")
            matching = entries.intersection(allowed)
        if matching:
            used |= matching
            lowered.append(replace(finding, level="info", message=f"{finding.message} (allowed)"))
        else:
            lowered.append(finding)
    # The sort is stable: within a level, findings keep their order.
    lowered.sort(key=lambda finding: LEVELS.index(finding.level))
    return lowered, [entry for entry in allowed if entry not in used]


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one `DataError` for all problems, if there are any."""
    if not problems:
        return
    lines = list(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        lines.append(f"… and {len(problems) - _SHOWN} more; `neuropbr data check --json` lists all")
    raise DataError("\n".join(lines))
