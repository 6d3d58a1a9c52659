"""Planted cases on real speech: stand-in versions, each with one fault, through the real metrics and the real gate.

The stand-ins know the clean speech of the few utterances here, and take noise away by a stated share. So each is good
where it is good, and at fault in one way only.
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
import torch

from serving import facts
from serving.engine import Engine
from serving.facts import facts_of
from serving.judgement import Facts, Judgement, Verdict
from serving.policy import metrics_of, policy_for
from serving.verdict import UNPROCESSED, verdict
from simulation import audio
from simulation.audio import Waveform
from simulation.corpora.sample import SAMPLE
from simulation.degradations.base import Mixture
from training.harmless import WithHarmless
from training.models.base import Enhancer, ModelConfig
from training.pairs import Labels
from training.scoring import Enhance, score_mixture

RATE = 16_000
SECONDS = 1.5
CASES = ("noise", "babble")
EACH = 12
POLICY = policy_for("denoise-16k", "realtime").model_copy(update={"minimum_utterances": 2 * EACH})
CHEAP = Facts(real_time_factor=0.1, latency_ms=20.0, memory_mb=400.0, size_mb=1.0, machine="a test's")


@cache
def recordings(kind: str) -> list[tuple[str, Waveform]]:
    """Group and samples of recordings of the sample corpus, one a group, long enough."""
    with (SAMPLE / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == kind and int(row["sample_rate"]) == RATE]
    found = {}
    for row in rows:
        if row["group"] not in found and int(row["samples"]) >= 3 * SECONDS * RATE:
            samples = audio.mono(audio.read((SAMPLE / row["path"]).read_bytes(), row["path"])[0])
            found[row["group"]] = samples[int(SECONDS * RATE) :][: int(SECONDS * RATE)]
        if len(found) == EACH:
            break
    return list(found.items())


@dataclass(frozen=True)
class Speech:
    """Twelve speakers at 5 dB under noise recordings, and again under other ones."""

    address: str = "test"
    digest: str = "0" * 64
    entries: list[Labels] = field(init=False)

    def __post_init__(self) -> None:
        """Label them."""
        labels = [
            Labels(
                id=f"{case}-{k:02d}",
                case=case,
                snr_db=5.0,
                speaker=recordings("speech")[k][0],
                noise=self._noise(case, k)[0],
                room=None,
            )
            for case in CASES
            for k in range(EACH)
        ]
        object.__setattr__(self, "entries", labels)

    def read(self, index: int) -> Mixture:
        """One of them."""
        clean = recordings("speech")[index % EACH][1]
        noise = self._noise(CASES[index // EACH], index % EACH)[1]
        scaled = noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10**0.5)
        return Mixture(clean, (clean + scaled).astype(np.float32), RATE)

    @staticmethod
    def _noise(case: str, k: int) -> tuple[str, Waveform]:
        noises = recordings("noise")
        return noises[(k + CASES.index(case)) % len(noises)]


CORPUS = WithHarmless(Speech(), count=2)

Version = Callable[[Mixture, str], Waveform]
"""A stand-in: what it makes of a mixture in a slice."""


def denoiser(mixture: Mixture, case: str, share: float = 0.8) -> Waveform:
    """Takes away a share of the noise."""
    return (mixture.noisy + share * (mixture.clean - mixture.noisy)).astype(np.float32)


def worse_in_one_slice(mixture: Mixture, case: str) -> Waveform:
    """Nearly all noise gone in one slice, a third more of it in the other."""
    return denoiser(mixture, case, -0.3 if case == "babble" else 0.99)


def muting_clean_speech(mixture: Mixture, case: str) -> Waveform:
    """Clean input is taken for silence in the middle third."""
    enhanced = denoiser(mixture, case)
    if case == "harmless_clean":
        third = len(enhanced) // 3
        enhanced[third : 2 * third] *= 1e-4
    return enhanced


def flipping_polarity(mixture: Mixture, case: str) -> Waveform:
    """Upside down."""
    return -denoiser(mixture, case)


def late(mixture: Mixture, case: str) -> Waveform:
    """By 20 ms."""
    return np.roll(denoiser(mixture, case), round(0.02 * RATE))


def louder(mixture: Mixture, case: str) -> Waveform:
    """By 6 dB."""
    return 2 * denoiser(mixture, case)


class Slow(Enhancer):
    """Takes a second of processor time for a second of audio: twice what the policy allows."""

    causal = True

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Its input, late."""
        until = time.process_time() + noisy.shape[-1] / self.sample_rate
        while time.process_time() < until:
            pass
        return noisy


@cache
def scored(name: str, version: Version | None) -> pd.DataFrame:
    """The table of scores of one stand-in; None leaves its input alone."""
    lines = []
    for index, label in enumerate(CORPUS.entries):
        mixture = CORPUS.read(index)
        enhance: Enhance = lambda noisy, rate: noisy  # noqa: E731
        if version is not None:
            enhance = partial(_answer, version, mixture, label.case)
        scores = score_mixture(mixture, enhance, metrics_of(POLICY))
        lines.append({"row": label.id, "system": name, **label.model_dump(exclude={"id"}), **scores})
    return pd.DataFrame(lines)


def _answer(version: Version, mixture: Mixture, case: str, noisy: Waveform, sample_rate: int) -> Waveform:
    return version(mixture, case)


def judged(version: Version, costs: Facts = CHEAP) -> Judgement:
    """A stand-in against a champion that takes half of the noise away."""
    table = pd.concat(
        [scored(UNPROCESSED, None), scored("dm/1", partial_champion), scored("dm/2", version)], ignore_index=True
    )
    found = verdict(table, "dm/1", ["dm/2"], POLICY, {"dm/2": costs})
    assert Verdict.parse(found.canonical(), "verdict.json") == found
    return found.judgements[0]


def partial_champion(mixture: Mixture, case: str) -> Waveform:
    """The champion."""
    return denoiser(mixture, case, 0.5)


def test_a_better_version_without_a_fault_wins() -> None:
    """On all slices, harming none of the rows added to be left alone; the others fail for their fault alone."""
    judgement = judged(denoiser)
    assert judgement.wins, judgement.reason
    assert all(check.n > 0 and check.outside == 0 for check in judgement.limits)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (worse_in_one_slice, "it may lose more than 1 in the slice babble"),
        (muting_clean_speech, "Muted is above 0.02 or missing on 2 of 4 utterances in harmless_clean"),
        (flipping_polarity, "Polarity is below 0 or missing on 24 of 24 utterances"),
        (late, "Delay is above 5 or missing on 24 of 24 utterances"),
        (louder, "Loudness error is above 3 or missing on 4 of 4 utterances in harmless_clean"),
    ],
)
def test_a_fault_that_an_average_hides_blocks_for_its_own_reason(version: Version, reason: str) -> None:
    """Each is better on average than the champion, where the main metric can see it at all; each is named."""
    judgement = judged(version)
    assert not judgement.wins
    assert reason in judgement.reason
    if version is not late:  # a delay is the end of SI-SDR; the others are better on average
        assert judgement.gain is not None and judgement.gain.met
    named = [check.limit.metric for check in judgement.limits if not check.met]
    named += [check.slice for check in judgement.margins if not check.met and version is worse_in_one_slice]
    expected = {
        worse_in_one_slice: "babble",
        muting_clean_speech: "muted",
        flipping_polarity: "polarity",
        late: "delay",
        louder: "loudness_error",
    }
    assert expected[version] in named


def test_twice_too_slow_blocks_for_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured, not claimed: as good as the winner above, but a second of work for a second of audio."""
    monkeypatch.setattr(facts, "REPEATS", 1)
    monkeypatch.setattr(facts, "INPUT_S", 1.0)
    slow = facts_of(Engine(Slow(ModelConfig(kind="slow"))), size_mb=1.0)
    judgement = judged(denoiser, slow.model_copy(update={"memory_mb": 400.0}))
    assert not judgement.wins
    assert judgement.gain is not None and judgement.gain.met
    assert [check.budget.fact for check in judgement.budgets if not check.met] == ["real_time_factor"]
    assert "but its real_time_factor of 1" in judgement.reason and "is above 0.5" in judgement.reason
