"""Sound and spectrograms inside a page: data: addresses, so that one file holds all there is to hear and see."""

import base64
import io

import matplotlib
import numpy as np
import soundfile
from matplotlib.image import imsave
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from simulation import audio

WINDOW_S = 0.032
PIXELS_WIDE = 420
PIXELS_HIGH = 128
RANGE_DB = 70.0
"""Of a spectrogram, below the loudest point of what it is compared with; tracks of one utterance share the scale."""
STEP_DB = 3.0
"""Colours are this far apart, which more than halves the size of the pictures."""


def sound(waveform: np.ndarray, sample_rate: int) -> str:
    """`[samples]` as a data: address of 16 bit WAV.

    Twice the size of FLAC, but Chromium breaks off where a FLAC without a seek table is entered late.
    """
    buffer = io.BytesIO()
    samples = audio.quantise(waveform.astype(np.float32), 16)
    soundfile.write(buffer, samples, sample_rate, format="WAV", subtype="PCM_16")
    return data_address("audio/wav", buffer.getvalue())


def picture(waveform: np.ndarray, sample_rate: int, top_db: float) -> str:
    """The spectrogram of `[samples]` as a data: address of a PNG; see `spectrogram`."""
    return data_address("image/png", spectrogram(waveform, sample_rate, top_db))


def spectrogram(waveform: np.ndarray, sample_rate: int, top_db: float) -> bytes:
    """A PNG without axes: time to the right, 0 to half the rate upwards, magma over `RANGE_DB` below `top_db`."""
    levels = np.clip(levels_db(waveform, sample_rate) - top_db, -RANGE_DB, 0.0)
    steps = np.round(levels / STEP_DB) * STEP_DB
    buffer = io.BytesIO()
    imsave(buffer, steps, cmap=matplotlib.colormaps["magma"], vmin=-RANGE_DB, vmax=0.0, origin="lower", format="png")
    return buffer.getvalue()


def loudest_db(waveform: np.ndarray, sample_rate: int) -> float:
    """The loudest point of a waveform's spectrogram: what `top_db` is taken from."""
    return float(levels_db(waveform, sample_rate).max())


def levels_db(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power in dB, averaged down to at most [PIXELS_HIGH, PIXELS_WIDE]."""
    window = hann(2 * int(WINDOW_S * sample_rate / 2), sym=False)
    padded = np.pad(waveform.astype(np.float64), (0, max(0, len(window) - len(waveform))))
    transform = ShortTimeFFT(window, hop=len(window) // 4, fs=sample_rate, scale_to="psd")
    power = transform.spectrogram(padded)
    return 10 * np.log10(np.maximum(_shrunk(_shrunk(power, PIXELS_HIGH).T, PIXELS_WIDE).T, 1e-14))


def data_address(media_type: str, content: bytes) -> str:
    """A data: address that holds the content itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _shrunk(values: np.ndarray, size: int) -> np.ndarray:
    """The first axis averaged down to `size` where it is longer."""
    if len(values) <= size:
        return values
    edges = np.linspace(0, len(values), size + 1).astype(int)
    return np.add.reduceat(values, edges[:-1], axis=0) / np.diff(edges)[:, None]
