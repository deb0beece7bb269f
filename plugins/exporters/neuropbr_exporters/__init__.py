"""Exporters that ship with NeuroPBR, one package each."""
