"""Losses that ship with NeuroPBR, one package each."""
