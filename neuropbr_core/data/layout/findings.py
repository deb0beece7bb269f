"""What is wrong with a dataset, one thing at a time: what people read, programs parse and quarantine acts on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuropbr_core.materials.lint import Level

LEVELS: tuple[Level, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing about a dataset.

    Attributes:
        level: `error`: it cannot be trained on; `warning`: it trains, and hardly as meant; `info`: good to know.
        code: What it is, in a word that stays the same between versions.
        path: The file or folder.
        message: What was found, and what to do.
        sample: The sample that it spoils, such as `clean/sample_0000`.
        material: The material that it spoils: a folder below `output/`.
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
    """Lower warnings that a person has looked at to infos; errors stay what they are.

    Args:
        findings: What was found.
        allowed: `CODE`, or `CODE:NAME` for that of one material, sample or file.

    Returns:
        The findings, errors first, and those of `allowed` that fit no warning.
    """
    lowered = []
    used = set()
    for finding in findings:
        if finding.level == "warning":
            fitting = _forms(finding).intersection(allowed)
        else:
            fitting = set()
        used |= fitting
        message = f"{finding.message} (allowed)"
        lowered.append(replace(finding, level="info", message=message) if fitting else finding)
    lowered.sort(key=lambda finding: LEVELS.index(finding.level))
    return lowered, [text for text in allowed if text not in used]


def _forms(finding: Finding) -> set[str]:
    """What allows a finding."""
    names = (finding.material, finding.sample, Path(finding.path).name)
    return {finding.code, *(f"{finding.code}:{name}" for name in names if name is not None)}
