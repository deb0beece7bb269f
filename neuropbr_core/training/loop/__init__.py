"""The training loop: epochs of steps, validation, and what each step computes."""
