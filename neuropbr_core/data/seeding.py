"""Random generators addressed by their purpose, so that no draw depends on the draws before it."""

import numpy as np
import torch

ORDER, PLACEMENT, CAPTURE, JITTER, VIEWS, DIRT, LIVE = range(7)
"""First part of a key, which names its purpose: the order of an epoch, the crop of a visit, the capture of a sample,
the errors of a visit, the views of a step, the faults of a sample's dirty rendering, a capture that is drawn live."""


def numpy_generator(*key: int) -> np.random.Generator:
    """Return the generator of `key` (non-negative integers), the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def torch_generator(*key: int) -> torch.Generator:
    """Return torch's CPU generator of `key` (non-negative integers)."""
    # `SeedSequence` mixes the parts of a key; neighbouring seeds of torch's own generator would give related draws.
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)  # torch takes signed 64-bit seeds
