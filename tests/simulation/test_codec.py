import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

from simulation import audio
from simulation.corpora.sample import SAMPLE
from simulation.degradations.base import Mixture
from simulation.degradations.codec import CONTAINERS, Codec
from simulation.levels import rms_db
from simulation.schema import OneOf, Range

ROOT = Path(__file__).parents[2]
RATE = 16_000
SETTINGS = [
    ("mp3", {"bitrate_kbps": 8.0}),
    ("mp3", {"bitrate_kbps": 64.0}),
    ("vorbis", {"quality": 0.0}),
    ("vorbis", {"quality": 8.0}),
    ("opus", {"bitrate_kbps": 6.0}),
    ("opus", {"bitrate_kbps": 24.0}),
    ("gsm", {}),
    ("alaw", {}),
    ("mulaw", {}),
]
every_setting = pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=[f"{n}{s}" for n, s in SETTINGS])
Speech = Callable[..., np.ndarray]


@pytest.fixture(scope="module", name="speech")
def speech_fixture() -> Speech:
    """`speech(seconds, sample_rate)`: the beginning of an utterance of the sample corpus."""
    path = min((SAMPLE / "speech").glob("*.flac"))
    samples, sample_rate = audio.read(path.read_bytes(), path.name)

    def beginning(seconds: float, at: int = RATE) -> np.ndarray:
        return audio.resample(audio.mono(samples)[: int(seconds * sample_rate)], sample_rate, at)

    return beginning


def coded(samples: np.ndarray, name: str, sample_rate: int = RATE, **settings: object) -> Mixture:
    """The mixture of these samples with themselves after the codec."""
    fields = {"format": name, "bitrate_kbps": 32.0, "quality": 5.0} | settings
    return Codec(**fields).apply(Mixture(samples, samples, sample_rate), None)  # type: ignore[arg-type]


@every_setting
@pytest.mark.parametrize("sample_rate", [8000, 16_000, 48_000])
def test_no_codec_is_late(name: str, settings: dict, sample_rate: int, speech: Speech) -> None:
    """The output is as long as the input and at most one sample off it; the target is not touched."""
    talk = speech(1.5, sample_rate)
    result = coded(talk, name, sample_rate, **settings)
    assert result.noisy.shape == talk.shape and result.clean is talk
    lag = int(np.argmax(correlate(result.noisy, talk, method="fft"))) - (len(talk) - 1)
    assert abs(lag) <= 1
    assert np.corrcoef(result.noisy, talk)[0, 1] > 0.4
    assert not np.array_equal(result.noisy, talk)


def test_the_delay_of_an_mp3_without_lengths_is_taken_out(speech: Speech) -> None:
    """At 8 kb/s the file cannot say how late it is; 1105 samples at its own rate are, and the row records them."""
    talk = speech(1.5, RATE)
    assert coded(talk, "mp3", bitrate_kbps=8.0).measured["codec_delay_samples"] == pytest.approx(1105, abs=3)
    assert coded(talk, "mp3", bitrate_kbps=64.0).measured["codec_delay_samples"] == pytest.approx(0, abs=1)


PROGRAM = """
import hashlib
import numpy as np
from simulation.chance import generator
from simulation import audio
from simulation.corpora.sample import SAMPLE
from simulation.degradations.base import Mixture
from simulation.degradations.codec import CONTAINERS, Codec
samples = (0.3 * (generator("codec").random(24_000) - 0.5)).astype(np.float32)
for turn in range(2):
    for name, strength in [(name, each) for name in CONTAINERS for each in (8.0, 48.0)]:
        codec = Codec(format=name, bitrate_kbps=strength, quality=strength / 8)
        print(hashlib.sha256(codec.apply(Mixture(samples, samples, 16_000), None).noisy.tobytes()).hexdigest())
"""


def test_equal_input_gives_equal_samples_in_every_process() -> None:
    """No codec has a memory, a clock or a random number that is heard: equal bits, twice in each of two processes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    outputs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    first, again = outputs[0][:12], outputs[0][12:]
    assert len(first) == 12 and first == again and outputs[0] == outputs[1]


@every_setting
def test_the_level_is_kept(name: str, settings: dict, speech: Speech) -> None:
    """Within 2.5 dB, for speech far beyond full scale as for quiet speech."""
    talk = speech(1.5, RATE)
    for gain in (0.2, 12.0):
        scaled = (gain * talk).astype(np.float32)
        assert rms_db(coded(scaled, name, **settings).noisy) == pytest.approx(rms_db(scaled), abs=2.5)


@pytest.mark.parametrize("name", ["gsm", "alaw", "mulaw"])
def test_telephone_codecs_leave_a_telephone_band(name: str) -> None:
    """They are coded at 8 kHz: nothing of a wider corpus is left above 4 kHz."""
    white = (0.1 * np.random.Generator(np.random.Philox(4)).standard_normal(2 * RATE)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(coded(white, name).noisy * np.hanning(len(white)))) ** 2
    high = np.fft.rfftfreq(len(white), 1 / RATE) > 4000
    assert 10 * np.log10(spectrum[high].sum() / spectrum.sum()) < -50


def test_a_rate_limit_is_kept() -> None:
    """The highest rate that the format takes below it, from which nothing above its half returns."""
    white = (0.1 * np.random.Generator(np.random.Philox(4)).standard_normal(48_000)).astype(np.float32)
    for name in ("mp3", "vorbis", "opus"):
        spectrum = np.abs(np.fft.rfft(coded(white, name, 48_000, rate_limit_hz=20_000).noisy * np.hanning(48_000))) ** 2
        assert 10 * np.log10(spectrum[8100:].sum() / spectrum.sum()) < -50
        assert spectrum[6000:7500].sum() / spectrum.sum() > 1e-6


@pytest.mark.parametrize(
    ("name", "field", "fewer", "more"),
    [("mp3", "bitrate_kbps", 16.0, 96.0), ("opus", "bitrate_kbps", 8.0, 64.0), ("vorbis", "quality", 0.0, 9.0)],
)
def test_more_bits_are_closer_to_the_speech(name: str, field: str, fewer: float, more: float, speech: Speech) -> None:
    """The recorded bit rate grows with the one asked for, and the error shrinks."""
    talk = speech(2.0, RATE)
    poor, good = (coded(talk, name, **{field: value}) for value in (fewer, more))
    assert poor.measured["codec_kbps"] < good.measured["codec_kbps"]
    assert rms_db(good.noisy - talk) < rms_db(poor.noisy - talk) - 3
    if name == "mp3":
        assert good.measured["codec_kbps"] == pytest.approx(more, rel=0.15)


def test_g711_has_its_signal_to_noise_ratio() -> None:
    """A sine at -10 dBFS comes back 36 to 40 dB above the error: 13 segments of A-law, 15 of mu-law."""
    sine = (0.316 * np.sin(2 * np.pi * 440.3 * np.arange(8000) / 8000)).astype(np.float32)
    for name in ("alaw", "mulaw"):
        assert 36 < rms_db(sine) - rms_db(coded(sine, name, 8000).noisy - sine) < 40


def test_the_rate_of_gsm_is_13_kb_per_s(speech: Speech) -> None:
    """33 bytes for 20 ms, or 65 for two frames in a WAV file; what the row records includes the header."""
    assert coded(speech(3.0), "gsm").measured["codec_kbps"] == pytest.approx(13.2, abs=0.3)


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_short_and_silent_rows_are_coded(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A few samples are as long afterwards, silence stays silent, and no decoder complains on the terminal."""
    for samples in (np.full(3, 0.1, np.float32), np.zeros(2000, np.float32)):
        result = coded(samples, name)
        assert result.noisy.shape == samples.shape and np.isfinite(result.noisy).all()
    assert rms_db(result.noisy) < -60 and result.measured["codec_delay_samples"] in (0, 1105)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bitrate_kbps": Range(low=1.0, high=24.0)}, "bitrate_kbps goes from 1 to 24"),
        ({"quality": OneOf(values=(3, 11))}, "quality goes from 3 to 11"),
    ],
)
def test_what_no_coder_takes_is_refused(settings: dict, reason: str) -> None:
    """When the scenario is read."""
    with pytest.raises(ValueError, match=reason):
        Codec(**settings).check(RATE)
