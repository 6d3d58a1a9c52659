"""Reading, resampling and quantising waveforms."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulation import audio
from simulation.errors import BadAudio, BadSetting


def encoded(samples: np.ndarray, file_format: str, subtype: str, sample_rate: int = 16_000) -> bytes:
    """A file of any format soundfile writes, made without our own encoder."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=file_format, subtype=subtype)
    return file.getvalue()


def noise(samples: int = 4000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Gaussian noise, [samples, channels]."""
    return np.random.default_rng(seed).normal(0, 0.1, (samples, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("file_format", "subtype", "error"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "FLOAT", 0),
        ("FLAC", "PCM_24", 1e-6),
        ("AIFF", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 1),
    ],
)
def test_any_format_of_soundfile_is_read_with_its_rate_and_channels(
    file_format: str, subtype: str, error: float
) -> None:
    """What libsndfile decodes comes back as float32 [samples, channels] at its own rate."""
    written = noise(4410, channels=2)
    samples, sample_rate = audio.read(encoded(written, file_format, subtype, 44_100), "sound")
    assert (samples.shape, samples.dtype, sample_rate) == ((4410, 2), np.float32, 44_100)
    assert np.abs(samples - written).max() <= error


def test_a_text_file_named_wav_is_refused_with_what_was_found_and_expected() -> None:
    """The message names the file, says that it is text, and lists formats."""
    with pytest.raises(
        BadAudio, match=r"voice\.wav cannot be read as audio.*Found text of 11 bytes; expected WAV, FLAC"
    ):
        audio.read(b"hello world", "voice.wav")


@pytest.mark.parametrize(
    ("data", "found"), [(b"", "an empty file"), (bytes(range(200, 240)), "40 bytes beginning with c8 c9 ca cb")]
)
def test_bytes_that_are_no_audio_are_described(data: bytes, found: str) -> None:
    """Empty and binary files are told apart in the message."""
    with pytest.raises(BadAudio, match=found):
        audio.read(data, "x.flac")


def test_zero_samples_are_refused() -> None:
    """A header without sound is no audio."""
    with pytest.raises(BadAudio, match=r"empty\.wav holds 0 samples"):
        audio.read(encoded(noise(0), "WAV", "PCM_16"), "empty.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_count(value: float) -> None:
    """Not one such sample passes, in any channel."""
    samples = noise(100, channels=2)
    samples[7, 1] = value
    with pytest.raises(BadAudio, match="holds 1 samples that are NaN or infinite"):
        audio.read(encoded(samples, "WAV", "FLOAT"), "x.wav")


def test_a_flac_cut_in_half_is_refused() -> None:
    """Damage is an answer, not half the sound."""
    data = encoded(noise(160_000), "FLAC", "PCM_16")
    with pytest.raises(BadAudio, match="cannot be read as audio"):
        audio.read(data[: len(data) // 2], "cut.flac")


def test_a_flac_of_unknown_length_is_refused() -> None:
    """A header as streams through a pipe have it asks for a finished file instead of a terabyte of memory."""
    data = bytearray(encoded(noise(), "FLAC", "PCM_16"))
    data[21] &= 0xF0  # the 36 bits of the length, in STREAMINFO
    data[22:26] = bytes(4)
    with pytest.raises(BadAudio, match="does not state its length"):
        audio.read(bytes(data), "pipe.flac")


def test_a_header_that_promises_more_than_memory_holds_is_refused() -> None:
    """256 GiB of samples in a few kilobytes: an answer, and no MemoryError for whoever scans a folder of files."""
    data = bytearray(encoded(noise(), "FLAC", "PCM_16"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    with pytest.raises(BadAudio, match=r"liar\.flac promises more samples|cannot be read"):
        audio.read(bytes(data), "liar.flac")


@pytest.mark.parametrize("bit_depth", [16, 24])
@given(samples=arrays(np.float32, st.integers(1, 300), elements=st.floats(-1.5, 1.5, width=32)))
def test_the_quantiser_equals_flac_bit_for_bit(bit_depth: int, samples: np.ndarray) -> None:
    """A virtual corpus feeds the very numbers that a rendered one gives back."""
    decoded, _ = audio.read(audio.encode_flac(samples, 16_000, bit_depth), "x")
    assert decoded[:, 0].tobytes() == audio.quantise(samples, bit_depth).tobytes()


@pytest.mark.parametrize("bit_depth", [16, 24])
def test_the_quantiser_is_within_half_a_step_and_changes_nothing_twice(bit_depth: int) -> None:
    """It rounds, and what it gave is left alone."""
    samples = noise(50_000)[:, 0]
    once = audio.quantise(samples, bit_depth)
    assert np.abs(once - samples).max() <= 0.5 / 2 ** (bit_depth - 1)
    assert np.array_equal(audio.quantise(once, bit_depth), once)


def test_full_scale_is_clipped_not_wrapped() -> None:
    """+1 has no code in FLAC: it becomes the largest that has one, and never -1."""
    loud = np.array([1.0, 2.0, -1.0, -2.0], np.float32)
    assert audio.quantise(loud, 16).tolist() == [1 - 2**-15, 1 - 2**-15, -1, -1]


def test_equal_samples_give_equal_flac_bytes() -> None:
    """Shards are reproducible only if this holds."""
    assert audio.encode_flac(noise(), 16_000) == audio.encode_flac(noise(), 16_000)


def test_flac_keeps_channels_and_rate() -> None:
    """A stereo recording at 44.1 kHz goes out as it came in."""
    written = noise(1000, channels=2)
    samples, sample_rate = audio.read(audio.encode_flac(written, 44_100, 24), "x")
    assert sample_rate == 44_100
    assert np.array_equal(samples, audio.quantise(written, 24))


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.array([0.0, np.nan], np.float32)])
def test_nothing_and_nan_are_not_encoded(samples: np.ndarray) -> None:
    """No file of ours holds what we would refuse to read."""
    with pytest.raises(BadAudio):
        audio.encode_flac(samples, 16_000)


def test_other_bit_depths_are_refused() -> None:
    """The message says which there are."""
    with pytest.raises(BadSetting, match="bit_depth is 20; expected one of 16, 24"):
        audio.quantise(noise(), 20)


def test_mono_is_the_first_channel() -> None:
    """Not the mean, which combs."""
    samples = noise(100, channels=3)
    assert np.array_equal(audio.mono(samples), samples[:, 0])


def test_resampling_keeps_a_tone_and_its_phase() -> None:
    """44.1 to 16 kHz: a 440 Hz sine is the same sine, not shifted by the filter."""
    sine_44k = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32)
    sine_16k = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    resampled = audio.resample(sine_44k, 44_100, 16_000)
    assert (len(resampled), resampled.dtype) == (16_000, np.float32)
    assert np.abs(resampled - sine_16k)[400:-400].max() < 1e-3


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    """12 kHz would fold to 4 kHz at 16 kHz; nothing of it is left."""
    sine = np.sin(2 * np.pi * 12_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(audio.resample(sine, 48_000, 16_000)[400:-400]).max() < 1e-4


def test_channels_are_resampled_apart() -> None:
    """[samples, channels] in, each channel as if alone."""
    samples = noise(4800, channels=2)
    both = audio.resample(samples, 48_000, 16_000)
    assert np.allclose(both[:, 1], audio.resample(audio.mono(samples[:, ::-1]), 48_000, 16_000), atol=1e-6)


def test_equal_rates_change_nothing() -> None:
    """The same samples, not nearly the same."""
    samples = noise()
    assert np.array_equal(audio.resample(samples, 16_000, 16_000), samples)


def test_too_few_samples_to_resample_are_refused() -> None:
    """One sample at 48 kHz is none at 16 kHz; that is said, not handed on as an empty array."""
    with pytest.raises(BadAudio, match="less than one sample at 16000 Hz"):
        audio.resample(np.ones(1, np.float32), 48_000, 16_000)
