"""Metrics that ask a network: DNSMOS as its package computes it; the others through stand-ins made here."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from training.metrics import METRICS, MetricFailed, dnsmos, sigmos, word_errors

RATE = 16_000
TIME = np.arange(3 * RATE) / RATE
CLEAN = 0.3 * np.sin(2 * np.pi * 200 * TIME) * np.sin(2 * np.pi * 2 * TIME) ** 2
NEED_WEIGHTS = [name for name, metric in METRICS.items() if metric.needs_weights]


class MeanSquare(torch.nn.Module):
    """One score: 1 plus a hundred times the power."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """[1, samples] to [1, 1]."""
        return 1 + 100 * (batch**2).mean(dim=1, keepdim=True)


class Counting(torch.nn.Module):
    """Seven scores, 0 to 6, shifted by the mean of what comes in times nothing."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """[1, 3, frames, bins] to [1, 7]."""
        return torch.arange(7.0)[None] + 0 * batch.mean()


class Embedding(torch.nn.Module):
    """Energy in the first and in the second half."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """[1, samples] to [1, 2]."""
        return batch.pow(2).reshape(1, 2, -1).sum(dim=2)


class Loudest(torch.nn.Module):
    """A recogniser that hears "a" in loud frames and the space in soft ones."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """[1, samples] to [1, frames, 3 tokens]."""
        level = batch[:, : batch.shape[1] // 1600 * 1600].reshape(1, -1, 1600).pow(2).mean(dim=2)
        return torch.stack([torch.full_like(level, -1.0), level, torch.full_like(level, 0.005)], dim=2)


def saved(module: torch.nn.Module, example: torch.Tensor, path: Path) -> str:
    """Traced to a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, example), str(path))
    return str(path)


@pytest.mark.parametrize("name", NEED_WEIGHTS)
def test_without_weights_a_metric_is_skipped_with_what_to_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the variable and what the file has to be; a path that is no file is named too."""
    variable = str(METRICS[name].needs_weights)
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MetricFailed, match=f"needs weights: set {variable} to the path of .*(TorchScript|ONNX)"):
        METRICS[name].score(CLEAN, CLEAN, RATE)
    monkeypatch.setenv(variable, "/nowhere/network.pt")
    with pytest.raises(MetricFailed, match=f"{variable} names /nowhere/network.pt, which is no file"):
        METRICS[name].score(CLEAN, CLEAN, RATE)


@pytest.mark.parametrize("suffix", ["pt", "onnx"])
def test_a_file_that_is_no_network_fails_with_its_path(
    suffix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Damaged weights are a stated failure, in either format."""
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(b"not a network")
    monkeypatch.setenv("UNMUFFLE_UTMOS", str(path))
    with pytest.raises(MetricFailed, match=rf"weights at .*broken\.{suffix} cannot be loaded: "):
        METRICS["utmos"].score(CLEAN, CLEAN, RATE)


def test_utmos_is_what_its_network_says_of_the_enhanced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The enhanced goes in, at 16 kHz, and the one number comes out."""
    monkeypatch.setenv("UNMUFFLE_UTMOS", saved(MeanSquare(), torch.ones(1, RATE), tmp_path / "utmos.pt"))
    assert METRICS["utmos"].score(CLEAN, 0.5 * CLEAN, RATE) == pytest.approx(1 + 25 * np.mean(CLEAN**2), rel=1e-5)


def test_sigmos_takes_its_numbers_in_the_published_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SIG is the sixth and OVRL the seventh output, and 16 kHz audio is brought up to 48 kHz."""
    monkeypatch.setenv("UNMUFFLE_SIGMOS", saved(Counting(), torch.ones(1, 3, 5, 481), tmp_path / "sigmos.pt"))
    assert METRICS["sigmos_sig"].score(CLEAN, CLEAN, RATE) == 5.0
    assert METRICS["sigmos_ovrl"].score(CLEAN, CLEAN, RATE) == 6.0


def test_sigmos_sees_a_compressed_spectrogram() -> None:
    """Frames of 960 every 480 samples; a magnitude to the power 0.3 beside its real and imaginary part."""
    rng = np.random.default_rng(0)
    found = sigmos.features(rng.standard_normal(4_800))
    assert found.shape == (3, 11, 481) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], np.hypot(found[1], found[2]), rtol=1e-4)
    louder = sigmos.features(10 * np.random.default_rng(0).standard_normal(4_800))
    np.testing.assert_allclose(louder, 10**0.3 * found, rtol=1e-3, atol=1e-5)


def test_speaker_similarity_is_a_cosine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """1 for the same waveform at any gain; cos 45 degrees where the enhanced loses one of two equal halves."""
    path = saved(Embedding(), torch.ones(1, 2 * RATE), tmp_path / "speaker.pt")
    monkeypatch.setenv("UNMUFFLE_SPEAKER", path)
    clean = np.tile(CLEAN[:RATE], 2)
    half = np.where(np.arange(2 * RATE) < RATE, clean, 0.0)
    metric = METRICS["speaker_similarity"]
    assert metric.score(clean, 0.1 * clean, RATE) == pytest.approx(1.0)
    assert metric.score(clean, half, RATE) == pytest.approx(np.sqrt(0.5))
    with pytest.raises(MetricFailed, match="shorter than 1 s"):
        metric.score(clean[:8_000], half[:8_000], RATE)


def test_dwer_counts_words_that_the_recogniser_no_longer_hears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Six bursts are six words; two of them muted are two deletions."""
    path = saved(Loudest(), torch.ones(1, 3 * RATE), tmp_path / "asr.pt")
    monkeypatch.setenv("UNMUFFLE_ASR", path)
    clean = 0.3 * np.sin(2 * np.pi * 200 * TIME) * (np.arange(3 * RATE) % 8_000 < 4_800)
    with pytest.raises(MetricFailed, match=r"asr\.tokens is no file"):
        METRICS["dwer"].score(clean, clean, RATE)
    (tmp_path / "asr.tokens").write_text("-\na\n|\n")
    assert METRICS["dwer"].score(clean, clean, RATE) == 0.0
    assert METRICS["dwer"].score(clean, clean * (np.arange(3 * RATE) >= RATE), RATE) == pytest.approx(2 / 6)
    with pytest.raises(MetricFailed, match="hears no words in the clean"):
        METRICS["dwer"].score(0.001 * clean, clean, RATE)


@pytest.mark.parametrize(
    ("reference", "heard", "count"),
    [("a b c", "a b c", 0), ("a b c", "", 3), ("", "x", 1), ("a b c", "a x c", 1), ("a b c", "b c d", 2)],
)
def test_edits_are_the_least_number(reference: str, heard: str, count: int) -> None:
    """Substitutions, insertions and deletions, each one."""
    assert word_errors.edits(reference.split(), heard.split()) == count


def test_ctc_merges_repetitions_before_it_drops_blanks() -> None:
    """a a - a | b is "aa b"."""
    scores = np.eye(4)[[1, 1, 0, 1, 2, 3]]
    assert word_errors.transcript(scores, ["-", "a", "|", "b"]) == ["aa", "b"]


def test_dnsmos_agrees_with_its_package() -> None:
    """The package's own function (librosa, threads and all) gives the same four numbers within 1e-3."""
    enhanced = CLEAN + 0.01 * np.random.default_rng(0).standard_normal(len(CLEAN))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pytest.importorskip("speechmos.dnsmos").run(enhanced, RATE)
    for name in ("sig", "bak", "ovrl", "p808"):
        found = METRICS[f"dnsmos_{name}"].score(CLEAN, enhanced, RATE)
        assert found == pytest.approx(float(reference[f"{name}_mos"]), abs=1e-3)


def test_dnsmos_hears_noise_and_p835_hears_level() -> None:
    """Noise costs background quality; P.808 does not change with a gain and P.835 does, as the definition says."""
    rng = np.random.default_rng(0)
    little, much = (CLEAN + level * rng.standard_normal(len(CLEAN)) for level in (0.001, 0.1))
    assert METRICS["dnsmos_bak"].score(CLEAN, little, RATE) > METRICS["dnsmos_bak"].score(CLEAN, much, RATE) + 0.3
    quiet, loud = (METRICS["dnsmos_p808"].score(CLEAN, gain * much, RATE) for gain in (0.1, 1.0))
    assert quiet == pytest.approx(loud, abs=1e-3)
    quiet, loud = (METRICS["dnsmos_ovrl"].score(CLEAN, gain * little, RATE) for gain in (0.1, 1.0))
    assert abs(quiet - loud) > 0.02


def test_dnsmos_looks_at_every_second() -> None:
    """3.1 s is doubled twice and has three windows; 9.01 s has one; 20 s has eleven."""
    counts = [len(list(dnsmos._windows(np.ones(samples)))) for samples in (49_600, 144_160, 320_000)]
    assert counts == [3, 1, 11]


def test_the_table_of_metrics_is_imported_without_their_networks() -> None:
    """Naming metrics costs no import of torch, ONNX or librosa."""
    heavy = ["torch", "onnxruntime", "librosa", "speechmos", "ray", "mlflow"]
    line = f"import sys, training.metrics; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
