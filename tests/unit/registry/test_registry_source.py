"""Reading thin modules without importing them."""

import importlib.util
import sys
from pathlib import Path

import pytest

from neuropbr_core.registry import Registry
from neuropbr_core.registry.installed import locate, read_thin_module


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def write(path: Path, source: str = "raise SystemExit('imported')") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path


def test_a_module_a_package_and_a_submodule(site):
    single = write(site / "nbr_single.py")
    package = write(site / "nbr_package" / "__init__.py")
    inner = write(site / "nbr_package" / "inner.py")
    assert locate("nbr_single") == single
    assert locate("nbr_package") == package
    assert locate("nbr_package.inner") == inner
    assert locate("nbr_package.absent") is None
    assert locate("nbr_single.inner") is None
    assert locate("nbr_absent") is None


def test_nested_namespace_packages_over_several_folders(site, tmp_path, monkeypatch):
    other = tmp_path / "other"
    write(site / "nbr_space" / "deep" / "one.py")
    two = write(other / "nbr_space" / "deep" / "two" / "__init__.py")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other)])
    assert locate("nbr_space.deep.two") == two
    assert locate("nbr_space.deep") is None


def test_a_finder_of_an_editable_install(tmp_path, monkeypatch):
    package = write(tmp_path / "src" / "__init__.py")
    inner = write(tmp_path / "src" / "inner.py")

    class Finder:
        @staticmethod
        def find_spec(name, path, target=None):
            if name != "nbr_editable":
                return None
            return importlib.util.spec_from_file_location(
                name, package, submodule_search_locations=[str(package.parent)]
            )

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert locate("nbr_editable") == package
    assert locate("nbr_editable.inner") == inner


def test_a_finder_that_raises_is_passed_over(monkeypatch):
    class Finder:
        @staticmethod
        def find_spec(name, path, target=None):
            raise RuntimeError("not today")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert locate("nbr_absent") is None


def test_states_docstring_and_api(site):
    write(site / "nbr_thin.py", '"""Summary.\n\n    Indented.\n    """\nNEUROPBR_API: int = 3\n')
    thin = read_thin_module("nbr_thin")
    assert thin is not None
    assert (thin.docstring, thin.api) == ("Summary.\n\nIndented.", 3)


@pytest.mark.parametrize("source", ["x = 1", "NEUROPBR_API = f()", "if True:\n    NEUROPBR_API = 1"])
def test_states_nothing_that_is_not_literal(site, source):
    write(site / "nbr_thin.py", source)
    thin = read_thin_module("nbr_thin")
    assert thin is not None
    assert (thin.docstring, thin.api) == (None, None)


@pytest.mark.parametrize("source", [b"def f(:", b"\0", b"# coding: utf-8\n'\xff'"])
def test_unreadable_source_is_none(site, source):
    (site / "nbr_thin.py").write_bytes(source)
    assert read_thin_module("nbr_thin") is None


def test_an_odd_escape_warns_nobody(site):
    write(site / "nbr_thin.py", "'''Summary \\d.'''")
    thin = read_thin_module("nbr_thin")
    assert thin is not None
    assert thin.docstring == "Summary \\d."


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        ('"""\n  First line.  \n\nRest."""', "First line."),
        ("x = 1", None),
        ("def f(:", None),
    ],
)
def test_summary_of_an_entry(declare, source, summary):
    declare("acme", "neuropbr.encoders", "tiny = nbr_tiny", source)
    assert Registry().find("encoder", "tiny").summary() == summary
    assert "nbr_tiny" not in sys.modules


def test_first_party_components_have_a_summary():
    missing = [str(entry) for entry in Registry().entries() if entry.distribution == "neuropbr" and not entry.summary()]
    assert missing == []
