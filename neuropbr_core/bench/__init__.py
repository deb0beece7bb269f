"""The bench: one protocol on data that ships, for the project's models and for maps of other tools.

protocol.py   materials, photos and sizes -> captures on disk, and a digest that tells whether results are comparable
entries.py    a model, or a folder of another tool's maps -> maps of each capture
scores.py     entries -> their errors beside the baselines, over the materials that none of them was trained on
"""
