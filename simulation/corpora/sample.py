"""PLACEHOLDER"""

from importlib.resources import files
from pathlib import Path

SAMPLE = Path(str(files("simulation.corpora"))) / "sample"
"""Folder of the shipped corpus: `manifest.csv`, `speech/`, `noise/`, `rir/`, `LICENSES.md`."""
