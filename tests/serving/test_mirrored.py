from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from serving.canary import CHECKS, Evidence, Rules, decide
from serving.mirrored import Answered, findings
from serving.tolerances import Tolerances
from simulation import audio
from simulation.audio import Waveform
from simulation.corpora.sample import SAMPLE

RATE = 16_000


def answers() -> list[Answered]:
    """What a champion makes of each utterance of the sample corpus: two seconds of it, with some noise left."""
    rng = np.random.default_rng(0)
    loaded = [audio.read(path.read_bytes(), path.name)[0] for path in sorted((SAMPLE / "speech").glob("*.flac"))]
    cut = [each[RATE : 3 * RATE, :1] for each in loaded if len(each) >= 3 * RATE]
    return [Answered(0.05, (each + rng.normal(0, 1e-3, each.shape)).astype(np.float32)) for each in cut]


ANSWERS = answers()


def alike(answer: Answered) -> Answered:
    """Another network's answer: half the noise, a slightly duller and softer voice, a little slower."""
    softer = 0.9 * answer.samples + 0.05 * np.roll(answer.samples, 1, axis=0)
    return Answered(answer.seconds * 1.5, softer.astype(np.float32))


def delayed(answer: Answered) -> Answered:
    """20 ms late."""
    return replace(answer, samples=np.roll(answer.samples, 320, axis=0))


FAULTY: dict[str, tuple[str, Callable[[Answered], Answered]]] = {
    "silent": ("silence", lambda answer: replace(answer, samples=0 * answer.samples)),
    "+6 dB": ("level", lambda answer: replace(answer, samples=np.clip(2 * answer.samples, -1, 1))),
    "delayed": ("delay", delayed),
    "slow": ("speed", lambda answer: replace(answer, seconds=answer.seconds + 0.5)),
    "crashing": ("answers", lambda answer: Answered(0.01, problem="the actor died")),
    "NaN": ("answers", lambda answer: replace(answer, samples=answer.samples * np.nan)),
    "short": ("answers", lambda answer: replace(answer, samples=answer.samples[:-1])),
    "clipping": ("clipping", lambda answer: replace(answer, samples=np.clip(30 * answer.samples, -1, 1))),
    "noise": ("quality", lambda answer: replace(answer, samples=answer.samples + noise(answer.samples.shape))),
}
NAMES = tuple(FAULTY)


def noise(shape: tuple[int, ...]) -> Waveform:
    """At -34 dBFS."""
    return np.random.default_rng(1).normal(0, 0.02, shape).astype(np.float32)


def found(candidate: Callable[[Answered], Answered], number: int, quality: bool = False) -> dict[str, str]:
    """What is found on a mirrored request."""
    answer = ANSWERS[number % len(ANSWERS)]
    return findings(answer, candidate(answer), RATE, Tolerances(), quality)


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_fails_its_check(name: str) -> None:
    """And says what was found; DNSMOS is asked where nothing else can tell."""
    check, candidate = FAULTY[name]
    assert found(candidate, 0, quality=check == "quality")[check]


def test_an_answer_that_is_no_worse_fails_nothing() -> None:
    """On no utterance, though it is another network's."""
    for number in range(len(ANSWERS)):
        assert not any(found(alike, number).values()), number
    assert found(alike, 0, quality=True).keys() == {check.name for check in CHECKS}


@pytest.mark.parametrize("name", ["silent", "+6 dB", "delayed", "slow", "crashing"])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_faulty_candidate_is_rolled_back_within_200_mirrored_requests(name: str, share: float) -> None:
    """On all requests or only on some; the reason names the check that failed."""
    rng, (check, candidate) = np.random.default_rng(7), FAULTY[name]
    rules, evidence = Rules(), Evidence(percent=5.0)
    at_fault, sound = ([found(one, number) for number in range(len(ANSWERS))] for one in (candidate, alike))
    while (decision := decide(evidence, rules)).action == "go on":
        seen = at_fault if rng.random() < share else sound
        evidence = evidence.with_one_more(seen[evidence.mirrored % len(ANSWERS)])
    assert decision.action == "roll back" and evidence.mirrored <= 200
    assert decision.reason.startswith(f"{check}: failed on ")


def test_a_champion_that_hears_nobody_speak_is_no_measure() -> None:
    """Suppressed noise may differ by any number of dB, but nobody may shout out of silence."""
    quiet = Answered(0.05, noise((2 * RATE, 1)) / 20)
    assert not any(findings(quiet, replace(quiet, samples=quiet.samples / 10), RATE, Tolerances(), True).values())
    assert findings(quiet, replace(quiet, samples=20 * quiet.samples), RATE, Tolerances(), True)["level"]


def test_the_loudest_channel_is_what_counts() -> None:
    """Faults of a stereo answer are heard where the champion's is loudest; an empty one compares without an error."""
    stereo = Answered(0.05, np.concatenate([ANSWERS[0].samples / 50, ANSWERS[0].samples], axis=1))
    louder = stereo.samples * np.array([1.0, 2.0], np.float32)
    assert findings(stereo, replace(stereo, samples=louder), RATE, Tolerances(), False)["level"] == "+6.0 dB"
    single = Answered(0.05, np.zeros((1, 1), np.float32))
    assert not any(findings(single, single, RATE, Tolerances(), True).values())
