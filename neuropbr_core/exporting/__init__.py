"""Export: the exporter writes and reads a file, the core decides whether it equals the model."""

from neuropbr_core.exporting.export import Exported, create_exporter, export_generator
from neuropbr_core.exporting.verify import Comparison, compare, passes

__all__ = ["Comparison", "Exported", "compare", "create_exporter", "export_generator", "passes"]
