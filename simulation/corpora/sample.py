"""The sample corpus: real recordings small enough to ship with the package (14.4 MB of FLAC, one channel, 16 kHz).

Enough to run every stage on a laptop and to compare two versions honestly; far too little to train a good one.

|        | train                          | valid                 | test                                |
| ------ | ------------------------------ | --------------------- | ----------------------------------- |
| speech | 14.8 min, 255 utterances,      | 0.8 min, 16, 8        | 3.5 min, 69 utterances, 23 speakers |
|        | 130 speakers (61 children)     | speakers (4 children) | (11 children; under 16)             |
| noise  | 4.1 min, 72 recordings,        | 0.4 min, 8, 8 classes | 1.4 min, 24 recordings, 16 classes, |
|        | 19 classes                     |                       | 6 of them in no other split         |
| rir    | 12 responses, 5 rooms          | 2, 1 room             | 4, 2 rooms                          |

Splits share no speaker, no noise recording (by Freesound id) and no room. `manifest.csv` has a row for each file: id,
path, kind, group, split, samples, sample rate, sha256, licence, source (repository and file) and a note (age and sex
as published, class, where the cut begins in the source file). Paths are relative to the manifest.

Who recorded it. Speech: speechocean762 (329 utterances of 160 speakers, Mandarin speakers reading English, half of
them children), LJ Speech (8, train) and Kathleen (3, test), two native American women. Noise: the ESC-10 part of
ESC-50 (86 clips from Freesound) and 18 long recordings used by three ambience players (Noisekun, AmbientSounds,
Blanket). RIRs: Open AIR library, a seminar room in Rostock, room A in Surrey (dummy head), and one example of
DecayFitNet.

Licences: CC BY 4.0 and 3.0, CC0, public domain, MIT; nothing non-commercial or share-alike. The attributions that CC
BY asks for are in `LICENSES.md`, beside the manifest. A clip of ESC-10 whose own author gave it another licence was
left out.

How it was chosen. Speech: two utterances of 1.8 to 5 s from each speaker, those with the highest speech-to-floor
ratio; three of 2 to 4.2 s from each speaker of test, eight longer ones of LJ Speech. Test and valid speakers are
every second of the cleanest, by age and sex, so that train keeps equally clean ones. Noise: one clip of each
recording, at most 7 or 8 a class in train; recordings of one author with neighbouring Freesound ids, perhaps one
session, are all in train. RIRs: 8 of the 74 responses of room A, spread over azimuth; one channel of the Spokane
hall.

How it was cut. Speech: silence at the ends cut to 0.2 s, -30 dBFS over the active frames, rounded to 13 bits (53 dB
below the speech), which is what lets it all fit. Noise: the loudest 3 s of a clip, 5 or 6 s from the middle of a long
recording, about -38 dBFS, rounded to 12 bits. RIRs: direct sound at 2.5 ms, tail to -80 dB, peak 0.9, 24 bit.

Limits. Short read sentences, mostly of non-native speakers, some sentences by several of them; the two native voices
are women. No babble beyond one cafe and one playground, no music, no traffic. Levels say nothing of the recording.
Responses of one room are much alike: weigh by room. Noise repeats within an utterance that is longer than the
excerpt.
"""

import csv
import functools
import re
from importlib.resources import files
from pathlib import Path

SAMPLE = Path(str(files("simulation.corpora"))) / "sample"
"""Folder of the shipped corpus: `manifest.csv`, `LICENSES.md`, `speech/`, `noise/`, `rir/`."""

CHILD_BELOW_YEARS = 16


@functools.cache
def speaker_groups() -> dict[str, str]:
    """`child` or `adult` by speaker (the group of its recordings), from the ages in the notes of `manifest.csv`.

    The two speakers without an age, LJ Speech and Kathleen, are women.
    """
    with (SAMPLE / "manifest.csv").open(newline="", encoding="utf-8") as lines:
        notes = {line["group"]: line["note"] for line in csv.DictReader(lines) if line["kind"] == "speech"}
    ages = {speaker: re.search(r"\bage (\d+)", note) for speaker, note in notes.items()}
    return {name: "child" if age and int(age[1]) < CHILD_BELOW_YEARS else "adult" for name, age in ages.items()}


@functools.cache
def speaker_corpora() -> dict[str, str]:
    """The source corpus that each speaker of the sample corpus comes from; two corpora are one woman each."""
    return {speaker: "speechocean762" if speaker.startswith("so762_") else speaker for speaker in speaker_groups()}
