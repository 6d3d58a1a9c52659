"""SIGMOS: seven opinions of P.804 predicted from the enhanced alone, at 48 kHz, by the challenge's own network."""

import os
from functools import partial

import numpy as np

from training.metrics.base import Metric, MetricFailed, Waveform, shared
from training.metrics.weights import network_at

VARIABLE = "UNMUFFLE_SIGMOS"
TAKES = "SIGMOS's network from the SIG challenge 2024 (ONNX)"
SCALES = ("col", "disc", "loud", "noise", "reverb", "sig", "ovrl")
"""The network's outputs in order: coloration, discontinuity, loudness, noise, reverberation, signal, overall."""
WINDOW_SIZE, HOP_SIZE = 960, 480
COMPRESSION = 0.3
POWER_FLOOR = 1e-12


@shared
def opinions(enhanced: Waveform, weights: str | None) -> dict[str, float]:
    """All seven, 1 to 5; the metrics share one call while the weights are the same file.

    Source: Ristea et al., "ICASSP 2024 SIG challenge".
    """
    found = network_at(VARIABLE, TAKES)(features(enhanced)[None]).ravel()
    if len(found) != len(SCALES):
        raise MetricFailed(f"the network of {VARIABLE} gave {len(found)} numbers, expected {len(SCALES)}")
    return dict(zip(SCALES, map(float, found), strict=True))


def features(enhanced: Waveform) -> np.ndarray:
    """Magnitude, real and imaginary part of the compressed spectrogram, [3, frames, bins], float32."""
    last = len(enhanced) % HOP_SIZE or HOP_SIZE
    padded = np.pad(enhanced, (WINDOW_SIZE - HOP_SIZE, WINDOW_SIZE - last))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SIZE)[::HOP_SIZE]
    spectrum = np.fft.rfft(frames * np.sqrt(np.hanning(WINDOW_SIZE + 1)[:-1]))
    power = np.maximum(np.abs(spectrum) ** 2, POWER_FLOOR)
    compressed = spectrum * power ** ((COMPRESSION - 1) / 2)
    return np.stack([power ** (COMPRESSION / 2), compressed.real, compressed.imag]).astype(np.float32)


def measure(clean: Waveform, enhanced: Waveform, sample_rate: int, scale: str) -> float:
    """One of the seven opinions."""
    return opinions(enhanced, os.environ.get(VARIABLE))[scale]


def _metric(scale: str, what: str) -> Metric:
    return Metric(
        name=f"sigmos_{scale}",
        title=f"SIGMOS {scale.upper()}",
        unit="MOS 1 to 5",
        higher_is_better=True,
        sample_rate=48_000,
        needs_clean=False,
        version=1,
        definition=(
            f"{what} (P.804) as predicted by SIGMOS from the enhanced alone at 48 kHz; lower rates are brought up to "
            "it and lose on coloration. Weights are not shipped."
        ),
        measure=partial(measure, scale=scale),
        fails_when=f"{VARIABLE} does not name its weights",
        needs_weights=VARIABLE,
        upsamples=True,
    )


SIGMOS_OVRL = _metric("ovrl", "Overall quality")
SIGMOS_SIG = _metric("sig", "Quality of the speech")
