"""Elements escape every text; data in scripts cannot end the script."""

import json

import pytest

from neuropbr_core.viewer.html import Html, data_script, element, join

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\u2028"


def test_text_and_attributes_are_escaped():
    written = element("p", HOSTILE, title=HOSTILE)
    assert written.count("<") == 2
    assert "onerror=alert(2)>" not in written
    assert written.startswith('<p title="&lt;/script&gt;')


def test_html_stays_html_and_none_is_left_out():
    assert element("p", element("b", "a < b"), None, "c") == "<p><b>a &lt; b</b>c</p>"
    assert join(element("i", "1"), None, element("i", "2")) == "<i>1</i>\n<i>2</i>"
    assert isinstance(element("p"), Html)


def test_attributes():
    written = element("input", class_="a", data_map="albedo", hidden=True, checked=False, value=None, min=0)
    assert written == '<input class="a" data-map="albedo" hidden min="0">'


@pytest.mark.parametrize("text", ["half \ud800 of a character", "zero\0byte"])
def test_text_that_no_page_can_hold_is_replaced(text: str):
    written = element("p", text)
    written.encode("utf-8")
    assert "\0" not in written


def test_data_cannot_end_its_script():
    written = data_script("data", {"name": HOSTILE, "comment": "<!--"})
    assert written.count("<") == 2  # the element's own tags
    inside = written.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert json.loads(inside) == {"name": HOSTILE, "comment": "<!--"}


def test_data_refuses_numbers_that_json_has_not():
    with pytest.raises(ValueError, match="JSON"):
        data_script("data", [float("nan")])
