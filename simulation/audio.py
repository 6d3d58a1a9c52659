"""Waveforms: bytes <-> float32 samples, sample rates, and the quantiser that every mixture passes.

A waveform is float32 in [-1, 1], `[samples]` for one channel or `[samples, channels]`. Files are read and written from
bytes, so that `simulation/storage.py` stays the one place that knows where they lie.
"""

import io

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from simulation.errors import BadAudio, BadSetting

Waveform = NDArray[np.float32]
"""`[samples]` or `[samples, channels]`, full scale at 1."""

READABLE = "WAV, FLAC, Ogg, MP3, AIFF or another format that libsndfile reads"

AUDIO_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".w64",
    ".rf64",
    ".sph",
)
"""Endings, in lower case, of the files that a folder is searched for."""

BIT_DEPTHS = (16, 24)
"""Bits a sample of the FLAC that we write."""

LONGEST_SAMPLES = 2**40
"""A header that promises more than this does not know its length (two years at 16 kHz)."""


def read(data: bytes, name: str) -> tuple[Waveform, int]:
    """Decode a whole audio file: samples `[samples, channels]` and the sample rate in Hz.

    `name` stands in the message of the `BadAudio` raised for what is not audio, is damaged, or holds no samples, NaN
    or infinity. Floating-point files may exceed [-1, 1]; nothing is rescaled.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames > LONGEST_SAMPLES:
                raise BadAudio(
                    f"{name}: the header of this {file.format} stream does not state its length, as when it was written"
                    " to a pipe. Expected a finished file; write it again to a file."
                )
            # The number of frames is asked for because GSM and XI, which cannot be wound back, are not read without it.
            samples, sample_rate = file.read(file.frames, dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise BadAudio(
            f"{name} cannot be read as audio ({error.error_string}). Found {_describe(data)}; expected {READABLE}."
        ) from None
    except MemoryError as error:
        raise BadAudio(
            f"{name} promises more samples than memory can hold ({error}). Found {_describe(data)}; expected a shorter"
            " file, or one whose header states its true length."
        ) from None
    check(samples, name)
    return samples, sample_rate


def check(samples: Waveform, name: str) -> None:
    """Raise `BadAudio` where there are no samples, or one of them is NaN or infinite."""
    if samples.shape[0] == 0:
        raise BadAudio(f"{name} holds 0 samples; expected at least one.")
    broken = np.count_nonzero(~np.isfinite(samples))
    if broken:
        raise BadAudio(f"{name} holds {broken} samples that are NaN or infinite; expected finite numbers in [-1, 1].")


def mono(samples: Waveform) -> Waveform:
    """`[samples, channels]` -> `[samples]`: the first channel.

    Not the mean: two microphones some way apart would comb each other, and twice over with an RIR.
    """
    return np.ascontiguousarray(samples[:, 0])


def resample(samples: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """The same sound at another sample rate, by soxr's HQ filter (linear phase, no delay).

    Takes `[samples]` or `[samples, channels]`. Raises `BadAudio` where less than one sample would be left.
    """
    if from_rate == to_rate:
        return samples
    resampled = soxr.resample(samples, from_rate, to_rate, quality="HQ")
    if resampled.shape[0] == 0:
        raise BadAudio(f"{samples.shape[0]} samples at {from_rate} Hz are less than one sample at {to_rate} Hz.")
    return resampled


def quantise(samples: Waveform, bit_depth: int) -> Waveform:
    """What FLAC of this bit depth gives back, bit for bit: rounded to its steps and clipped to [-1, 1)."""
    steps = _steps(bit_depth)
    return _to_integers(samples, steps).astype(np.float32) / np.float32(steps)


def encode_flac(samples: Waveform, sample_rate: int, bit_depth: int = 16) -> bytes:
    """A FLAC file of `[samples]` or `[samples, channels]`; equal samples give equal bytes.

    Raises `BadAudio` for no samples, NaN or infinity. What lies outside [-1, 1) is clipped, as in `quantise`.
    """
    steps = _steps(bit_depth)
    check(samples, "The waveform to encode")
    # Integers, because libsndfile scales floats by 2^15 - 1 when writing and by 2^15 when reading.
    integers = _to_integers(samples, steps)
    packed = integers.astype(np.int16) if bit_depth == 16 else integers << 8
    file = io.BytesIO()
    soundfile.write(file, packed, sample_rate, format="FLAC", subtype=f"PCM_{bit_depth}")
    return file.getvalue()


def _steps(bit_depth: int) -> int:
    """Steps between silence and full scale."""
    if bit_depth not in BIT_DEPTHS:
        raise BadSetting(f"bit_depth is {bit_depth}; expected one of {', '.join(map(str, BIT_DEPTHS))}.")
    return 1 << (bit_depth - 1)


def _to_integers(samples: Waveform, steps: int) -> NDArray[np.int32]:
    """Nearest step, halves to even. Exact: scaling by a power of two loses nothing in float32."""
    return np.clip(np.rint(samples * np.float32(steps)), -steps, steps - 1).astype(np.int32)


def _describe(data: bytes) -> str:
    """What the bytes look like, for a message."""
    if not data:
        return "an empty file"
    start = data[:64]
    if start.isascii() and start.decode("ascii").replace("\n", " ").replace("\r", " ").replace("\t", " ").isprintable():
        return f"text of {len(data)} bytes"
    return f"{len(data)} bytes beginning with {data[:4].hex(' ')}"
