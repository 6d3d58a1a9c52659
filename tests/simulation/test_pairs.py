"""Recorded pairs as a corpus: what is found, what is set aside, what is stated of their alignment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from components.simulate import imported
from simulation import audio, corpus, levels
from simulation.build import Built, build
from simulation.card import card
from simulation.corpus import open_splits
from simulation.draw import Plan, row_count
from simulation.errors import BadAudio, BadSetting, NotThere, TooManyQuarantined
from simulation.recorded import lag_samples, paired
from simulation.scenario import Case, Scenario
from simulation.sources import scan_for

RATE = 8000
SNR_DB = 7.0


def speech(seed: int, seconds: float = 0.6) -> np.ndarray:
    """Bursts of coloured noise, a little like speech."""
    rng = np.random.default_rng(seed)
    coloured = np.convolve(rng.normal(0, 1, int(seconds * RATE)), np.ones(5) / 5, mode="same")
    bursts = np.sin(2 * np.pi * 3 * np.arange(len(coloured)) / RATE) > -0.3
    return (0.1 * coloured * bursts).astype(np.float32)


def noisy_of(clean: np.ndarray, seed: int) -> np.ndarray:
    """The same in white noise at 7 dB."""
    noise = np.random.default_rng(1000 + seed).normal(0, 1, len(clean)).astype(np.float32)
    return (clean + noise * levels.snr_gain(clean, noise, SNR_DB, RATE)).astype(np.float32)


def write(path: Path, samples: np.ndarray, sample_rate: int = RATE) -> None:
    """A FLAC file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(audio.encode_flac(samples, sample_rate, 24))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three speakers of ten pairs, one in each split."""
    for number, split in enumerate(("train", "valid", "test")):
        for take in range(10):
            clean = speech(100 * number + take)
            name = f"{split}/p{number}/{take:02d}.flac"
            write(tmp_path / "pairs" / "clean" / name, clean)
            write(tmp_path / "pairs" / "noisy" / name, noisy_of(clean, 100 * number + take))
    return tmp_path / "pairs"


def scenario_of(folder: Path, **changes: Any) -> Scenario:
    """As `unmuffle corpus import` makes it, with small shards; up to three in ten pairs may be bad."""
    found = imported(str(folder))
    return Scenario.model_validate(found.model_dump() | {"rows_per_shard": 4, "most_bad_sources": 0.3} | changes)


# ---- as a corpus ----------------------------------------------------------------------------------------------------


def test_pairs_become_a_corpus_of_every_pair_once(folder: Path, tmp_path: Path, without_ray: None) -> None:
    """Shards, digests, verify and replay as for any corpus; a row is what the two files hold."""
    built = build(scenario_of(folder), str(tmp_path / "store"))
    assert corpus.verify(built.address) == []
    splits = open_splits(built.address)
    assert {name: len(split) for name, split in splits.items()} == {"train": 10, "valid": 10, "test": 10}
    train = splits["train"]
    assert [entry.row.speech for entry in train.entries] == [f"speech/train/p0/{take:02d}.flac" for take in range(10)]
    for place, entry in enumerate(train.entries):
        stored, clean = train.read(place), speech(place)
        gain = entry.measured.gain
        assert np.abs(stored.clean - gain * clean).max() < 1e-4
        assert np.abs(stored.noisy - gain * noisy_of(clean, place)).max() < 1e-4
        assert entry.row.noisy == f"noisy/train/p0/{place:02d}.flac" and entry.row.speaker == "p0"
        assert entry.measured.snr_db == pytest.approx(SNR_DB, abs=0.2)
        assert entry.measured.lag_samples == 0
    replayed = corpus.replay(built.address, "test-00000009")
    assert np.array_equal(replayed.noisy, splits["test"].read(9).noisy)


def test_moving_the_folder_changes_nothing(folder: Path, tmp_path: Path, without_ray: None) -> None:
    """Where the pairs lie is no part of the corpus: nothing is rendered again."""
    first = build(scenario_of(folder, name="mine"), str(tmp_path / "store"))
    folder.rename(tmp_path / "elsewhere")
    again = build(scenario_of(tmp_path / "elsewhere", name="mine"), str(tmp_path / "store"))
    assert (again.address, again.digest, again.rendered) == (first.address, first.digest, 0)


def test_degradations_may_be_added_to_recorded_pairs(folder: Path) -> None:
    """A case with operations degrades the noisy side further; without pairs, a case needs at least one."""
    from simulation.degradations import Clip

    cases = (Case(name="clipped", degradations=(Clip(),)),)
    assert scenario_of(folder, cases=cases).cases == cases
    with pytest.raises(ValueError, match="case 'pairs' has no degradations"):
        scenario_of(folder, pairs="")


def test_a_plan_counts_the_pairs_there_are(folder: Path) -> None:
    """Ten rows in shards of four: the last shard has two, whoever renders it."""
    scenario = scenario_of(folder)
    plan = Plan(scenario, scan_for(scenario), 0)
    assert [row_count(plan, split) for split in ("train", "valid", "test")] == [10, 10, 10]


def test_the_card_of_pairs_states_their_alignment(folder: Path, tmp_path: Path, without_ray: None) -> None:
    """Lag and realised SNR stand on it; nothing was asked, so nothing is compared."""
    facts = card(build(scenario_of(folder), str(tmp_path / "store")).address).facts
    measured = {quantity.name: quantity.cases["pairs"].median for quantity in facts.quantities}
    assert measured["lag_samples"] == 0 and measured["snr_db"] == pytest.approx(SNR_DB, abs=0.2)
    assert not any(quantity.comparison for quantity in facts.quantities)
    assert {source.kind: source.recordings for source in facts.sources} == {"speech": 30, "noisy": 30}


# ---- what is set aside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda at, clean, noisy: (at / "noisy/train/p0/03.flac").unlink(), r"It has no partner in noisy/"),
        (
            lambda at, clean, noisy: write(at / "noisy/train/p0/03.flac", noisy[:-400]),
            "4800 samples and its noisy side",
        ),
        (
            lambda at, clean, noisy: write(at / "noisy/train/p0/03.flac", noisy, 16_000),
            "8000 Hz and its noisy side 16000",
        ),
        (lambda at, clean, noisy: (at / "clean/train/p0/03.flac").write_bytes(b"text"), "clean side: .*cannot be read"),
    ],
    ids=["no partner", "other length", "other rate", "no audio"],
)
def test_a_pair_that_is_none_is_set_aside(folder: Path, fault: Callable[..., None], reason: str) -> None:
    """One bad pair is named with its reason and counted; the others are used."""
    import re

    fault(folder, speech(3), noisy_of(speech(3), 3))
    manifest = scan_for(scenario_of(folder))
    assert sum(one.kind == "speech" for one in manifest.recordings) == 29
    (bad,) = manifest.quarantined
    assert "train/p0/03.flac" in bad.address and re.search(reason, bad.reason), bad


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda noisy: np.roll(noisy, 160), "20.0 ms after the clean one"),
        (lambda noisy: np.roll(noisy, -24), "3.0 ms before the clean one"),
        (lambda noisy: -noisy, "other polarity"),
    ],
    ids=["late", "early", "upside down"],
)
def test_a_pair_out_of_step_is_set_aside_when_it_is_rendered(
    folder: Path, tmp_path: Path, without_ray: None, monkeypatch: pytest.MonkeyPatch, change: Any, reason: str
) -> None:
    """The row is in quarantine with what was found, and the corpus holds the others."""
    monkeypatch.setattr("simulation.build.MOST_QUARANTINED", 0.2)
    write(folder / "noisy/train/p0/03.flac", change(noisy_of(speech(3), 3)))
    built: Built = build(scenario_of(folder), str(tmp_path / "store"))
    train = open_splits(built.address)["train"]
    (bad,) = [row for shard in train.shards for row in shard.quarantined]
    assert len(train) == 9
    assert bad.id == "train-00000003" and reason in bad.reason


def test_a_frame_more_on_one_side_is_trimmed(folder: Path) -> None:
    """Codecs leave up to 32 ms behind: the pair is used, at the length of the shorter side."""
    write(folder / "noisy/train/p0/03.flac", noisy_of(speech(3), 3)[:-200])
    assert not scan_for(scenario_of(folder)).quarantined
    assert len(paired(speech(3), noisy_of(speech(3), 3)[:-200], RATE).clean) == 4600


def test_too_many_bad_pairs_stop_the_import(folder: Path) -> None:
    """More than one in twenty, as for any source."""
    for take in range(4):
        (folder / f"noisy/train/p0/{take:02d}.flac").unlink()
    with pytest.raises(TooManyQuarantined, match=r"4 of 30 pairs recordings"):
        imported(str(folder))


def test_a_folder_without_pairs_says_what_was_found(tmp_path: Path) -> None:
    """The two folders are missing, or no name is in both."""
    with pytest.raises(NotThere, match=r"0 audio files in clean/ and 0 audio files in noisy/.*Expected a folder with"):
        imported(str(tmp_path))


def test_pairs_at_another_rate_are_resampled_or_set_aside(folder: Path) -> None:
    """The corpus has the commonest rate; a pair of a higher one is brought down, one of a lower one is set aside."""
    for side in ("clean", "noisy"):
        write(folder / side / "train/p0/03.flac", speech(3), 16_000)
        write(folder / side / "train/p0/04.flac", speech(4), 6000)
    scenario = scenario_of(folder, name="mixed")
    manifest = scan_for(scenario)
    assert scenario.sample_rate == RATE
    assert manifest.find("noisy/train/p0/03.flac").sample_rate == 16_000
    assert ["6000 Hz, is below the corpus's 8000 Hz" in one.reason for one in manifest.quarantined] == [True]


def test_a_table_names_speakers_splits_and_licences(folder: Path) -> None:
    """`pairs.csv` beside the two folders; a name that is not there is an answer."""
    rows = [
        {"path": f"{split}/p{number}/{take:02d}.flac", "speaker": f"who{take % 5}{split}", "licence": "CC0"}
        for number, split in enumerate(("train", "valid", "test"))
        for take in range(10)
    ]
    pandas.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    manifest = scan_for(scenario_of(folder))
    assert {one.group for one in manifest.recordings if one.split == "test"} == {f"who{i}test" for i in range(5)}
    assert {one.licence for one in manifest.recordings} == {"CC0"}
    assert {one.kind for one in manifest.recordings} == {"speech", "noisy"}
    pandas.DataFrame([*rows, {"path": "gone.flac"}]).to_csv(folder / "pairs.csv", index=False)
    with pytest.raises(BadSetting, match=r"lists 'gone\.flac', which is not in both"):
        imported(str(folder))


# ---- alignment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [-7, -1, 0, 1, 8])
def test_the_lag_is_found_to_the_sample(lag: int) -> None:
    """In noise at 7 dB, and below it."""
    clean = speech(5, 1.0)
    assert lag_samples(clean, np.roll(noisy_of(clean, 5), lag), RATE) == lag


def test_nothing_is_said_where_the_clean_is_buried() -> None:
    """Noise that has nothing of the clean in it has no lag, and no SNR worth the name."""
    clean, other = speech(5, 2.0), np.random.default_rng(9).normal(0, 0.1, 16_000).astype(np.float32)
    assert lag_samples(clean, other, RATE) is None
    assert lag_samples(clean, np.zeros_like(clean), RATE) is None
    assert "lag_samples" not in paired(clean, other, RATE).measured


def test_a_pair_that_is_its_own_clean_has_no_snr() -> None:
    """Nothing is there but speech: the value is absent, not infinite."""
    clean = speech(5)
    assert paired(clean, clean, RATE).measured == {"lag_samples": 0.0}
    with pytest.raises(BadAudio, match="expected equal lengths"):
        paired(clean, clean[:2000], RATE)
