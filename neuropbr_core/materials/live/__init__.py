"""Photos of drawn materials, shaded directly in the texture frame: what live training needs of shading and editing.

    options      the distributions, with units and ranges, as recipes set them
    textures     a material as mipmaps of packed texels; its values at any points
    editing      cells of materials (metal or not, roughness, relief, brightness), and edits that reach them
    mixing       two materials through a random mask
    framing      cameras that frame the tile, vectorised
    crop_grid    where the points of a crop and of its frame lie
    shading      radiance of points towards several cameras
    photos       errors of lens, exposure, sensor and alignment, down to 8 bits
    scene        one capture, photographed in the texture frame

A perspective photo that is warped back into the texture frame shows each texel as its camera sees it, a little blurred.
So texels can be shaded where they are: nothing is rasterised and nothing is warped.

Randomness comes from numpy generators, one for each visit. This module imports nothing.
"""
