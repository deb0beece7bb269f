"""Runs: the folder of a run, the plan of its work, and its execution."""
