"""The package's components pass NeuroPBR's own suites: run `pytest tests` with the package installed."""

from neuropbr_core.testing import EncoderSuite, LossSuite, PackagerSuite


class TestConvNeXt(EncoderSuite):
    """Everything an encoder must do."""

    use = "convnext"
    option_sets = ({"variant": "atto"},)


class TestCharbonnier(LossSuite):
    """Everything a loss must do."""

    use = "charbonnier"
    option_sets = ({}, {"epsilon": 0.1})


class TestThreeJS(PackagerSuite):
    """Everything a packager must do."""

    use = "threejs"
    option_sets = ({}, {"anisotropy": 1})
