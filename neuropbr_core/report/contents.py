"""What a report shows, as plain values: other rooms fill them, and `page.py` turns them into a page."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from neuropbr_core.contracts import Maps
from neuropbr_core.evaluation.pictures import Picture
from neuropbr_core.evaluation.summary import EvaluationRecord
from neuropbr_core.report.curves import Curve

Facts = tuple[tuple[str, str], ...]
"""Names with values, in the order in which they are shown."""


@dataclass(frozen=True)
class Version:
    """One set of maps of a material, such as a prediction or the truth.

    Attributes:
        name: Its name, unique within a showcase.
        maps: Maps `(1, channels, H, W)` in the ranges of `neuropbr_core.maps`, on the CPU; any subset of the maps.
        errors: Pictures of the error of each map, where the truth is known.
    """

    name: str
    maps: Maps
    errors: Mapping[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True)
class Showcase:
    """A material with its pictures.

    Attributes:
        name: The material's name.
        versions: Sets of maps; the first one is shown first.
        note: A few words, such as why it was chosen.
        views: Photos as the model saw them, sRGB-encoded `(3, h, w)` in [0, 1].
        extras: Further pictures by name, such as a confidence map.
        facts: What is known of it.
    """

    name: str
    versions: tuple[Version, ...]
    note: str = ""
    views: tuple[Float[Tensor, "3 h w"], ...] = ()
    extras: Mapping[str, Picture] = field(default_factory=dict)
    facts: Facts = ()


@dataclass(frozen=True)
class RunContent:
    """A run as a report shows it.

    Attributes:
        name: Its name, unique within a report.
        facts: A few facts for the head of the page.
        record: Its scores on held-back samples; None without.
        curves: Metrics over steps by name; names begin with `train` or `validation`.
        recipe: The recipe's text.
        provenance: What made the run: versions, command, data, components, weights.
        exports: Exported files with what their verification found.
        evaluations: Scores of further evaluations, by their name.
        notes: What is missing from the report, and why.
    """

    name: str
    facts: Facts = ()
    record: EvaluationRecord | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    recipe: str = ""
    provenance: Facts = ()
    exports: Facts = ()
    evaluations: Mapping[str, EvaluationRecord] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The content of one page.

    Attributes:
        title: Heading of the page.
        showcases: Materials with pictures.
        runs: Runs, in the order in which they are compared.
        key: Text that changes when the page would; see `writing.report_key`.
    """

    title: str
    showcases: tuple[Showcase, ...] = ()
    runs: tuple[RunContent, ...] = ()
    key: str = ""
