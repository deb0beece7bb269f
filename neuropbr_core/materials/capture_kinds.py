"""The kinds of capture: what differs in how a careful person photographs a material. This module imports no torch."""

from typing import Literal, get_args

CaptureKind = Literal["flash", "auto", "offset", "no_flash", "far"]
"""How a capture is taken.

- `flash`: the flash is at the lens and gives most of the light; exposure is locked.
- `auto`: as `flash`, and each photo is exposed on its own, as a phone's automatic exposure does.
- `offset`: as `flash`, and the flash is beside the lens, so that highlights lie beside mirror directions.
- `no_flash`: the surroundings give all light.
- `far`: as `flash`, from 1.8 to 3 tile sides away and with a wider range of tilts.
"""

CAPTURE_KINDS: tuple[CaptureKind, ...] = get_args(CaptureKind)
