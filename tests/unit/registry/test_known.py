"""The list of components that packages are known to offer."""

import pytest

from neuropbr_core.errors import PluginNotFound
from neuropbr_core.kinds import KINDS
from neuropbr_core.registry import Registry
from neuropbr_core.registry.known import known_components, who_offers


def test_the_list_is_in_order() -> None:
    components = known_components()
    assert len({(component.kind, component.distribution, component.name) for component in components}) == len(
        components
    )
    for component in components:
        assert component.kind in KINDS
        assert component.install.startswith("pip install ")
        assert component.summary


def test_an_error_about_an_unknown_name_says_who_offers_it() -> None:
    with pytest.raises(PluginNotFound, match=r"The package acme-neuropbr offers encoder/convnext .*: pip install"):
        Registry().find("encoder", "convnext")
    assert who_offers("encoder", "acme-neuropbr:ConvNext")
    assert who_offers("encoder", "other:convnext") == ""
    assert who_offers("loss", "convnext") == ""
