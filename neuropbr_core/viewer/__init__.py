"""Parts of pages that show a material: elements, style, the interactive preview and the wipe between pictures.

Reports and pages that exporters write have them in common, so this package knows maps and materials alone.

html.py    elements with escaped text
studio.py  light and camera of the preview; the material on a ball
markup.py  the preview with its controls, the wipe, and what their programs need
assets/    style and programs; shading.glsl is the renderer's shading for the graphics card
three/     three.js as one file, and what builds it
"""
