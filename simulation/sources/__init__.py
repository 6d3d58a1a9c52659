"""Source recordings (speech, noise, measured RIRs): what there is, who is in it, which split it belongs to.

recordings.py   what a recording and a source manifest are
finding.py      files of a folder or bucket prefix, rows of a CSV or Parquet manifest
measuring.py    what is measured of a recording, once, and what cannot be used
remembering.py  what was measured before: a second scan of an unchanged folder costs a listing
pairing.py      recorded pairs: clean/ and noisy/ with files of equal names
splitting.py    who belongs to train, valid or test
scanning.py     all of it, one kind after the other; loading a recording

Each kind is given as one of

- `sample`: the corpus that ships with the project (`simulation/corpora/sample.py`); write `./sample` for a folder of
  that name;
- `none`: no recordings of this kind, for scenarios that need none or simulate their rooms;
- a folder or bucket prefix: every file below it with an ending of `audio.AUDIO_SUFFIXES`. A first folder named train,
  valid or test names the split. The next one names the group, so `<root>/<speaker>/<chapter>/1.wav` and
  `<root>/train/<speaker>/1.wav` both belong to `<speaker>`; a file in no such folder is a group of its own;
- a CSV or Parquet manifest (ends in .csv or .parquet): a column `path`, absolute or relative to the manifest, and where
  known `group` (or `speaker` for speech, `recording`, else `class`, for noise, `room` for RIRs), `split`, `id`, `kind`,
  `sha256`, `licence`, `source`, and for RIRs `onset` (the sample at which the direct sound peaks, which is found where
  nothing is said). Rows of another kind are passed over; what a row leaves open follows the rules for
  folders.

Splits share no group: speaker, noise recording or room. Groups whose split is not named are spread by a hash of their
name, 80 % train, 10 % valid, 10 % test, so files may be added later without moving anybody; only where a split would
stay empty, and there are at least three groups, does the one nearest by hash move.

Every file is read and measured once: a recording that is no audio, empty, not finite, silent, clipped, below the
corpus's sample rate (unless that was asked for), not what its manifest says, or a copy of one in another split, is
quarantined with its reason, never dropped in silence. The sample corpus is scanned by its manifest alone, which holds
what was measured. Whenever a recording is loaded, its checksum is compared.
"""

from simulation.sources.recordings import (
    KINDS,
    SPLITS,
    Kind,
    Probe,
    Quarantined,
    Recording,
    SourceManifest,
    Split,
)
from simulation.sources.scanning import load, located, scan, scan_for

__all__ = [
    "KINDS",
    "SPLITS",
    "Kind",
    "Probe",
    "Quarantined",
    "Recording",
    "SourceManifest",
    "Split",
    "load",
    "located",
    "scan",
    "scan_for",
]
