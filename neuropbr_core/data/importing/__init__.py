"""Import of materials from downloaded texture sets."""
