"""How fast each metric is on one core, and the composites against a plain loop over frames: `make bench-metrics`.

Utterances of the shipped corpus with seeded white noise at 5 dB, 16 kHz, one thread. Every metric is timed alone, over
all utterances, after one call to warm up; what a family would share is computed each time. At the end the standard
metrics are scored twice with a cache. Fails where the loop gives other values, or is less than ten times slower, or
where the second scoring computes anything.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from simulation import audio, storage
from simulation.corpora.sample import SAMPLE
from simulation.degradations.base import Mixture
from training.baselines import unprocessed
from training.metrics import METRICS, STANDARD
from training.metrics.composite import Parts
from training.metrics.linear_prediction import log_likelihood_ratio
from training.metrics.pesq import measure as pesq
from training.metrics.segmental_snr import measure as segmental_snr
from training.metrics.spectral_slope import CENTRES_HZ, WIDTHS_HZ, weighted_spectral_slope
from training.scoring import score_mixture

RATE = 16_000
SNR_DB = 5.0
LEAST_RATIO = 10.0
FRAME, HOP, FFT_SIZE, ORDER = 480, 120, 1024, 16
Pair = tuple[np.ndarray, np.ndarray]


def main() -> int:
    """Print the tables; 1 where the composites are not fast enough, or something is computed twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=16)
    pairs = utterances(parser.parse_args().utterances)
    seconds = sum(len(clean) for clean, _ in pairs) / RATE
    print(f"{len(pairs)} utterances, {seconds:.1f} s of audio, one thread\n")
    print(f"{'metric':20}{'utterances/s':>14}{'x real time':>14}")
    for name, metric in METRICS.items():
        if metric.needs_weights:
            continue
        metric.score(*pairs[0], RATE, pairs[0][1])
        took, _ = timed(lambda clean, noisy, metric=metric: metric.score(clean, noisy, RATE, noisy), pairs)
        print(f"{name:20}{len(pairs) / took:14.1f}{seconds / took:14.1f}", flush=True)
    return max(compare(pairs), score_twice(pairs))


def utterances(count: int) -> list[Pair]:
    """Clean and noisy, evenly chosen from the shipped corpus."""
    with open(SAMPLE / "manifest.csv") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["path"].startswith("speech/")]
    rng = np.random.default_rng(0)
    pairs = []
    for path in paths[:: len(paths) // count][:count]:
        samples, rate = audio.read((SAMPLE / path).read_bytes(), path)
        clean = audio.resample(audio.mono(samples), rate, RATE).astype(np.float64)
        noise = rng.standard_normal(len(clean))
        pairs.append((clean, clean + noise * np.sqrt((clean @ clean) / (noise @ noise) / 10 ** (SNR_DB / 10))))
    return pairs


def timed(function: Callable[[np.ndarray, np.ndarray], object], pairs: list[Pair]) -> tuple[float, list[object]]:
    """Seconds for all pairs, and the answers."""
    start = time.perf_counter()
    answers = [function(clean, noisy) for clean, noisy in pairs]
    return time.perf_counter() - start, answers


def compare(pairs: list[Pair]) -> int:
    """The composites over all frames at once against the loop; PESQ is the same on both sides and told apart."""
    slow, by_loop = timed(loop_over_frames, pairs)
    fast, at_once = timed(all_frames, pairs)
    with_pesq, scores = timed(lambda clean, noisy: pesq(clean, noisy, RATE), pairs)
    for one, other, score in zip(at_once, by_loop, scores, strict=True):
        first, second = (
            [Parts(float(score), *parts).raw(target) for target in ("signal", "background", "overall")]
            for parts in (one, other)
        )
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-8)
    ratio = slow / fast
    print("\ncomposite (LLR, WSS, segSNR): all frames at once against a loop over frames, values equal within 1e-8")
    print(f"  loop {slow:.2f} s, at once {fast:.3f} s: {ratio:.1f} times faster (at least {LEAST_RATIO:.0f} wanted)")
    print(f"  with PESQ on both sides ({with_pesq:.2f} s): {(slow + with_pesq) / (fast + with_pesq):.1f} times faster")
    return 0 if ratio >= LEAST_RATIO else 1


def score_twice(pairs: list[Pair]) -> int:
    """The same set scored and scored again: the second time every value lies in the cache."""
    mixtures = [Mixture(clean.astype(np.float32), noisy.astype(np.float32), RATE) for clean, noisy in pairs]
    with tempfile.TemporaryDirectory() as folder:
        cache, seconds, computed = storage.normal(folder), [], []
        for _ in range(2):
            start = time.perf_counter()
            scored = [score_mixture(mixture, unprocessed, STANDARD, cache) for mixture in mixtures]
            seconds.append(time.perf_counter() - start)
            computed.append(sum(len(each["took_s"]) for each in scored))
    print(f"\n{', '.join(STANDARD)} scored twice with a cache: computed {computed[0]}, then {computed[1]} values")
    print(f"  {seconds[0]:.2f} s, then {seconds[1]:.3f} s: {seconds[0] / seconds[1]:.0f} times faster")
    return int(computed[1] > 0)


def all_frames(clean: np.ndarray, noisy: np.ndarray) -> tuple[float, float, float]:
    """LLR, WSS and segSNR as the metrics compute them."""
    measures = (log_likelihood_ratio, weighted_spectral_slope, segmental_snr)
    llr, wss, seg_snr = (measure(clean, noisy, RATE) for measure in measures)
    return llr, wss, seg_snr


def loop_over_frames(clean: np.ndarray, noisy: np.ndarray) -> tuple[float, float, float]:
    """The same, one frame at a time, straight from the definitions."""
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, FRAME + 1) / (FRAME + 1)))
    bank = critical_bands()
    ratios, slopes, levels = [], [], []
    for index in range((len(clean) - FRAME) // HOP):
        one, other = (each[index * HOP : index * HOP + FRAME] * window for each in (clean, noisy))
        if one.any():
            ratios.append(likelihood_of_frame(one, other))
        slopes.append(slope_of_frame(one / 32768, other / 32768, bank))
        level = 10 * np.log10(np.sum(one**2) / (np.sum((one - other) ** 2) + np.spacing(1.0)) + np.spacing(1.0))
        levels.append(min(max(level, -10.0), 35.0))
    llr, wss = (float(np.mean(sorted(values)[: round(0.95 * len(values))])) for values in (ratios, slopes))
    return llr, wss, float(np.mean(levels))


def likelihood_of_frame(one: np.ndarray, other: np.ndarray) -> float:
    """log of the two predictors' error on the clean frame."""
    correlation, own = predictor(one)
    _, theirs = predictor(other)
    matrix = np.array([[correlation[abs(row - column)] for column in range(ORDER + 1)] for row in range(ORDER + 1)])
    return float(np.log((theirs @ matrix @ theirs) / (own @ matrix @ own)))


def predictor(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation and prediction-error filter, by Levinson and Durbin."""
    correlation = np.array([frame[: FRAME - lag] @ frame[lag:] for lag in range(ORDER + 1)])
    taps, error = np.array([1.0]), correlation[0]
    for lag in range(1, ORDER + 1):
        reflection = -(taps @ correlation[lag:0:-1]) / error if error else 0.0
        longer = np.append(taps, 0.0)
        taps = longer + reflection * longer[::-1]
        error *= 1 - reflection**2
    return correlation, taps


def critical_bands() -> np.ndarray:
    """Weights of the 25 bands, [bands, bins]."""
    bins = FFT_SIZE // 2
    bank = np.zeros((len(CENTRES_HZ), bins))
    for band, (centre, width) in enumerate(zip(CENTRES_HZ, WIDTHS_HZ, strict=True)):
        place, spread = centre / (RATE / 2) * bins, width / (RATE / 2) * bins
        weights = np.exp(-11 * ((np.arange(bins) - np.floor(place)) / spread) ** 2 + np.log(WIDTHS_HZ[0] / width))
        bank[band] = np.where(weights > np.exp(-30 / (2 * 2.303)), weights, 0.0)
    return bank


def slope_of_frame(one: np.ndarray, other: np.ndarray, bank: np.ndarray) -> float:
    """Weighted squared difference of spectral slopes."""
    bands = [
        10 * np.log10(np.maximum(bank @ np.abs(np.fft.rfft(frame, FFT_SIZE)[:-1]) ** 2, 1e-10))
        for frame in (one, other)
    ]
    weights = [np.array([slope_weight(energy, band) for band in range(len(energy) - 1)]) for energy in bands]
    both = (weights[0] + weights[1]) / 2
    return float(both @ (np.diff(bands[0]) - np.diff(bands[1])) ** 2 / both.sum())


def slope_weight(energy: np.ndarray, band: int) -> float:
    """Klatt's weight: the search for the nearest peak goes uphill."""
    place = band
    if energy[band + 1] > energy[band]:
        while place < len(energy) - 1 and energy[place + 1] > energy[place]:
            place += 1
        peak = energy[place - 1]
    else:
        while place >= 0 and energy[place + 1] <= energy[place]:
            place -= 1
        peak = energy[place + 1]
    return float(20 / (20 + energy.max() - energy[band]) / (1 + peak - energy[band]))


if __name__ == "__main__":
    sys.exit(main())
