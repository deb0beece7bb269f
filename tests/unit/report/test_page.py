"""The page as text: what it says, how it is escaped, and that it asks for nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from neuropbr_core.evaluation.summary import MODEL, EvaluationRecord
from neuropbr_core.report import Report, RunContent, Showcase, Version, write_page
from neuropbr_core.report.curves import Curve
from neuropbr_core.report.tables import comparison_table, score_tables, score_tiles

HOSTILE = "</script><script>alert(1)</script><img src='http://example.org/x' onerror=alert(2)>\"'"


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def maps(side: int = 8) -> dict[str, torch.Tensor]:
    normal = torch.zeros(1, 3, side, side)
    normal[:, 2] = 1
    return {
        "albedo": torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)),
        "roughness": torch.full((1, 1, side, side), 0.4),
        "metallic": torch.zeros(1, 1, side, side),
        "normal": normal,
    }


def record(psnr: float = 25.0) -> EvaluationRecord:
    return EvaluationRecord(
        samples=2,
        materials=(HOSTILE, "oak"),
        scores={"albedo": {MODEL: {"psnr": psnr, "mae": 0.05}, "best_constant": {"psnr": 20.0, "mae": 0.04}}},
        training_mean={},
        bumpier_samples=0,
        bumpier={},
        per_material={HOSTILE: {"albedo/psnr": psnr}},
        per_sample=(),
    )


def full_report() -> Report:
    showcase = Showcase(
        HOSTILE,
        (Version("prediction", maps()), Version("truth", maps())),
        note=HOSTILE,
        views=(torch.zeros(3, 8, 8),),
        facts=((HOSTILE, HOSTILE),),
    )
    run = RunContent(
        HOSTILE,
        facts=((HOSTILE, HOSTILE),),
        record=record(),
        curves={f"train {HOSTILE}": Curve((1, 2), (1.0, None))},
        recipe=f"name: {HOSTILE}",
        provenance=((HOSTILE, HOSTILE),),
        exports=((HOSTILE, HOSTILE),),
        evaluations={HOSTILE: record()},
        notes=(HOSTILE,),
    )
    return Report(HOSTILE, (showcase,), (run,), key="00")


@pytest.fixture(scope="module")
def page() -> str:
    return write_page(full_report())


def test_hostile_names_stay_text(page: str):
    elements = Elements(page)
    scripts = elements.named("script")
    assert len(scripts) == 7  # two with data, five programs
    assert not [attributes for _, attributes in elements.elements if any(key.startswith("on") for key in attributes)]
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_nothing_is_asked_for(page: str):
    for tag, attributes in Elements(page).elements:
        for key in ("src", "href", "action", "data", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith("data:"), (tag, key)
    assert "url(" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "@import" not in page


def test_policy_names_every_program_and_allows_no_request(page: str):
    policy = next(
        attributes["content"]
        for attributes in Elements(page).named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert policy.count("'sha256-") == 5
    assert "unsafe-eval" not in policy


def test_every_picture_has_a_text(page: str):
    pictures = Elements(page).named("img")
    assert len(pictures) > 10
    assert all("alt" in attributes for attributes in pictures)
    # Pictures beside a text of the same meaning, and those that the program fills, have an empty one.
    assert sum(bool(attributes["alt"]) for attributes in pictures) == 12


def test_controls_have_labels(page: str):
    elements = Elements(page)
    labels = page.count("<label")
    assert labels >= 13
    for attributes in elements.named("select"):
        assert attributes.get("name") == "version" or attributes.get("aria-label"), attributes


def test_licence_of_the_library_is_in_the_page(page: str):
    assert "Copyright © 2010-2026 three.js authors" in page
    assert "THE SOFTWARE IS PROVIDED" in page


def test_page_without_anything():
    page = write_page(Report("empty"))
    assert "<h1>empty</h1>" in page
    assert 'id="viewer"' not in page


def test_one_material_has_no_choice_of_materials():
    single = write_page(Report("a", (Showcase("a", (Version("maps", maps()),)),)))
    assert 'aria-label="Materials"' not in single


def test_maps_are_shrunk():
    small = write_page(Report("a", (Showcase("a", (Version("maps", maps(64)),)),)), map_side=16)
    large = write_page(Report("a", (Showcase("a", (Version("maps", maps(64)),)),)), map_side=64)
    assert len(small) < len(large) - 5000


def test_tiles_tell_better_from_worse():
    assert "better than best constant: 20.00" in score_tiles(record(25.0))
    assert "worse than best constant: 20.00" in score_tiles(record(15.0))


def test_best_of_each_column_is_marked():
    tables = score_tables(record())
    assert '<td class="best">25.00</td>' in tables
    assert '<td class="best">0.0400</td>' in tables


def test_runs_are_compared():
    table = comparison_table({"a": record(25.0), "b": record(26.0)})
    assert '<td class="best">26.00</td>' in table
    assert "<td>25.00</td>" in table
    assert "best baseline" in table


def test_runs_on_different_samples_are_not_compared():
    other = replace(record(26.0), materials=("steel",))
    table = comparison_table({"a": record(25.0), "b": other})
    assert 'class="best"' not in table
    assert "best baseline" not in table
    assert "on samples of its own" in table
