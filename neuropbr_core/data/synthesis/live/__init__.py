"""Training visits that are drawn: banks of materials and surroundings, and the drawer that uses them.

textures_on_disk  material folders and procedural materials as packed textures, kept in files
surroundings      a bank of environments
visits            `LiveVisits`: a material, a scene and cameras for each visit
"""
