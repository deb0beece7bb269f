"""Material maths, nothing learned: colour, shading, light, cameras, synthetic capture and alignment.

    color         sRGB transfer curve
    encoding      stored integers <-> float maps
    ggx           the reflectance model
    split_sum     specular light from all around: prefiltered light, integrated BRDF
    sphere        functions of direction as equirectangular images: turn, shrink, convolve
    environments  surroundings, photographed or procedural, prepared for diffuse and specular light
    cameras       pinhole cameras over the texture tile
    surface       a material's maps, prepared for look-ups anywhere on the endless tiling
    relight       maps under one lamp for one eye, to compare maps by their appearance
    render        one view of a surface under a flash and an environment
    occlusion     the photographer and clutter: soft shadows and silhouettes
    lens          vignette, defocus, shake, grease and scratches
    sensor        exposure, white balance, noise, tone curve, 8 bits
    capture       photos as a phone takes them: several views, one light, one exposure
    defects       the defects of a careless capture, as numbers
    dirt          the same scene, photographed carelessly
    alignment     views resampled into the texture frame, and directions to the camera
    relief        heights from normals, and what follows from heights: occlusion, cavities, edges
    seams         how visible the borders of a repeating texture are, and maps without them
    lint          plausibility checks of a material's maps
    capture_kinds names of kinds of capture, such as flash and no_flash
    procedural    materials out of noise: bricks, metals, woods, cloths, …
    sampling      random numbers from one generator
    vectors       lengths and unit vectors

Conventions, the same in every module:

- Texture frame: u to the right, v down, both in [0, 1] over the tile; the centre of texel i is at (i + 0.5) / size.
  Materials tile: outside [0, 1] the texture repeats.
- World: the tile has side 1 and is in the plane z = 0 with its centre at the origin, x = u - 0.5, y = 0.5 - v, so +y
  is up in the image. Cameras and light are at z > 0. The world axes are the tangent space of OpenGL normals.
- View: x to the right, y down, both in [0, 1] over the square photo, pixel centres at (i + 0.5) / size. A homography
  takes (u, v, 1) to (x, y, 1) times w, which is positive for every point in front of the camera.
- Frame: the affine 3×3 matrix from a crop's (u, v, 1) to the texture's (u, v, 1): window, flips and quarter-turns.
- Vectors and colours have their three components in the dimension before the two of the image: `(..., 3, H, W)`.
- Names of colours end in `_srgb` or `_linear` in signatures. Maps hold sRGB-encoded albedo; light is linear.

This module imports nothing; `lint` imports NumPy, the others torch.
"""
