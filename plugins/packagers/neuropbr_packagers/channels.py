"""Sets of channels that several targets share."""

from neuropbr_core.contracts import Channel

OCCLUSION_ROUGHNESS_METALLIC = (Channel("ao"), Channel("roughness"), Channel("metallic"))
"""Red occlusion, green roughness, blue metallic: the packing of glTF, Unreal and Godot."""

MASK = (Channel("metallic"), Channel("ao"), Channel(constant=0.0), Channel("roughness", inverted=True))
"""Red metallic, green occlusion, blue detail mask (none), alpha smoothness: the packing of Unity's HDRP."""
