"""Fusion blocks: they join the latents of any number of views into one."""
