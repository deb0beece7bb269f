"""Material maths, nothing learned: colour, shading, light, cameras, synthetic capture and alignment.

    color         sRGB transfer curve
    encoding      stored integers <-> float maps
    ggx           the reflectance model
    split_sum     what specular light from all around comes to: prefiltered light, integrated BRDF
    sphere        functions of direction as equirectangular images: turn, shrink, convolve
    environments  surroundings, photographed or procedural, ready for diffuse and specular light
    cameras       pinhole cameras over the texture tile
    surface       a material's maps, ready to be looked up anywhere on the endless tiling
    relight       maps under one lamp, seen from one place: for comparing maps by what they look like
    render        one view of a surface under a flash and an environment
    occlusion     who holds the phone, and clutter: soft shadows and silhouettes
    lens          vignette, defocus, shake, grease and scratches
    sensor        exposure, white balance, noise, tone curve, 8 bits
    capture       what a phone would record: several views, one light, one exposure
    dirt          the same scene, photographed carelessly
    alignment     views back into the texture frame, and directions to the camera
    lint          what looks wrong about a material's maps
    pose          focal length and pose of real cameras from their homographies
    procedural    materials out of noise: bricks, metals, woods, cloths, …
    sampling      random numbers that follow one generator

Conventions, the same in every module:

- Texture frame: u to the right, v down, both in [0, 1] over the tile; the centre of texel i lies at (i + 0.5) / size.
  Materials tile: outside [0, 1] the texture repeats.
- World: the tile has side 1 and lies in the plane z = 0 with its centre at the origin, x = u - 0.5, y = 0.5 - v, so +y
  is up in the image. Cameras and light are at z > 0. The world axes are the tangent space of OpenGL normals.
- View: x to the right, y down, both in [0, 1] over the square photo, pixel centres at (i + 0.5) / size. A homography
  takes (u, v, 1) to (x, y, 1) times a positive w for whatever is in front of the camera.
- Frame: the affine 3×3 matrix from a crop's (u, v, 1) to the texture's (u, v, 1): window, flips and quarter-turns.
- Vectors and colours have their three components in the dimension before the two of the image: `(..., 3, H, W)`.
- Names end in `_srgb` or `_linear` where colour changes hands. Maps hold sRGB-encoded albedo; light is linear.

This module imports nothing; `lint` and `pose` import NumPy, the others torch.
"""
