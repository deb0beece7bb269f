"""Where progress bars are shown."""

import sys
from types import ModuleType

import pytest

from neuropbr_core.reporting import ConsoleReporter


@pytest.mark.parametrize("notebook", [False, True])
def test_bars_are_shown_in_notebooks_and_not_in_files(
    notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    bar = ConsoleReporter().bar(3, "refining")
    bar.advance()
    bar.close()
    assert ("refining" in capsys.readouterr().err) == notebook
