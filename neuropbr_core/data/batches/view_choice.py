"""Which views a training step sees, when it does not see all."""

from neuropbr_core.data.seeding import VIEWS, numpy_generator

_ALL_VIEWS = 0.5
"""Share of the steps that see all views without a draw of their number."""


def draw_views(seed: int, epoch: int, step: int, views: int) -> tuple[int, ...]:
    """Choose views for a step: all of them in half of the steps, else a number from 1 to `views`, each as likely.

    The first view is always among them.

    Args:
        seed: Seed of the run.
        epoch: The epoch, from 0.
        step: The step of the epoch, from 0.
        views: Views of each sample.

    Returns:
        Indices in ascending order; they depend on the arguments alone.
    """
    rng = numpy_generator(seed, VIEWS, epoch, step)
    # Users are asked for `views` photos, so most steps show that many; fewer must work, but need less practice.
    if rng.random() < _ALL_VIEWS:
        return tuple(range(views))
    # The first view is the one that the others are registered to, so no step goes without it.
    others = rng.permutation(views - 1)[: rng.integers(views)] + 1
    # In order, because the views' order is no information, and all of them then leave the batch as it is.
    return (0, *sorted(map(int, others)))
