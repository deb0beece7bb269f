"""What is wrong with a dataset, one thing at a time: what people read, programs parse and quarantine acts on."""

from collections.abc import Iterable
from dataclasses import dataclass

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
