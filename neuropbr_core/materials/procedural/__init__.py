"""Procedural materials: endless tiles with all four maps, from a kind and a seed.

    catalog      `KINDS`, and `generate(kind, seed, size)`
    canvas       sample positions over the tile, and random draws of a seed
    noise        periodic gradient and value noise and their sums, blur, warping
    cells        periodic Voronoi cells: stones, chips, cracks
    courses      blocks in rows: bricks, tiles, boards
    shaping      profiles, masks of a wanted share, signed distances
    palette      colours of dielectrics, F0 of metals, ramps
    layers       a generator's result, one finish over another, and the maps made from them; from height to normals
    weathering   stains, dirt, scratches, cracks, rust
    weaving      threads that cross
    masonry, stone, ground, wood, sheets, plates, coatings, textiles
                 the generators, one family a file

Conventions, beside those of `neuropbr_core.materials`:

- A tile has side 1. Lengths, heights too, are in tiles, so slopes do not depend on the number of pixels.
- Everything repeats exactly: noise uses lattices that wrap, and counts of rows and columns are whole.
- A random draw never depends on the number of pixels. A tile is evaluated on at least `catalog.MIN_SAMPLES` samples a
  side and averaged down to the requested size, so that a seed gives one material at every size.
- The order of draws is part of a material: a generator that draws in another order makes other materials.
- Masks and fields are `(S, S)`, colours `(3, S, S)` linear.

This module imports nothing; the others import torch.
"""
