"""How good predictions are: metrics, baselines, comparison grids, and the table at the end of a run.

Import the modules by name; this package module loads nothing.

- `metrics`: errors of a batch, one value an image, over valid pixels; and the ranking of pixels over a whole set.
- `rerender`: the same errors of pictures rendered with the maps.
- `means`: averages over images, and the rows that they are computed from.
- `baselines`: predictions without a network, which a trained model must beat.
- `evaluator`: metrics of a model and of the baselines over a held-back set, as one record.
- `summary`: the record as data, as JSON and as text. `results`: a folder with the record and the worst samples.
- `heldout`: a generator's predictions of whole frames, given to the evaluator or drawn.
- `tiles`: tensors and errors as pictures. `grid` arranges them in one picture; `pictures` returns them one by one.
"""
