"""Codecs: what a telephone, a call or a music file leaves of the speech."""

import io
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import soundfile

from simulation import audio
from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, drawn, extremes, number
from simulation.schema import Amount, OneOf, Range

Format = Literal["mp3", "vorbis", "opus", "gsm", "alaw", "mulaw"]


class Container(NamedTuple):
    """How libsndfile writes a format, and the sample rates (Hz) that it takes."""

    format: str
    subtype: str
    sample_rates: tuple[int, ...]


CONTAINERS: dict[str, Container] = {
    "mp3": Container("MP3", "MPEG_LAYER_III", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "vorbis": Container("OGG", "VORBIS", (8000, 11025, 16000, 22050, 32000, 44100, 48000)),
    "opus": Container("OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
    "gsm": Container("WAV", "GSM610", (8000,)),
    "alaw": Container("WAV", "ALAW", (8000, 11025, 16000, 22050, 32000, 44100, 48000)),
    "mulaw": Container("WAV", "ULAW", (8000, 11025, 16000, 22050, 32000, 44100, 48000)),
}

BITRATES: dict[str, tuple[tuple[int, tuple[int, int]], ...]] = {
    "mp3": ((32_000, (32, 320)), (16_000, (8, 160)), (0, (8, 64))),
    "opus": ((0, (6, 256)),),
}
"""Fewest and most kb/s, from a sample rate on: what libsndfile's compression levels 1 and 0 stand for."""

LEAST_BITS = 0.999
"""libsndfile refuses an MP3 at level 1 itself; this is the same bit rate."""

TELEPHONE_RATE = 8000
"""Rate of GSM full rate and, unless another is asked for, of G.711 (A-law, mu-law), in Hz."""

HEADROOM = 0.99
"""Coders clip at full scale; what is louder is turned down for them, and up again afterwards."""

SHORTEST_S = 0.1
"""Shorter input is followed by silence for the coder, in s."""

LAME_DELAY = 1105
"""Samples by which an MP3 comes out late: 576 of LAME's encoder and 529 of the decoder. Where the first frame is large
enough, LAME notes its share there and libsndfile's decoder takes both out; at low bit rates the frame is too small."""

RESIDUAL_S = 0.0002
"""How far from lag 0 a codec's own resamplers are looked for (Opus at 48 kHz: -2 to +4 samples), in s."""


class Codec(Degradation):
    """Encode and decode the noisy waveform; the clean target stays as it is.

    libsndfile carries every coder: LAME and mpg123 (MP3), libvorbis, libopus, GSM 06.10 full rate, and ITU-T G.711. The
    waveform is resampled to the highest rate that the format takes up to `rate_limit_hz` and the corpus's own (soxr,
    linear phase), coded there, and resampled back. Its length is kept and its delay taken out: MP3's constant, then
    what is left within 0.2 ms, found by cross-correlation in the row itself, so that at most half a sample remains.

    Encoders read no randomness: equal input gives equal samples (Ogg's random stream number is never heard). libopus
    and mpg123 choose instructions by processor, so equal samples are promised on equal processors only. A decoder that
    is wound back loses MP3's bit reservoir: files are read in one go from the start.

    Source: URGENT 2025 (MP3, Vorbis, Opus), SSI 2024 (GSM), Miipher (MP3, Vorbis, A-law, Opus). URGENT compensates no
    delay; the open Miipher searches for it by brute force over the whole file. AMR-WB is missing: libsndfile has none.
    """

    kind: Literal["codec"] = "codec"

    format: Format | OneOf = OneOf(values=("mp3", "vorbis", "opus", "gsm", "alaw", "mulaw"))
    """`gsm` is GSM full rate; `alaw` and `mulaw` are the two laws of G.711."""

    bitrate_kbps: Amount = Range(low=8.0, high=64.0)
    """Of MP3 (constant; the nearest that it has at its sample rate: 8 to 64 below 16 kHz, 8 to 160 below 32 kHz, 32 to
    320 from there on) and Opus (6 to 256), in kb/s."""

    quality: Amount = Range(low=0.0, high=10.0)
    """Of Vorbis: 0 (fewest bits) to 10."""

    rate_limit_hz: int | OneOf | None = None
    """Highest sample rate to code at, in Hz; None for the corpus's own, and for 8000 with GSM, A-law and mu-law."""

    def check(self, sample_rate: int) -> None:
        """Coders accept what they are told."""
        for name, (low, high), (least, most) in (
            ("bitrate_kbps", extremes(self.bitrate_kbps), (6, 320)),
            ("quality", extremes(self.quality), (0, 10)),
        ):
            if not least <= low <= high <= most:
                raise ValueError(f"{name} goes from {low:g} to {high:g}; it must lie between {least} and {most}")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side is coded; records the realised `codec_kbps` and the delay taken out, `codec_delay_samples`."""
        name = drawn(self.format)
        rate = self._coding_rate(name, mixture.sample_rate)
        gain = np.float32(min(1.0, HEADROOM / max(np.abs(mixture.noisy).max(), HEADROOM)))
        sent = _at_least(audio.resample(mixture.noisy * gain, mixture.sample_rate, rate), round(SHORTEST_S * rate))
        coded = encode(sent, rate, name, self._compression(name, rate))
        heard, known_delay = decode(coded, len(sent))
        back = fitted(audio.resample(heard, rate, mixture.sample_rate), len(mixture.noisy)) / gain
        noisy, residual = aligned(back, mixture.noisy, round(RESIDUAL_S * mixture.sample_rate))
        measured = {
            "codec_kbps": 8 * len(coded) * rate / len(sent) / 1000,
            "codec_delay_samples": float(round(known_delay * mixture.sample_rate / rate) + residual),
        }
        return replace(mixture, noisy=noisy, measured={**mixture.measured, **measured})

    def _coding_rate(self, name: str, sample_rate: int) -> int:
        """The highest rate that the format takes, up to the limit; its lowest where that is above."""
        usual = TELEPHONE_RATE if name in ("gsm", "alaw", "mulaw") else sample_rate
        limit = min(sample_rate, drawn(self.rate_limit_hz) or usual)
        rates = CONTAINERS[name].sample_rates
        return max((rate for rate in rates if rate <= limit), default=rates[0])

    def _compression(self, name: str, rate: int) -> float | None:
        """libsndfile's compression level: 0 the most bits, 1 the fewest; None where a format has no choice."""
        if name == "vorbis":
            return 1 - number(self.quality) / 10
        if name not in BITRATES:
            return None
        least, most = next(limits for lowest_rate, limits in BITRATES[name] if rate >= lowest_rate)
        return float(np.clip((most - number(self.bitrate_kbps)) / (most - least), 0.0, LEAST_BITS))


def encode(samples: Waveform, sample_rate: int, name: str, compression: float | None) -> bytes:
    """A whole file of the format."""
    container, file = CONTAINERS[name], io.BytesIO()
    bitrate_mode = "CONSTANT" if name == "mp3" else None
    soundfile.write(
        file,
        samples,
        sample_rate,
        format=container.format,
        subtype=container.subtype,
        compression_level=compression,
        bitrate_mode=bitrate_mode,
    )
    return file.getvalue()


def decode(coded: bytes, samples: int) -> tuple[Waveform, int]:
    """The file's samples from the first that belongs to the input, and how many came before it."""
    with soundfile.SoundFile(io.BytesIO(coded)) as file:
        heard: Waveform = file.read(file.frames, dtype="float32")
        late = LAME_DELAY if file.format == "MP3" and file.frames >= samples + LAME_DELAY else 0
    return fitted(heard[late:], samples), late


def aligned(samples: Waveform, reference: Waveform, furthest: int) -> tuple[Waveform, int]:
    """The samples moved to where they fit the reference best, by at most `furthest`, and how late they were."""
    padded = np.pad(samples, furthest)
    lags = range(-furthest, furthest + 1)
    # Sums of NumPy's own: those of BLAS depend on the number of threads, and two lags may be nearly equal.
    fits = [float(np.sum(padded[furthest + lag :][: len(samples)] * reference, dtype=np.float64)) for lag in lags]
    late = lags[int(np.argmax(fits))] if any(fits) else 0
    return padded[furthest + late : furthest + late + len(samples)], late


def fitted(samples: Waveform, length: int) -> Waveform:
    """Cut, or followed by silence, to this length."""
    return samples[:length] if len(samples) >= length else _at_least(samples, length)


def _at_least(samples: Waveform, length: int) -> Waveform:
    return np.pad(samples, (0, max(length - len(samples), 0)))
