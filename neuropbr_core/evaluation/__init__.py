"""How good predictions are: metrics per image, the honest baselines, comparison grids and the table at a run's end.

The modules are imported by name; this one loads nothing.

- `metrics`: errors of a batch, per image, over valid pixels.
- `means`: averages over images, and the rows that they come from.
- `baselines`: what a trained model has to beat. `constants` and `ranking` hold the parts that need a whole set.
- `evaluator`: all of the above over a held-back set. `summary`: its record, as JSON and as text.
- `grid`: prediction, target and error as one picture. `heat`: its error colours.
"""
