"""The Core ML exporter's conformance suite."""

from neuropbr_core.testing.exporter import ExporterSuite


class CoreMLSuite(ExporterSuite):
    """The suite of all exporters, with a tolerance for photos of 8 bits."""

    # The views of the suite have more than 8 bits, and an image has not.
    tolerance = 0.01
