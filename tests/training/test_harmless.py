"""Do-no-harm rows: made from a corpus, the same every time, and counted apart."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulation import storage
from simulation.cluster import ClusterInfo
from simulation.degradations.base import Mixture
from training.baselines import spectral_subtraction
from training.evaluate import evaluate
from training.harmless import CASES, WithHarmless
from training.music import music
from training.pairs import Labels

RATE = 16_000


class Noises:
    """Four rows of 7 s: noise of a level of their own, with as much noise added."""

    address, digest = "file:///noises", "ab" * 32

    def __init__(self) -> None:
        self.entries = [
            Labels(id=f"row{k}", case="noise", snr_db=0.0, speaker=f"s{k % 2}", noise="n", room=None) for k in range(4)
        ]

    def read(self, index: int) -> Mixture:
        clean, noise = (
            np.random.default_rng(index).standard_normal((2, 7 * RATE)).astype(np.float32) * 0.01 * (index + 1)
        )
        return Mixture(clean, clean + noise, RATE)


def rows() -> dict[str, Mixture]:
    """Every row by its id."""
    corpus = WithHarmless(Noises(), count=2)
    return {entry.id: corpus.read(index) for index, entry in enumerate(corpus.entries)}


def test_the_rows_are_what_they_are_called() -> None:
    """Clean is its own input, and so is music; high SNR is 30 dB; silence is zeros; spectral subtraction has been at
    the enhanced; a minute is a minute of the rows in order."""
    made, own = rows(), [Noises().read(k) for k in range(4)]
    assert list(made)[4:-1] == [f"harmless_{case}-{k}" for case in CASES[:-1] for k in range(2)]
    clean, high, silence, music, enhanced = (made[f"harmless_{case}-1"] for case in CASES[:-1])
    long = made["harmless_long_60s-0"]
    assert np.array_equal(clean.clean, own[2].clean) and np.array_equal(clean.noisy, clean.clean)
    ratio = np.mean(high.clean**2) / np.mean((high.noisy - high.clean) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(30.0, abs=0.1)
    assert not silence.clean.any() and not silence.noisy.any()
    assert np.array_equal(music.clean, music.noisy) and 10 * np.log10(np.mean(music.noisy**2)) == pytest.approx(-26)
    assert np.array_equal(enhanced.clean, own[2].clean)
    assert np.array_equal(enhanced.noisy, spectral_subtraction(own[2].noisy, RATE))
    assert len(long.clean) == len(long.noisy) == 60 * RATE
    assert np.array_equal(long.noisy[: 7 * RATE], own[0].noisy)
    assert np.array_equal(long.noisy[28 * RATE : 35 * RATE], own[0].noisy)
    assert all(np.array_equal(made[name].noisy, again.noisy) for name, again in rows().items())


def test_an_evaluation_counts_them_in_slices_of_their_own(ray_cluster: ClusterInfo, tmp_path: Path) -> None:
    """Overall stays the corpus's own rows; each case is a slice; silence has no value, and is counted."""
    plain = evaluate({}, Noises(), str(tmp_path / "plain"), metrics=["si_sdr"])
    card = evaluate({}, Noises(), str(tmp_path / "more"), metrics=["si_sdr"], harmless=1)
    system = "spectral_subtraction"
    assert card.score(system, "overall", "si_sdr").mean == plain.score(system, "overall", "si_sdr").mean
    assert {part.name for part in card.slices if part.kind == "harmless"} == {f"harmless_{case}" for case in CASES}
    assert not any(part.kind == "harmless" for part in plain.slices)
    assert (card.rows, card.harmless_rows) == (4, 6) and (plain.rows, plain.harmless_rows) == (4, 0)
    assert card.score("unprocessed", "harmless_clean", "si_sdr").mean.mean == 100.0  # type: ignore[union-attr]
    assert card.score(system, "harmless_silence", "si_sdr").failed == 1
    scores = pd.read_parquet(
        io.BytesIO(storage.read(storage.join(storage.normal(str(tmp_path / "more")), "scores.parquet")))
    )
    assert len(scores) == 3 * (4 + 6) and scores["seconds"].max() == 60.0


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 48_000])
def test_music_is_our_own_notes_at_any_rate(sample_rate: int) -> None:
    """The strongest tone of the first beat is the melody's first note; a variation is another key; it repeats."""
    first, second = music(0, sample_rate), music(1, sample_rate)
    assert len(first) == 4 * sample_rate and np.array_equal(first, music(0, sample_rate))
    spectrum = np.abs(np.fft.rfft(first[: sample_rate // 4]))
    assert 4 * spectrum.argmax() == pytest.approx(392.0, abs=4)
    assert not np.array_equal(first, second) and np.abs(first).max() < 1
