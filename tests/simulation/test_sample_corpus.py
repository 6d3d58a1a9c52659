"""The corpus that ships with the package: complete, clean, disjoint, attributed and small."""

import csv
import hashlib
import re
import time
from collections import defaultdict

import numpy as np
import pytest

from simulation import audio, levels
from simulation.corpora import sample
from simulation.corpora.sample import SAMPLE
from simulation.sources import KINDS, SPLITS, load, scan
from simulation.sources.measuring import measured

FREE = re.compile(r"(CC0|CC BY(?!-)|MIT|public domain)\b")
BYTES_AT_MOST = 15_000_000


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """The rows of the manifest."""
    with (SAMPLE / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_file_is_in_the_manifest_with_its_checksum_and_facts(rows: list[dict[str, str]]) -> None:
    """The scan trusts these checksums, so here every one is checked: bytes, samples, rate, one channel, sound in it."""
    assert sorted(row["path"] for row in rows) == sorted(
        path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*.flac")
    )
    for row in rows:
        data = (SAMPLE / row["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["sha256"], row["path"]
        samples, sample_rate = audio.read(data, row["path"])
        assert (samples.shape, sample_rate) == ((int(row["samples"]), 1), int(row["sample_rate"])), row["path"]
        assert sample_rate == 16_000
        assert not levels.silent(audio.mono(samples)), row["path"]
        assert np.abs(samples).max() < 1, row["path"]


def test_the_manifest_holds_what_is_measured_of_each_file() -> None:
    """A scan of the sample corpus reads no audio; what it says of the recordings is what measuring them gives."""
    recordings = scan("sample", "sample", "sample", sample_rate=16_000).recordings
    for recording in recordings[::11]:
        again = measured(recording.kind, load(recording, 16_000), 16_000)
        assert again is not None and recording.probe is not None
        stated, found = (probe.model_dump(exclude_none=True) for probe in (recording.probe, again))
        assert stated == pytest.approx(found, rel=1e-4, abs=1e-3), recording.id


def test_it_is_small_enough_to_ship() -> None:
    """At most 15 MB of FLAC."""
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*.flac")) <= BYTES_AT_MOST


def test_every_licence_is_free_for_any_use(rows: list[dict[str, str]]) -> None:
    """CC0, CC BY, MIT or public domain: nothing non-commercial, nothing share-alike, nothing unstated."""
    for row in rows:
        assert FREE.match(row["licence"]), row
        assert not re.search("NC|SA|not stated|Apache", row["licence"]), row
        assert row["source"], row["path"]


def test_every_author_who_asks_for_it_is_named(rows: list[dict[str, str]]) -> None:
    """LICENSES.md has each Freesound id with its author, and each repository."""
    text = (SAMPLE / "LICENSES.md").read_text(encoding="utf-8")
    for row in rows:
        if row["group"].startswith("freesound_"):
            author = re.search(r"people/(.+)/sounds/", row["note"])
            assert author and f"| {row['group'].removeprefix('freesound_')} | {author[1]} |" in text, row["path"]
        else:
            repository = row["source"].partition(":")[0]
            assert repository in text, repository


def test_splits_share_no_speaker_no_noise_recording_and_no_room(rows: list[dict[str, str]]) -> None:
    """Nor any file; and every split has all three kinds."""
    for fact in ("group", "sha256"):
        splits = defaultdict(set)
        for row in rows:
            splits[row["kind"], row[fact]].add(row["split"])
        assert {name for name, where in splits.items() if len(where) > 1} == set()
    assert {(row["kind"], row["split"]) for row in rows} == {(kind, split) for kind in KINDS for split in SPLITS}


def test_it_can_carry_a_comparison(rows: list[dict[str, str]]) -> None:
    """Intervals are clustered by speaker and by noise recording, so test has more than twenty of each."""
    groups = defaultdict(set)
    for row in rows:
        groups[row["kind"], row["split"]].add(row["group"])
    assert len(groups["speech", "test"]) >= 20
    assert len(groups["noise", "test"]) >= 20
    assert len(groups["noise", "train"]) >= 60


def test_children_and_adults_speak_in_every_split(rows: list[dict[str, str]]) -> None:
    """Ages as published: some below 13, some above 18, everywhere."""
    for split in SPLITS:
        notes = [row["note"] for row in rows if row["kind"] == "speech" and row["split"] == split]
        ages = [int(found[1]) for found in (re.search(r"age (\d+)", note) for note in notes) if found]
        assert min(ages) < 13
        assert max(ages) > 18


def test_the_card_counts_what_is_there(rows: list[dict[str, str]]) -> None:
    """The figures in the docstring are the manifest's."""
    card = " ".join((sample.__doc__ or "").split())
    for split in ("train", "test"):
        speech = [row for row in rows if row["kind"] == "speech" and row["split"] == split]
        noise = {row["group"] for row in rows if row["kind"] == "noise" and row["split"] == split}
        minutes = sum(int(row["samples"]) for row in speech) / 16_000 / 60
        for figure in (f"{minutes:.1f} min, {len(speech)} utterances", f"{len(noise)} recordings"):
            assert figure in card
        assert f"{len({row['group'] for row in speech})} speakers" in card


def test_scanning_it_is_fast_and_loading_it_works() -> None:
    """No file is opened by a scan (well under a second); what is then loaded is checked."""
    start = time.perf_counter()
    manifest = scan("sample", "sample", "sample", sample_rate=16_000)
    assert time.perf_counter() - start < 2.0
    assert not manifest.quarantined
    for kind in KINDS:
        recording = next(iter(manifest.groups(kind, "test").values()))[0]
        assert load(recording, 16_000).shape == (recording.samples,)


def test_the_fast_scan_says_what_a_full_one_says() -> None:
    """Given as a CSV manifest, every file read and measured: the same recordings, none set aside."""
    where = str(SAMPLE / "manifest.csv")
    full = scan(where, where, where, sample_rate=16_000, bad_share=0.0)
    assert full == scan("sample", "sample", "sample", sample_rate=16_000)
