"""Every metric held against published values: `python -P benchmarks/metric_values.py [FOLDER]` prints a table.

Pairs: a synthetic one, made here; and, where FOLDER holds them, `speech.wav` and `speech_bab_0dB.wav` of the PESQ
package's repository. The values were measured with the reference implementations (pesq, pystoi, SGMSE's and CMGAN's
evaluations, SRMRpy, the DNS Challenge's networks). Fails where one of ours is out of its tolerance.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from simulation import audio
from training.metrics import METRICS, composite, lsd, phase

RATE = 16_000
TOLERANCE = {"stoi": 1e-6, "estoi": 1e-6, "srmr": 1e-3, "srmr_fast": 1e-3, "pd": 1e-3, "wopd": 1e-3} | dict.fromkeys(
    ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808"), 1e-3
)
"""Where it is another than 1e-4."""
NOISY = {
    "pesq": 1.0176977, "pesq_nb": 1.9316121, "stoi": 0.8956675, "estoi": 0.3223944, "si_sdr": 4.988068,
    "csig": 1.0, "cbak": 1.963621, "covl": 1.0, "seg_snr": -0.957699, "srmr": 3.65016, "srmr_fast": 1.28320,
    "lsd": 6.16110, "lsd_urgent": 13.83881, "pd": 19.12245, "wopd": 0.436654,
}  # fmt: skip
OVER_SNR = {
    20: {"pesq": 1.0653354, "pesq_nb": 2.4102290, "stoi": 0.9937306, "estoi": 0.8646377},
    35: {"pesq": 1.6033337, "pesq_nb": 2.9722924, "stoi": 0.9997936, "estoi": 0.9923056},
    50: {"pesq": 2.5404432, "pesq_nb": 4.0060296, "stoi": 0.9999948, "estoi": 0.9996844},
}
PERFECT = {
    "pesq": 4.643888, "pesq_nb": 4.548638, "stoi": 1.0, "pd": 0.0, "wopd": 0.0, "lsd": 0.0,
    "csig": 5.0, "cbak": 5.0, "covl": 5.0,
}  # fmt: skip
BABBLE = {
    "pesq": 1.0832337, "pesq_nb": 1.6072081, "stoi": 0.6739178, "estoi": 0.3904500, "si_sdr": 0.139627,
    "si_sir": 0.0131, "si_sar": 33.806, "csig": 2.490633, "cbak": 1.689727, "covl": 1.766476, "seg_snr": -4.038665,
    "srmr": 1.86597, "srmr_fast": 1.40521, "lsd": 1.60867, "lsd_urgent": 3.32462, "pd": 29.0528, "wopd": 0.60732,
    "dnsmos_sig": 1.2047, "dnsmos_bak": 1.1683, "dnsmos_ovrl": 1.0889, "dnsmos_p808": 2.5136,
}  # fmt: skip
BABBLE_CLEAN = {
    "srmr": 6.42837, "srmr_fast": 3.50110,
    "dnsmos_sig": 3.5518, "dnsmos_bak": 4.0475, "dnsmos_ovrl": 3.2458, "dnsmos_p808": 3.9509,
}  # fmt: skip
UNCHANGED_BY_GAIN = ("si_sdr", "pesq", "pesq_nb", "stoi")

Line = tuple[str, str, float, float, float]
"""Pair, metric, published, tolerance, ours."""


def main() -> int:
    """Print the table; 1 where anything is out of tolerance."""
    lines = [*synthetic(), *(babble(Path(sys.argv[1])) if len(sys.argv) > 1 else ())]
    print(f"{'pair':24}{'metric':22}{'published':>14}{'tolerance':>11}{'ours':>14}{'off by':>10}")
    off = 0
    for pair, name, published, tolerance, ours in lines:
        wrong = abs(ours - published) > tolerance
        off += wrong
        marks = f"{tolerance:>11.0e}{ours:>14.7f}{abs(ours - published):>10.1e}{'  OUT OF TOLERANCE' if wrong else ''}"
        print(f"{pair:24}{name:22}{published:>14.7f}{marks}")
    print(f"{len(lines) - off} of {len(lines)} within tolerance")
    return int(off > 0)


def synthetic() -> Iterator[Line]:
    """A tone that glides and pulses, with seeded white noise."""
    clean = glide()
    noisy = with_noise(clean, 5)
    own = clean + 0.3 * (noisy - clean) + 0.05 * np.random.default_rng(1).standard_normal(len(clean))
    yield "synthetic", "sum of |clean|", 3878.59592753, 1e-6, float(np.abs(clean).sum())
    yield "synthetic", "sum of |noisy|", 5292.44124012, 1e-6, float(np.abs(noisy).sum())
    yield from scored("synthetic, 5 dB", clean, noisy, noisy, NOISY)
    shares = {"si_sdr": 7.610874, "si_sir": 15.758623, "si_sar": 8.356659}
    yield from scored("synthetic, estimate", clean, own, noisy, shares)
    yield from scored("synthetic, clean", clean, clean, noisy, {"srmr": 6.93055, "srmr_fast": 2.00185})
    integers = composite.parts(32768 * clean, 32768 * noisy, RATE)
    yield "synthetic, x 32768", "cbak", 1.776408, 1e-4, integers.raw("background")
    yield "synthetic, 5 dB", "lsd, window 512/256", 5.91982, 1e-4, lsd.measure(clean, noisy, RATE, 512, 256)
    yield "synthetic, sign flipped", "pd, not resolved", 179.9931, 1e-3, phase.distance_degrees(clean, -clean)
    yield from scored("synthetic, sign flipped", clean, -clean, noisy, {"wopd": 0.354304})
    for snr_db, values in OVER_SNR.items():
        yield from scored(f"synthetic, {snr_db} dB", clean, with_noise(clean, snr_db), noisy, values)
    yield from scored("clean against itself", clean, clean, noisy, PERFECT)
    same = {name: METRICS[name].score(clean, noisy, RATE) for name in UNCHANGED_BY_GAIN}
    yield from scored("noisy at a tenth", clean, 0.1 * noisy, noisy, same)


def babble(folder: Path) -> Iterator[Line]:
    """Read speech and the same in babble at 0 dB."""
    clean, noisy = (
        audio.read((folder / name).read_bytes(), name)[0][:, 0].astype(np.float64)
        for name in ("speech.wav", "speech_bab_0dB.wav")
    )
    noise = noisy - clean
    own = clean + 0.1 * noise + 0.01 * np.random.default_rng(0).standard_normal(len(clean))
    yield from scored("babble, 0 dB", clean, noisy, noisy, BABBLE)
    yield from scored("babble, clean", clean, clean, noisy, BABBLE_CLEAN)
    yield from scored("babble, estimate", clean, own, noisy, {"si_sdr": 12.0604, "si_sir": 18.8866, "si_sar": 12.7894})
    for target, published in (("signal", 2.283655), ("background", 1.528745), ("overall", 1.605493)):
        parts = composite.parts(32768 * clean, 32768 * noisy, RATE)
        yield "babble, x 32768", f"composite, {target}", published, 1e-4, parts.raw(target)  # type: ignore[arg-type]


def scored(
    pair: str, clean: np.ndarray, enhanced: np.ndarray, noisy: np.ndarray, values: dict[str, float]
) -> Iterator[Line]:
    """A line for each value."""
    for name, published in values.items():
        decimals = len(f"{published}".partition(".")[2])
        written = 0.51 * 10.0**-decimals if 2 < decimals < 6 else 0.0  # no value is known better than it was written
        tolerance = max(TOLERANCE.get(name, 1e-4), written)
        yield pair, name, published, tolerance, METRICS[name].score(clean, enhanced, RATE, noisy)


def glide() -> np.ndarray:
    """Three seconds of a vowel-like tone; peak 0.5."""
    t = np.arange(48_000) / RATE
    turn = 2 * np.pi * (120 * t + (20 / (2 * np.pi * 1.5)) * (1 - np.cos(2 * np.pi * 1.5 * t)))
    tone = sum(np.sin(k * turn) / k for k in range(1, 31)) * (0.5 * (1 + np.sin(2 * np.pi * 3 * t))) ** 2
    return np.asarray(0.5 * tone / np.abs(tone).max())


def with_noise(clean: np.ndarray, snr_db: float) -> np.ndarray:
    """Seeded white noise added at an SNR against the total energy."""
    noise = np.random.default_rng(0).standard_normal(len(clean))
    return np.asarray(clean + noise * np.sqrt((clean @ clean) / (noise @ noise) / 10 ** (snr_db / 10)))


if __name__ == "__main__":
    sys.exit(main())
