"""Lightning Fabric, imported without torchmetrics."""

import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType


def _spare_torchmetrics() -> ModuleType | None:
    """A module that knows torchmetrics' version and nothing else, in its place until Fabric has asked.

    Fabric only compares the version, but imports the whole of torchmetrics for it, which took more than half of the
    import of Fabric, at every start of a command that trains or checks a recipe.
    """
    if "torchmetrics" in sys.modules:
        return None
    stand_in = ModuleType("torchmetrics")
    stand_in.__spec__ = ModuleSpec("torchmetrics", None)
    stand_in.__dict__["__version__"] = version("torchmetrics")
    sys.modules["torchmetrics"] = stand_in
    return stand_in


_stand_in = _spare_torchmetrics()
try:
    from lightning_fabric import Fabric, seed_everything
finally:
    if _stand_in is not None and sys.modules.get("torchmetrics") is _stand_in:
        del sys.modules["torchmetrics"]

__all__ = ["Fabric", "seed_everything"]
