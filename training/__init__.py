"""Corpora -> checkpoints -> registered, scored versions. Imports `simulation`."""
