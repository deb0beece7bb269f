"""Components for NeuroPBR."""
