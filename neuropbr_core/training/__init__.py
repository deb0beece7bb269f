"""Training: the loop, optimisers, schedules, checkpoints and resume."""
