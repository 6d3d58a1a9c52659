"""DNSMOS: listeners' opinions predicted from the enhanced alone, P.835 (signal, background, overall) and P.808.

The networks come with the `speechmos` package; nothing is downloaded. Its own function is not called, since it imports
librosa and lets ONNX take every core. Values agree with it up to 16 s. In longer audio it drops the windows from 7 to
23 s, whose ends its floating point puts one sample short; every window counts here.

Level policy: audio is scored at the level it has, as all published figures are. P.835 rewards loudness (a clean file
at a tenth of its amplitude loses 0.75 of OVRL), so read it beside `loudness_error`. P.808 ignores level.
"""

import importlib.util
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.signal import get_window

from training.metrics.base import Metric, MetricFailed, Waveform, shared
from training.metrics.weights import Network, load

RATE = 16_000
WINDOW_SAMPLES = 144_160
"""9.01 s: what the networks were trained on."""
MOS_OF_RAW = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}
"""Polynomials from the network's outputs, in this order, to opinions (non-personalised)."""
MEL_BANDS, MEL_FFT_SIZE, MEL_HOP_SIZE = 120, 321, 160
SHORTEST_S = 0.25
"""Less, repeated, is a tone and no speech."""
P808_TRIM_SAMPLES = 160
DYNAMIC_RANGE_DB = 80.0
Scale = Literal["sig", "bak", "ovrl"]


@shared
def p835(enhanced: Waveform) -> dict[str, float]:
    """SIG, BAK and OVRL, each averaged over the windows; three metrics share one call.

    Source: Reddy, Gopal and Cutler, "DNSMOS P.835", ICASSP 2022; network of May 2022.
    """
    network = _network("sig_bak_ovr.onnx")
    raw = np.stack([network(window[None])[0] for window in _windows(enhanced)])
    return {scale: float(np.polyval(MOS_OF_RAW[scale], raw[:, place]).mean()) for place, scale in enumerate(MOS_OF_RAW)}


def measure_p835(clean: Waveform, enhanced: Waveform, sample_rate: int, scale: Scale) -> float:
    """One of the three opinions, 1 to 5."""
    return p835(enhanced)[scale]


def measure_p808(clean: Waveform, enhanced: Waveform, sample_rate: int) -> float:
    """The overall opinion of P.808, 1 to 5. Source: Reddy, Gopal and Cutler, "DNSMOS", ICASSP 2021."""
    network = _network("model_v8.onnx")
    return float(np.mean([network(_log_mel(window[:-P808_TRIM_SAMPLES])[None]) for window in _windows(enhanced)]))


def _network(name: str) -> Network:
    package = importlib.util.find_spec("speechmos")
    if package is None or package.origin is None:
        raise MetricFailed("needs weights: the package speechmos, which carries them, is not installed")
    return load(str(Path(package.origin).parent / "dnsmos_models" / name))


def _windows(enhanced: Waveform) -> Iterator[np.ndarray]:
    """Windows of 9.01 s, one second apart; shorter audio is doubled until it is long enough."""
    if len(enhanced) < SHORTEST_S * RATE:
        raise MetricFailed(f"shorter than {SHORTEST_S} s")
    while len(enhanced) < WINDOW_SAMPLES:
        enhanced = np.tile(enhanced, 2)
    last = len(enhanced) // RATE * RATE - WINDOW_SAMPLES
    for start in range(0, max(last, 0) + 1, RATE):
        yield enhanced[start : start + WINDOW_SAMPLES].astype(np.float32)


def _log_mel(window: np.ndarray) -> np.ndarray:
    """Log mel spectrogram relative to its own maximum, shifted and scaled as the network expects, [frames, bands]."""
    padded = np.pad(window, MEL_FFT_SIZE // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, MEL_FFT_SIZE)[::MEL_HOP_SIZE]
    power = np.abs(np.fft.rfft(frames * get_window("hann", MEL_FFT_SIZE))) ** 2
    level_db = 10 * np.log10(np.maximum(power @ _mel_bank().T, 1e-10))
    level_db = np.maximum(level_db - level_db.max(), -DYNAMIC_RANGE_DB)
    return ((level_db + 40) / 40).astype(np.float32)


@lru_cache(maxsize=1)
def _mel_bank() -> np.ndarray:
    """Triangles of equal area on Slaney's mel scale, [bands, bins]."""
    edges = _hz_of_mel(np.linspace(0, _mel_of_hz(RATE / 2), MEL_BANDS + 2))
    bins = np.arange(MEL_FFT_SIZE // 2 + 1) * RATE / MEL_FFT_SIZE
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def _mel_of_hz(frequency: float) -> float:
    """Slaney's scale above 1000 Hz."""
    return 15 + float(np.log(frequency / 1000)) * 27 / float(np.log(6.4))


def _hz_of_mel(mel: np.ndarray) -> np.ndarray:
    """Linear to 1000 Hz, logarithmic above."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


def _p835_metric(scale: Scale, title: str, what: str) -> Metric:
    return Metric(
        name=f"dnsmos_{scale}",
        title=title,
        unit="MOS 1 to 5",
        higher_is_better=True,
        sample_rate=RATE,
        needs_clean=False,
        version=1,
        definition=(
            f"{what} as predicted by DNSMOS P.835 from the enhanced alone, at the level it has (louder scores better); "
            "mean over windows of 9.01 s, shorter audio repeated."
        ),
        measure=partial(measure_p835, scale=scale),
        fails_when="shorter than 0.25 s, or speechmos is not installed",
    )


DNSMOS_SIG = _p835_metric("sig", "DNSMOS SIG", "Quality of the speech")
DNSMOS_BAK = _p835_metric("bak", "DNSMOS BAK", "Quality of the background")
DNSMOS_OVRL = _p835_metric("ovrl", "DNSMOS OVRL", "Overall quality")
DNSMOS_P808 = Metric(
    name="dnsmos_p808",
    title="DNSMOS P.808",
    unit="MOS 1 to 5",
    higher_is_better=True,
    sample_rate=RATE,
    needs_clean=False,
    version=1,
    definition=(
        "Overall quality as predicted by DNSMOS P.808 from the enhanced alone; ignores level; mean over windows of "
        "9.01 s, shorter audio repeated."
    ),
    measure=measure_p808,
    fails_when="shorter than 0.25 s, or speechmos is not installed",
)
