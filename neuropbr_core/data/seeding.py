"""Random generators addressed by what they are for, so that no draw depends on the draws before it."""

import numpy as np
import torch

ORDER, PLACEMENT, CAPTURE, JITTER, VIEWS, DIRT, LIVE = range(7)
"""First part of a key: the order of an epoch, the window of a visit, the capture of a sample, the errors of a visit,
the views of a step, what goes wrong in a sample's dirty rendering, what is drawn instead of read."""


def numpy_generator(*key: int) -> np.random.Generator:
    """Return the generator of `key` (non-negative integers), the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def torch_generator(*key: int) -> torch.Generator:
    """Return torch's CPU generator of `key` (non-negative integers)."""
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)
