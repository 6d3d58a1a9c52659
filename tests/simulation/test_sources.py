"""Scanning sources: what is found, what is set aside, who is in which split."""

import csv
import hashlib
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation import audio, levels, storage
from simulation.corpora.sample import SAMPLE
from simulation.errors import BadSetting, ManifestMismatch, NotThere, TooManyQuarantined
from simulation.home import Home
from simulation.sources import SPLITS, Recording, SourceManifest, load, scan, splitting

RATE = 16_000


def flac(seed: int, seconds: float = 0.2, sample_rate: int = RATE, channels: int = 1) -> bytes:
    """Noise of its own for each seed."""
    shape = (int(seconds * sample_rate), channels)
    return audio.encode_flac(np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32), sample_rate)


def write(root: Path, files: dict[str, bytes]) -> str:
    """Files below a folder; its path as a user would type it."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return str(root)


def speakers(count: int, each: int = 2) -> dict[str, bytes]:
    """A folder of recordings by speaker."""
    return {f"s{who:02d}/{take}.flac": flac(100 * who + take) for who in range(count) for take in range(each)}


def scan_speech(where: str, **settings: float) -> SourceManifest:
    """Speech from `where`, the rest from the sample corpus; only the speech is kept."""
    manifest = scan(where, "sample", "sample", sample_rate=RATE, **settings)
    return SourceManifest(
        recordings=tuple(one for one in manifest.recordings if one.kind == "speech"), quarantined=manifest.quarantined
    )


def split_of(manifest: SourceManifest) -> dict[str, str]:
    """The split of each group."""
    return {one.group: one.split for one in manifest.recordings}


# ---- folders ----------------------------------------------------------------------------------------------------


def test_a_folder_is_grouped_by_its_first_folder(tmp_path: Path) -> None:
    """LibriSpeech's <speaker>/<chapter>/<file> and VCTK's <speaker>/<file> both give speakers."""
    files = {"a/ch1/1.flac": flac(1), "a/ch2/2.flac": flac(2), "b/1.flac": flac(3), "c/1.flac": flac(4)}
    manifest = scan_speech(write(tmp_path, files))
    assert {one.id: one.group for one in manifest.recordings} == {
        "speech/a/ch1/1.flac": "a",
        "speech/a/ch2/2.flac": "a",
        "speech/b/1.flac": "b",
        "speech/c/1.flac": "c",
    }


def test_a_flat_folder_makes_each_file_a_group(tmp_path: Path) -> None:
    """With nothing said about who speaks, no two files are taken for the same."""
    manifest = scan_speech(write(tmp_path, {f"{name}.flac": flac(i) for i, name in enumerate("abcd")}))
    assert set(split_of(manifest)) == {"a", "b", "c", "d"}


def test_folders_named_as_splits_name_the_split(tmp_path: Path) -> None:
    """train/<speaker>/…, valid/<speaker>/…, test/<speaker>/… are taken at their word."""
    files = {f"{split}/{split}_speaker/1.flac": flac(i) for i, split in enumerate(SPLITS)}
    assert split_of(scan_speech(write(tmp_path, files))) == {f"{split}_speaker": split for split in SPLITS}


def test_facts_of_each_file_are_measured(tmp_path: Path) -> None:
    """Samples, rate and checksum are those of the file, whatever its rate and channels."""
    data = flac(1, seconds=0.5, sample_rate=44_100, channels=2)
    where = write(tmp_path, {"x/1.flac": data, **speakers(3)})
    one = scan_speech(where).find("speech/x/1.flac")
    assert (one.samples, one.sample_rate, one.sha256) == (22_050, 44_100, hashlib.sha256(data).hexdigest())
    assert one.address == f"file://{tmp_path}/x/1.flac"


def test_other_files_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    """A README or a transcript is no recording and no fault; endings count in any case."""
    where = write(tmp_path, {"README.txt": b"hello", "a/1.txt": b"hello", "a/1.FLAC": flac(9), **speakers(3)})
    manifest = scan_speech(where)
    assert len(manifest.recordings) == 7
    assert not manifest.quarantined


@given(groups=st.sets(st.text("abcdef0123", min_size=1), min_size=3, max_size=30))
def test_no_split_is_empty_with_three_groups_or_more(groups: set[str]) -> None:
    """However the hashes fall; and every group has one split."""
    splits = splitting.by_hash(groups)
    assert set(splits) == groups
    assert set(splits.values()) == set(SPLITS)


@pytest.mark.parametrize("crowded", list(SPLITS))
@pytest.mark.parametrize("count", [3, 5])
def test_no_split_is_empty_even_if_all_hashes_fall_into_one(crowded: str, count: int) -> None:
    """Groups whose names would all go to one split are spread over three."""
    splits = splitting.by_hash(f"speaker-{i}" for i in range(500))
    unlucky = [group for group, split in splits.items() if split == crowded][:count]
    assert set(splitting.by_hash(unlucky).values()) == set(SPLITS)


def test_most_groups_are_for_training() -> None:
    """80, 10 and 10 of a hundred, roughly, since a hash decides."""
    splits = list(splitting.by_hash(f"speaker-{i}" for i in range(2000)).values())
    assert [round(splits.count(split) / 2000, 1) for split in SPLITS.values()] == [0.8, 0.1, 0.1]


def test_adding_speakers_moves_nobody() -> None:
    """A speaker of test never slips into train because the folder grew."""
    before = splitting.by_hash(f"speaker-{i}" for i in range(100))
    after = splitting.by_hash(f"speaker-{i}" for i in range(200))
    assert {group: after[group] for group in before} == before


# ---- what is set aside --------------------------------------------------------------------------------------------


def clipped() -> bytes:
    """A loud sine cut off at half its height."""
    sine = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE).astype(np.float32)
    return audio.encode_flac(sine.clip(-0.5, 0.5), RATE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "cannot be read as audio"),
        (audio.encode_flac(np.zeros(RATE, np.float32), RATE), "Silent"),
        (clipped(), "Clipped"),
        (flac(1, sample_rate=8000), "Its sample rate, 8000 Hz, is below the corpus's 16000 Hz"),
    ],
    ids=["text", "silent", "clipped", "8 kHz"],
)
def test_a_bad_file_is_set_aside_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    """It is counted and explained; the others are used."""
    where = write(tmp_path, {**speakers(12), "bad/1.wav": data})
    manifest = scan_speech(where)
    assert len(manifest.recordings) == 24
    assert [one.address for one in manifest.quarantined] == [f"file://{tmp_path}/bad/1.wav"]
    assert reason in manifest.quarantined[0].reason


def test_loud_but_whole_recordings_are_not_taken_for_clipped(tmp_path: Path) -> None:
    """A full-scale sine and peak-normalised noise touch full scale without flat tops."""
    sine = np.sin(2 * np.pi * 200.3 * np.arange(RATE) / RATE).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 1, RATE).astype(np.float32)
    files = {"a.flac": audio.encode_flac(sine, RATE), "b.flac": audio.encode_flac(noise / abs(noise).max(), RATE)}
    assert not scan_speech(write(tmp_path, {**files, "c.flac": flac(1)})).quarantined


def test_too_many_bad_files_stop_the_scan(tmp_path: Path) -> None:
    """More than the share allowed: the message counts them and shows the first reasons."""
    where = write(tmp_path, {**speakers(4), "x/1.wav": b"hello"})
    with pytest.raises(TooManyQuarantined, match=r"1 of 9 speech recordings of .* \(11%\).*at most 5%.*1\.wav: .*text"):
        scan_speech(where)
    assert len(scan_speech(where, bad_share=0.2).quarantined) == 1


def test_nothing_but_bad_files_stops_the_scan(tmp_path: Path) -> None:
    """Even where any share is allowed there must be something left."""
    with pytest.raises(TooManyQuarantined, match="1 of 1"):
        scan_speech(write(tmp_path, {"a.wav": b"hello"}), bad_share=1.0)


@pytest.mark.parametrize("kind", ["missing", "empty", "text only"])
def test_a_place_without_audio_says_what_was_found_and_expected(tmp_path: Path, kind: str) -> None:
    """A misspelt path, an empty folder and one without audio are told to the user, with what to give instead."""
    folder = tmp_path / "folder"
    if kind != "missing":
        folder.mkdir()
    if kind == "text only":
        (folder / "notes.txt").write_text("hello")
    found = "1 files, none of them audio" if kind == "text only" else "nothing"
    with pytest.raises(NotThere, match=rf"no speech at .*folder: found {found}.*Expected a folder"):
        scan_speech(str(folder))


# ---- CSV manifests ------------------------------------------------------------------------------------------------


def write_csv(path: Path, rows: list[dict[str, str]]) -> str:
    """A CSV manifest; its path as a user would type it."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return str(path)


def csv_rows(folder: Path, count: int = 6) -> list[dict[str, str]]:
    """Files a0, a1, … and rows that name their speakers and splits."""
    write(folder, {f"a{i}.flac": flac(i) for i in range(count)})
    split = list(SPLITS)
    return [{"path": f"a{i}.flac", "speaker": f"s{i % 3}", "split": split[i % 3]} for i in range(count)]


def test_a_csv_manifest_names_groups_splits_and_licences(tmp_path: Path) -> None:
    """Every column that is there is used."""
    rows = [{**row, "id": f"id{i}", "licence": "CC0", "source": "here"} for i, row in enumerate(csv_rows(tmp_path))]
    manifest = scan_speech(write_csv(tmp_path / "list.csv", rows))
    one = manifest.find("speech/id4")
    assert (one.group, one.split, one.licence, one.source) == ("s1", "valid", "CC0", "here")
    assert [member.id for member in manifest.groups("speech", "test")["s2"]] == ["speech/id2", "speech/id5"]


def test_paths_in_a_csv_may_be_absolute_and_groups_default_to_folders(tmp_path: Path) -> None:
    """Where a manifest says nothing of groups, the rules for folders hold, below what its files have in common."""
    write(tmp_path / "data", speakers(4))
    rows = [{"path": str(path)} for path in sorted((tmp_path / "data").rglob("*.flac"))]
    (tmp_path / "lists").mkdir()
    manifest = scan_speech(write_csv(tmp_path / "lists" / "all.csv", rows))
    assert manifest.find("speech/s01/0.flac").group == "s01"
    assert manifest.digest() == scan_speech(str(tmp_path / "data")).digest()


@pytest.mark.parametrize(("columns", "group"), [(["class"], "rain"), (["class", "recording"], "r1")])
def test_noise_is_grouped_by_recording_rather_than_by_class(tmp_path: Path, columns: list[str], group: str) -> None:
    """The class serves only where nothing finer is known."""
    csv_rows(tmp_path, 3)
    named = {"class": ["rain", "dog", "wind"], "recording": ["r1", "r2", "r3"]}
    rows = [{"path": f"a{i}.flac", **{column: named[column][i] for column in columns}} for i in range(3)]
    manifest = scan("sample", write_csv(tmp_path / "noise.csv", rows), "sample", sample_rate=RATE)
    assert manifest.find("noise/a0.flac").group == group


def test_rows_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    """One manifest may list speech, noise and RIRs together."""
    rows = [{**row, "kind": "noise" if i > 2 else "speech"} for i, row in enumerate(csv_rows(tmp_path))]
    where = write_csv(tmp_path / "all.csv", rows)
    assert len(scan_speech(where).recordings) == 3
    with pytest.raises(BadSetting, match="no rows of kind 'rir'"):
        scan("sample", "sample", where, sample_rate=RATE)


def test_a_row_whose_file_is_missing_is_set_aside(tmp_path: Path) -> None:
    """One dead link in a long list is counted, not fatal."""
    rows = [*csv_rows(tmp_path, 24), {"path": "gone.flac", "speaker": "s0", "split": "train"}]
    manifest = scan_speech(write_csv(tmp_path / "list.csv", rows))
    assert len(manifest.recordings) == 24
    assert manifest.quarantined[0].address.endswith("/gone.flac")


def test_a_stated_checksum_is_held_to(tmp_path: Path) -> None:
    """A file that is not what its manifest says is set aside."""
    rows = [{**row, "sha256": hashlib.sha256(flac(i)).hexdigest()} for i, row in enumerate(csv_rows(tmp_path, 24))]
    (tmp_path / "a7.flac").write_bytes(flac(99))
    manifest = scan_speech(write_csv(tmp_path / "list.csv", rows))
    assert [one.reason[:26] for one in manifest.quarantined] == ["The manifest states sha256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": None}, "has the columns speaker, split; expected a column 'path'"),
        ({"split": "dev"}, "Row 1 of .*list.csv names split 'dev'; expected train, valid or test"),
        ({"path": ""}, "Row 1 of .*list.csv has no path"),
        ({"path": "a1.flac"}, "has 'speech/a1.flac' twice"),
    ],
    ids=["no column", "unknown split", "empty path", "repeated"],
)
def test_a_faulty_csv_says_what_is_wrong(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    """The message names the file, the row and what was expected."""
    rows = csv_rows(tmp_path)
    rows[0].update({key: value for key, value in change.items() if value is not None})
    for key in [key for key, value in change.items() if value is None]:
        rows = [{name: cell for name, cell in row.items() if name != key} for row in rows]
    with pytest.raises(BadSetting, match=message):
        scan_speech(write_csv(tmp_path / "list.csv", rows))


def test_a_csv_that_is_not_there_is_an_answer(tmp_path: Path) -> None:
    """The address is in the message."""
    with pytest.raises(NotThere, match=r"list\.csv"):
        scan_speech(str(tmp_path / "list.csv"))


def test_a_csv_that_is_not_text_is_an_answer(tmp_path: Path) -> None:
    """A spreadsheet renamed to .csv is told so."""
    (tmp_path / "list.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(BadSetting, match="not a CSV file in UTF-8"):
        scan_speech(str(tmp_path / "list.csv"))


def test_a_group_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    """A speaker must not be trained on and tested on."""
    rows = csv_rows(tmp_path)
    rows[4]["speaker"] = "s0"
    with pytest.raises(BadSetting, match=r"the speech group 's0' stands in train .*valid"):
        scan_speech(write_csv(tmp_path / "list.csv", rows))


def test_a_copy_in_another_split_is_set_aside(tmp_path: Path) -> None:
    """The very same file under another speaker's name would leak as well; one in the same split does no harm."""
    rows = csv_rows(tmp_path, 30)
    shutil.copy(tmp_path / "a0.flac", tmp_path / "a5.flac")
    shutil.copy(tmp_path / "a0.flac", tmp_path / "a3.flac")
    manifest = scan_speech(write_csv(tmp_path / "list.csv", rows))
    assert [one.reason for one in manifest.quarantined] == ["In test, and the same bytes as 'speech/a0.flac' in train."]
    assert len(manifest.recordings) == 29


# ---- other sample rates, other manifests --------------------------------------------------------------------------


def test_kinds_that_may_be_narrow_are_used_below_the_rate(tmp_path: Path) -> None:
    """Where a scenario asks for it, and for that kind only, a recording below the corpus's rate is a source."""
    where = write(tmp_path, {**speakers(4), "low/1.flac": flac(9, sample_rate=8000)})
    manifest = scan(where, "sample", "sample", sample_rate=RATE, narrow=("speech",))
    assert manifest.find("speech/low/1.flac").sample_rate == 8000
    with pytest.raises(TooManyQuarantined, match="8000 Hz, is below the corpus's 16000 Hz"):
        scan(where, "sample", "sample", sample_rate=RATE, narrow=("noise",))


def test_a_parquet_manifest_says_what_a_csv_says(tmp_path: Path) -> None:
    """The same rows, blank cells included, give the same manifest."""
    rows = [{**row, "licence": "CC0" if i else None} for i, row in enumerate(csv_rows(tmp_path))]
    pandas.DataFrame(rows).to_parquet(tmp_path / "list.parquet")
    table = write_csv(tmp_path / "list.csv", [{key: cell or "" for key, cell in row.items()} for row in rows])
    assert scan_speech(str(tmp_path / "list.parquet")) == scan_speech(table)
    (tmp_path / "bad.parquet").write_bytes(b"hello")
    with pytest.raises(BadSetting, match=r"bad\.parquet is not a Parquet file"):
        scan_speech(str(tmp_path / "bad.parquet"))


# ---- what was measured --------------------------------------------------------------------------------------------


def old(folder: Path) -> str:
    """The folder, as if all its files had been written a minute ago."""
    for path in folder.rglob("*.*"):
        os.utime(path, (time.time() - 60, time.time() - 60))
    return str(folder)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, home: Home) -> list[str]:
    """The names of the source files that are read, in a home of this test alone."""
    seen: list[str] = []
    read = storage.read

    def noted(address: str) -> bytes:
        if "/sample/" not in address:
            seen.append(address.rpartition("/")[2])
        return read(address)

    monkeypatch.setattr(storage, "read", noted)
    return seen


def test_an_unchanged_folder_is_not_read_twice(tmp_path: Path, reads: list[str]) -> None:
    """The second scan is a listing and says the same; a changed file, and only that, is read again."""
    write(tmp_path / "speech", {**speakers(12), "bad/1.wav": b"hello"})
    first = scan_speech(old(tmp_path / "speech"))
    assert len(reads) == 25
    reads.clear()
    assert scan_speech(str(tmp_path / "speech")) == first
    assert reads == []
    (tmp_path / "speech" / "s03" / "1.flac").write_bytes(flac(77, seconds=0.3))
    changed = scan_speech(str(tmp_path / "speech"))
    assert reads == ["1.flac"]
    assert changed.find("speech/s03/1.flac").sha256 == hashlib.sha256(flac(77, seconds=0.3)).hexdigest()


def test_a_manifest_is_not_read_twice_either(tmp_path: Path, reads: list[str]) -> None:
    """Size and time of the files that a CSV names are asked for, their bytes are not."""
    table = write_csv(tmp_path / "list.csv", csv_rows(tmp_path / "."))
    old(tmp_path)
    first = scan_speech(table)
    reads.clear()
    assert scan_speech(table) == first
    assert reads == ["list.csv"]


def test_what_was_just_written_is_not_believed(tmp_path: Path, reads: list[str]) -> None:
    """A file may change twice within one tick of its clock, so a fresh one is read again."""
    write(tmp_path / "speech", speakers(3, each=1))
    scan_speech(str(tmp_path / "speech"))
    reads.clear()
    scan_speech(str(tmp_path / "speech"))
    assert len(reads) == 3


def test_sources_are_scanned_where_the_home_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembering is a convenience: without it everything is read."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNMUFFLE_HOME", str(tmp_path / "file" / "home"))
    assert len(scan_speech(write(tmp_path / "speech", speakers(3))).recordings) == 6


def test_each_recording_says_what_was_measured_of_it(tmp_path: Path) -> None:
    """Level, bandwidth and estimated SNR of speech in a steady noise; the digest does not see them."""
    speech = audio.mono(audio.read((SAMPLE / "speech/lj_LJ001-0015.flac").read_bytes(), "x")[0])
    noise = np.random.default_rng(0).normal(0, 1, len(speech))
    noisy = (speech + noise * levels.snr_gain(speech, noise, 15.0, RATE)).astype(np.float32)
    files = {"s/a.flac": audio.encode_flac(noisy, RATE), "t/b.flac": flac(1), "u/c.flac": flac(2)}
    manifest = scan_speech(write(tmp_path, files))
    probe = manifest.find("speech/s/a.flac").probe
    assert probe is not None and probe.snr_db is not None
    assert probe.snr_db == pytest.approx(15.0, abs=2.0)
    assert probe.level_db == pytest.approx(levels.active_level_db(noisy, RATE), abs=1e-3)
    assert probe.bandwidth_hz > 7900
    bare = tuple(one.model_copy(update={"probe": None}) for one in manifest.recordings)
    assert SourceManifest(recordings=bare).digest() == manifest.digest()


# ---- the manifest -------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_recordings_not_of_their_place(tmp_path: Path) -> None:
    """The same files elsewhere, with other notes beside them, are the same sources; other sound is not."""
    here = scan_speech(write(tmp_path / "here", speakers(4)))
    there = scan_speech(write(tmp_path / "there", {**speakers(4), "notes.txt": b"x"}))
    changed = scan_speech(write(tmp_path / "changed", {**speakers(4), "s01/0.flac": flac(77)}))
    assert here.digest() == there.digest()
    assert here.recordings[0].address != there.recordings[0].address
    assert here.digest() != changed.digest()


@pytest.mark.parametrize("field", ["group", "split", "sha256", "id", "samples"])
def test_the_digest_sees_every_fact(field: str) -> None:
    """Who, which split, which bytes: a change in any is another identity."""
    one = Recording(
        id="speech/a",
        kind="speech",
        address="file:///a",
        group="a",
        split="train",
        samples=1,
        sample_rate=1,
        sha256="0",
    )
    other = one.model_copy(update={field: 2 if field == "samples" else "test"})
    assert SourceManifest(recordings=(one,)).digest() != SourceManifest(recordings=(other,)).digest()


def test_groups_come_in_order_and_unknown_ids_are_an_answer(tmp_path: Path) -> None:
    """Order is by name, so draws do not follow the order of a listing."""
    manifest = scan_speech(write(tmp_path, speakers(20)))
    groups = manifest.groups("speech", "train")
    assert list(groups) == sorted(groups)
    assert all([one.id for one in members] == sorted(one.id for one in members) for members in groups.values())
    assert manifest.groups("noise", "train") == {}
    with pytest.raises(BadSetting, match="There is no recording 'speech/nobody' among the 40 sources"):
        manifest.find("speech/nobody")


def test_a_manifest_survives_json(tmp_path: Path) -> None:
    """Written into a store and read again it is the same, digest included."""
    manifest = scan_speech(write(tmp_path, speakers(3)))
    again = SourceManifest.parse(manifest.canonical(), "sources.json")
    assert again == manifest
    assert again.digest() == manifest.digest()


# ---- loading ------------------------------------------------------------------------------------------------------


def test_a_recording_is_loaded_mono_at_the_rate_of_the_corpus(tmp_path: Path) -> None:
    """A stereo 44.1 kHz file becomes [samples] at 16 kHz, its first channel."""
    tone = np.sin(2 * np.pi * 500 * np.arange(44_100) / 44_100)
    stereo = np.stack([0.3 * tone, 0.1 * np.sign(tone)], axis=1).astype(np.float32)
    where = write(tmp_path, {"x/1.flac": audio.encode_flac(stereo, 44_100, 24), **speakers(3)})
    samples = load(scan_speech(where).find("speech/x/1.flac"), RATE)
    expected = 0.3 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    assert (samples.shape, samples.dtype) == ((RATE,), np.float32)
    assert np.abs(samples - expected)[400:-400].max() < 1e-3


def test_a_file_changed_since_the_scan_is_refused(tmp_path: Path) -> None:
    """Rows would not be what their manifest says; the message says which file and what to do."""
    manifest = scan_speech(write(tmp_path, speakers(3)))
    (tmp_path / "s00" / "0.flac").write_bytes(flac(500))
    with pytest.raises(ManifestMismatch, match=r"s00/0\.flac is not the file that was scanned.*scan again"):
        load(manifest.find("speech/s00/0.flac"), RATE)


# ---- buckets ------------------------------------------------------------------------------------------------------


def test_a_bucket_prefix_and_its_csv_are_scanned_as_a_folder_is(tmp_path: Path, s3_store: str) -> None:
    """The same files in a bucket have the same ids, splits and digest, and load to the same samples."""
    local = scan_speech(write(tmp_path, speakers(4, each=1)))
    storage.upload(tmp_path, f"{s3_store}/speech")
    remote = scan_speech(f"{s3_store}/speech/")
    assert remote.digest() == local.digest()
    assert remote.recordings[0].address == f"{s3_store}/speech/s00/0.flac"
    assert np.array_equal(load(remote.recordings[0], RATE), load(local.recordings[0], RATE))
    storage.replace(f"{s3_store}/list.csv", b"path\n" + b"".join(b"speech/s%02d/0.flac\n" % i for i in range(4)))
    assert len(scan_speech(f"{s3_store}/list.csv", bad_share=0).recordings) == 4
    with pytest.raises(NotThere, match=r"no speech at s3://.*/nothing"):
        scan_speech(f"{s3_store}/nothing")
