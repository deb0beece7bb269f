"""Which views a training step sees, when it does not see all."""

from neuropbr_core.data.seeding import VIEWS, numpy_generator


def draw_views(seed: int, epoch: int, step: int, views: int) -> tuple[int, ...]:
    """Choose views for a step: a number from 1 to `views`, each as likely, and always the first view.

    Args:
        seed: Seed of the run.
        epoch: The epoch, from 0.
        step: The step of the epoch, from 0.
        views: Views of each sample.

    Returns:
        Indices in ascending order; they depend on the arguments alone.
    """
    rng = numpy_generator(seed, VIEWS, epoch, step)
    # The first view is the one that the others are registered to, so no step goes without it.
    others = rng.permutation(views - 1)[: rng.integers(views)] + 1
    # In order, because the views' order is no information, and all of them then leave the batch as it is.
    return (0, *sorted(map(int, others)))
