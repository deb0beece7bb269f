"""Conformance suites for authors of components: subclass the suite of a kind, name the component, run pytest.

The suites need pytest, which the package itself does not need: `pip install 'neuropbr[testing]'`.
"""

from neuropbr_core.testing.dataset import DatasetSuite
from neuropbr_core.testing.encoder import EncoderSuite
from neuropbr_core.testing.exporter import ExporterSuite
from neuropbr_core.testing.fusion import FusionSuite
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_core.testing.observer import ObserverSuite
from neuropbr_core.testing.packager import PackagerSuite, example_material

__all__ = [
    "DatasetSuite",
    "EncoderSuite",
    "ExporterSuite",
    "FusionSuite",
    "LossSuite",
    "ObserverSuite",
    "PackagerSuite",
    "example_loss_input",
    "example_material",
]
