"""The examples in the docstrings of the losses run, and every loss has one."""

import doctest
import importlib
import pkgutil

import pytest

import neuropbr_losses
from neuropbr_core.contracts import Loss

MODULES = sorted(module.name for module in pkgutil.walk_packages(neuropbr_losses.__path__, "neuropbr_losses."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0, f"{result.failed} of {result.attempted} lines in {name} print something else"


@pytest.mark.parametrize("name", [name for name in MODULES if name.endswith(".loss")])
def test_every_loss_has_an_example(name: str) -> None:
    module = importlib.import_module(name)
    losses = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Loss) and value.__module__ == name
    ]
    assert len(losses) == 1, f"{name} defines {losses}; a module of this name defines one loss"
    examples = doctest.DocTestParser().get_examples(losses[0].__doc__ or "")
    assert any("loss(" in example.source for example in examples), f"{losses[0].__name__} has no example that calls it"
