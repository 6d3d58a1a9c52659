"""A few seconds of music of our own: plucked strings, four chords and a melody. Nothing recorded, nothing borrowed.

It asks what a system does to sound that is neither speech nor noise. Pure: equal numbers give equal samples.
"""

import numpy as np
from numpy.typing import NDArray

SECONDS = 4.0
"""A bar of four beats for each of four chords."""
LEVEL_DB = -26.0
"""Of the whole, in dBFS: as speech is usually levelled."""
CHORDS = ((0, 4, 7), (-3, 0, 4), (-7, -3, 0), (-5, -1, 2))
"""I, vi, IV, V in semitones above the tonic."""
MELODY = (12, 16, 19, 16, 9, 12, 16, 12, 9, 12, 17, 12, 11, 14, 19, 14)
"""One note a beat, in semitones above the tonic."""
TONIC_HZ = 196.0
"""G3; each variation lies two semitones above the one before."""
HARMONICS = 12
DECAY_S = 0.6
"""Of the fundamental; the n-th harmonic decays √n times as fast."""


def music(variation: int, sample_rate: int) -> NDArray[np.float32]:
    """One variation, `[samples]` at `sample_rate` (Hz)."""
    size, bar = round(SECONDS * sample_rate), SECONDS / len(CHORDS)
    beat, sound = SECONDS / len(MELODY), np.zeros(round(SECONDS * sample_rate))
    chords = [(number * bar, note, 0.5) for number, chord in enumerate(CHORDS) for note in chord]
    for start_s, note, loudness in (*chords, *((number * beat, note, 1.0) for number, note in enumerate(MELODY))):
        begin = round(start_s * sample_rate)
        pitch_hz = TONIC_HZ * 2 ** ((note + 2 * (variation % 6)) / 12)
        sound[begin:] += loudness * _pluck(pitch_hz, size - begin, sample_rate)
    return np.asarray(sound * 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(sound**2)), dtype=np.float32)


def _pluck(pitch_hz: float, samples: int, sample_rate: int) -> NDArray[np.float64]:
    """One string: harmonics that decay the faster the higher they are, none above half the rate."""
    time_s, tone = np.arange(samples) / sample_rate, np.zeros(samples)
    for harmonic in range(1, HARMONICS + 1):
        if harmonic * pitch_hz < sample_rate / 2:
            tone += (
                np.sin(2 * np.pi * harmonic * pitch_hz * time_s) * np.exp(-time_s * harmonic**0.5 / DECAY_S) / harmonic
            )
    return tone * np.minimum(time_s / 0.005, 1.0)
