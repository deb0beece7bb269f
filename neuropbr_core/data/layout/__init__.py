"""The folder layout of a dataset: its paths, its metadata, its cameras and its problems."""
