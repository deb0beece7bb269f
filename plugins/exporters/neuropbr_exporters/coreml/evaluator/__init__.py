"""A reference evaluator of ML Programs: runs what a package holds with torch, where Core ML does not exist."""

from neuropbr_exporters.coreml.evaluator.evaluate import Evaluator, Step
from neuropbr_exporters.coreml.evaluator.program import MilProgram, Operation, Variable

__all__ = ["Evaluator", "MilProgram", "Operation", "Step", "Variable"]
