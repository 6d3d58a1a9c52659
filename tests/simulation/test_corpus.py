import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from simulation import audio, storage
from simulation import render as render_module
from simulation.build import Built
from simulation.corpus import Corpus, open_splits, replay, root_digest, root_splits, split_addresses, verify
from simulation.draw import Plan
from simulation.errors import (
    CorpusDamaged,
    CorpusIncomplete,
    ManifestMismatch,
    NotReproducible,
    NotThere,
    StoreUnreachable,
    UnknownName,
)
from simulation.render import Library, render
from simulation.scenario import Scenario, Size
from simulation.sources import scan

BuildTiny = Callable[..., Built]

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture
def built(tmp_path: Path, build_tiny: BuildTiny) -> Built:
    """The tiny corpus, finished."""
    return build_tiny(str(tmp_path / "store"))


def _path(address: str) -> Path:
    return Path(address.removeprefix("file://"))


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_a_corpus_reads_what_was_rendered(
    built: Built, material: object, tiny_scenario: Callable[..., Scenario]
) -> None:
    """Every mixture, by ranged reads, is the rendered one bit for bit; entries are the rows in order."""
    sources = scan(material.speech, material.noise, material.rirs, sample_rate=8000)  # type: ignore[attr-defined]
    plan = Plan(tiny_scenario(), sources, 7)
    library = Library(sources, plan.scenario, 7)
    for split, corpus in open_splits(built.address).items():
        assert (corpus.split, corpus.sample_rate, corpus.name) == (split, 8000, f"{plan.name}/{split}")
        assert [entry.row.index for entry in corpus.entries] == list(range(len(corpus)))
        for index, entry in enumerate(corpus.entries):
            mixture, stored = render(entry.row, plan.scenario, library)[0], corpus.read(index)
            assert np.array_equal(stored.clean, mixture.clean) and np.array_equal(stored.noisy, mixture.noisy)


def test_facts_add_up(built: Built) -> None:
    """Rows, hours and digests of the answer are those of the corpus that opens."""
    for split, corpus in open_splits(built.address).items():
        told = built.splits[split]  # type: ignore[index]
        assert (told.address, told.digest, told.rows) == (corpus.address, corpus.digest, len(corpus))
        samples = sum(len(corpus.read(index).clean) for index in range(len(corpus)))
        assert told.hours == corpus.hours == pytest.approx(samples / 8000 / 3600)
    assert root_digest(built.address) == built.digest


def test_a_corpus_travels_to_workers(built: Built) -> None:
    """Pickled, it is small and reads the same."""
    corpus = Corpus.open(built.splits["test"].address)
    data = pickle.dumps(corpus)
    assert len(data) < 100_000
    assert np.array_equal(pickle.loads(data).read(2).noisy, corpus.read(2).noisy)


def test_a_digest_opens_the_prefix_it_names(
    tmp_path: Path, built: Built, build_tiny: BuildTiny, tiny_scenario: Callable[..., Scenario]
) -> None:
    """After a corpus has grown, the smaller one still opens under its digest, alone and as part of the whole."""
    size = Size(train_hours=12.0 / 3600, valid_rows=8, test_rows=4)
    larger = build_tiny(str(tmp_path / "store"), tiny_scenario(size=size))
    address = built.splits["train"].address
    assert larger.address == built.address and larger.digest != built.digest
    small, whole = Corpus.open(address, built.splits["train"].digest), Corpus.open(address)
    assert len(small) == built.splits["train"].rows < len(whole) == larger.splits["train"].rows
    assert small.entries == whole.entries[: len(small)]
    assert Corpus.open(address, whole.digest).digest == whole.digest
    for one in (built, larger):
        splits = open_splits(one.address, one.digest)
        assert {split: corpus.digest for split, corpus in splits.items()} == {
            split: told.digest for split, told in one.splits.items()
        }


def test_a_larger_corpus_opens_though_a_smaller_one_stands_before_it(
    tmp_path: Path, built: Built, build_tiny: BuildTiny, tiny_scenario: Callable[..., Scenario]
) -> None:
    """As a writer of the smaller one leaves it when it is killed before its last look; the next build mends it."""
    pointer = _path(built.splits["train"].address) / "corpus.json"
    small, size = pointer.read_bytes(), Size(train_hours=12.0 / 3600, valid_rows=4, test_rows=4)
    larger = build_tiny(str(tmp_path / "store"), tiny_scenario(size=size))
    pointer.write_bytes(small)
    assert len(open_splits(larger.address, larger.digest)["train"]) == larger.splits["train"].rows
    build_tiny(str(tmp_path / "store"))
    assert pointer.read_bytes() != small


def test_a_part_that_was_changed_on_its_way_is_read_again(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of objects come without checksums; audio that does not decode is asked for once more, then answered."""
    corpus, read_range, reads = Corpus.open(built.splits["test"].address), storage.read_range, [0]
    whole = corpus.read(1)

    def changed(address: str, start: int, size: int, times: int) -> bytes:
        reads[0] += 1
        data = bytearray(read_range(address, start, size))
        data[size // 4] ^= reads[0] <= times
        return bytes(data)

    monkeypatch.setattr(storage, "read_range", partial(changed, times=1))
    assert np.array_equal(corpus.read(1).noisy, whole.noisy) and reads == [2]
    monkeypatch.setattr(storage, "read_range", partial(changed, times=9))
    with pytest.raises(CorpusDamaged, match="test-00000001"):
        corpus.read(1)
    assert reads == [4]


def test_a_digest_that_is_not_there_is_a_mismatch(built: Built) -> None:
    """Of a split and of a whole corpus."""
    with pytest.raises(ManifestMismatch, match="No prefix"):
        Corpus.open(built.splits["train"].address, "0" * 64)
    with pytest.raises(ManifestMismatch, match="No corpus of the digest"):
        root_splits(built.address, "0" * 64)


# ---- what is not there, or not whole ---------------------------------------------------------------------------------


def test_an_address_without_a_corpus_says_what_to_type(tmp_path: Path) -> None:
    """Opening and verifying both answer with the command that builds one."""
    for look in (Corpus.open, verify, root_splits, open_splits):
        with pytest.raises(NotThere, match="unmuffle simulate"):
            look(str(tmp_path / "nothing"))


def test_a_store_that_does_not_answer_is_no_damage(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading tells refusals and outages apart from bytes that are wrong."""
    corpus = Corpus.open(built.splits["test"].address)

    def refuse(*arguments: object) -> bytes:
        raise StoreUnreachable("no answer")

    monkeypatch.setattr(storage, "read_range", refuse)
    with pytest.raises(StoreUnreachable):
        corpus.read(0)


def test_a_root_is_answered_with_its_splits(built: Built) -> None:
    """Whoever opens the whole corpus as a split is told the address to use."""
    with pytest.raises(NotThere, match=f"{built.address}/test"):
        Corpus.open(built.address)


def test_an_unfinished_corpus_is_incomplete(built: Built) -> None:
    """Shards without corpus.json do not make a corpus."""
    address = built.splits["train"].address
    (_path(address) / "corpus.json").unlink()
    for look in (Corpus.open, verify):
        with pytest.raises(CorpusIncomplete, match="never finished"):
            look(address)
    assert len(problems := verify(built.address)) == 1 and "never finished" in problems[0]


def test_a_missing_shard_is_incomplete(built: Built) -> None:
    """corpus.json lists more than is there."""
    address = built.splits["train"].address
    (_path(address) / "shard-000001.json").unlink()
    with pytest.raises(CorpusIncomplete, match="shard-000001"):
        Corpus.open(address)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("corpus.json", (b'"sha256"', b'"sha265"')),
        ("shard-000000.json", (b'"sha256"', b'"sha265"')),
        ("shard-000000.json", (b'"gain":1.0', b'"gain":0.5')),
    ],
)
def test_changed_records_are_damaged(built: Built, name: str, change: tuple[bytes, bytes]) -> None:
    """Opening checks every record against its digest, though it still be a valid one, or finds that it is none."""
    address = built.splits["train"].address
    path = _path(address) / name
    path.write_bytes(path.read_bytes().replace(*change, 1))
    with pytest.raises(CorpusDamaged, match=name):
        Corpus.open(address)


def test_damaged_audio_is_found_on_reading(built: Built) -> None:
    """A truncated or missing tar is CorpusDamaged, with the way to find all damage."""
    corpus = Corpus.open(built.splits["train"].address)
    tar = _path(corpus.address) / corpus.shards[0].tar
    tar.write_bytes(tar.read_bytes()[:2000])
    with pytest.raises(CorpusDamaged, match="corpus verify"):
        corpus.read(3)
    tar.unlink()
    with pytest.raises(CorpusDamaged, match="missing"):
        corpus.read(0)


# ---- verify ----------------------------------------------------------------------------------------------------------


def test_verify_finds_nothing_in_a_whole_corpus(built: Built) -> None:
    """For the root and for each split."""
    assert verify(built.address) == []
    assert all(verify(address) == [] for address in split_addresses(built.address).values())


def test_verify_names_every_damaged_object(built: Built) -> None:
    """One flipped bit anywhere, a truncated tar, a missing tar, a missing commit: each is named, all at once."""
    train = Corpus.open(built.splits["train"].address)
    folder, tars = _path(train.address), [shard.tar for shard in train.shards]
    _flip(folder / tars[0], 5000)
    (folder / "shard-000001.json").unlink()
    test = Corpus.open(built.splits["test"].address)
    (_path(test.address) / test.shards[0].tar).unlink()
    valid = Corpus.open(built.splits["valid"].address)
    tar = _path(valid.address) / valid.shards[0].tar
    tar.write_bytes(tar.read_bytes()[:-512])
    problems = verify(built.address)
    named = [tars[0], "shard-000001.json", valid.shards[0].tar, test.shards[0].tar]
    assert len(problems) == len(named)
    assert all(name in problem for name, problem in zip(named, problems, strict=True))


def test_no_flipped_bit_escapes(built: Built) -> None:
    """Every object is covered: header, audio and padding of a tar, commit objects, the records of split and whole."""
    root = _path(built.address)
    for path in [*sorted((root / "test").iterdir()), *root.glob("*.json")]:
        whole = path.read_bytes()
        for at in np.linspace(0, len(whole) - 1, 12).astype(int):
            _flip(path, at)
            assert verify(built.address), f"bit flipped in {path.name} at {at}"
            path.write_bytes(whole)
    assert verify(built.address) == []


def test_what_verify_names_can_be_deleted_and_built_again(tmp_path: Path, built: Built, build_tiny: BuildTiny) -> None:
    """The advice of the message works: delete what is damaged, simulate again, and the corpus is whole and the same."""
    corpus = Corpus.open(built.splits["train"].address)
    tar = _path(corpus.address) / corpus.shards[1].tar
    _flip(tar, 3000)
    tar.unlink()
    again = build_tiny(str(tmp_path / "store"))
    assert (again.digest, again.rendered) == (built.digest, 1)
    assert verify(built.address) == []


# ---- replay ----------------------------------------------------------------------------------------------------------


def test_any_row_replays_bit_equal(built: Built) -> None:
    """Found by the root's address or its split's, rendered alone, equal to what the shard holds."""
    for split, corpus in open_splits(built.address).items():
        for position in (0, len(corpus) - 1):
            row_id = corpus.entries[position].row.id
            for address in (built.address, built.splits[split].address):  # type: ignore[index]
                mixture = replay(address, row_id)
                assert np.array_equal(mixture.noisy, corpus.read(position).noisy)
                assert np.array_equal(mixture.clean, corpus.read(position).clean)


def test_replay_finds_moved_sources_when_told(tmp_path: Path, built: Built, material: object) -> None:
    """The same recordings elsewhere are the same sources; without being told, the old place is missing."""
    speech = tmp_path / "moved"
    shutil.copytree(material.speech, speech)  # type: ignore[attr-defined]
    replay(built.address, "train-00000001", speech=str(speech))


def test_replay_refuses_other_sources(tmp_path: Path, built: Built, material: object) -> None:
    """One changed recording is another source corpus, and the message says whose digest is which."""
    speech = tmp_path / "changed"
    shutil.copytree(material.speech, speech)  # type: ignore[attr-defined]
    quiet = np.full(4000, 0.1, np.float32) * np.sin(np.arange(4000)).astype(np.float32)
    next(speech.rglob("*.flac")).write_bytes(audio.encode_flac(quiet, 8000))
    with pytest.raises(ManifestMismatch, match="digest"):
        replay(built.address, "train-00000001", speech=str(speech))


def test_replay_of_an_unknown_row_lists_the_range(built: Built) -> None:
    """The first and the last id are named."""
    with pytest.raises(UnknownName, match="test-00000000 to test-00000003"):
        replay(built.address, "test-00000099")


def test_replay_of_what_is_no_row_says_what_one_looks_like(built: Built) -> None:
    """At the root there is no split to look into."""
    with pytest.raises(UnknownName, match=r"named '12'.*test-00000000, train-00000000"):
        replay(built.address, "12")


def test_replay_notices_that_rendering_has_changed(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sample is NotReproducible; another render version is told before anything is rendered."""
    monkeypatch.setattr(render_module, "CEILING", 0.1)
    with pytest.raises(NotReproducible, match="train-00000000"):
        replay(built.address, "train-00000000")
    monkeypatch.setattr("simulation.corpus.RENDER_VERSION", 2)
    with pytest.raises(ManifestMismatch, match="render version 1"):
        replay(built.address, "train-00000000")
