"""Plans that are committed alone, and what is read from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulation import audio, storage
from simulation.build import Built
from simulation.corpus import Corpus, open_splits, verify
from simulation.degradations import AddNoise, Reverberate
from simulation.errors import BadAudio, CorpusDamaged, ManifestMismatch, NotThere, TooManyQuarantined
from simulation.scenario import Case, Scenario
from simulation.virtual import (
    Planned,
    VirtualCorpus,
    commit_plan,
    corpus_digest,
    open_corpora,
    open_corpus,
    plan_below,
    verify_plan,
)

Tiny = Callable[..., Scenario]
BuildTiny = Callable[..., Built]


@pytest.fixture
def plan_tiny(material: object, tiny_scenario: Tiny) -> Callable[..., Planned]:
    """`plan_tiny(store, ...)`: the tiny scenario's plan over files."""

    def planned(store: object, **changes: object) -> Planned:
        places = {name: storage.normal(place) for name, place in vars(material).items()}
        return commit_plan(tiny_scenario(**places | changes), str(store))

    return planned


def test_a_plan_reads_as_the_rendered_corpus(
    tmp_path: Path, plan_tiny: Callable[..., Planned], build_tiny: BuildTiny, without_ray: None
) -> None:
    """Same address, same plan digest, and in every split the same rows, measured values and samples."""
    plan, built = plan_tiny(tmp_path / "a"), build_tiny(str(tmp_path / "b"))
    assert plan.address.rpartition("/")[2] == built.address.rpartition("/")[2]
    rendered, virtual = open_splits(built.address, built.digest), open_corpora(plan.address, plan.digest)
    for split, corpus in virtual.items():
        assert isinstance(corpus, VirtualCorpus)
        assert (corpus.rows, len(corpus)) == (rendered[split].rows, len(rendered[split]))
        for index, (one, other) in enumerate(zip(corpus.entries, rendered[split].entries, strict=True)):
            assert (one.row, one.measured) == (other.row, other.measured)
            for side in ("clean", "noisy"):
                samples = [getattr(each.read(index), side) for each in (corpus, rendered[split])]
                assert np.array_equal(*samples)


def test_nothing_but_the_plan_is_committed_and_only_once(tmp_path: Path, plan_tiny: Callable[..., Planned]) -> None:
    """One object; the same plan again leaves it as it was, another size lies beside it."""
    plan = plan_tiny(tmp_path)
    before = storage.listing(plan.address)
    assert len(before) == 1 and plan_tiny(tmp_path) == plan
    assert storage.listing(plan.address) == before
    larger = plan_tiny(tmp_path, size={"train_hours": 0.01, "valid_rows": 4, "test_rows": 4})
    assert (larger.address, larger.plan_digest) == (plan.address, plan.plan_digest)
    assert larger.digest != plan.digest and larger.rows["train"] > plan.rows["train"]
    assert len(storage.listing(plan.address)) == 2


def test_a_digest_says_which_plan_and_the_largest_is_meant_without(
    tmp_path: Path, plan_tiny: Callable[..., Planned]
) -> None:
    """Roots and splits open by digest; an unknown digest is answered."""
    small = plan_tiny(tmp_path)
    large = plan_tiny(tmp_path, size={"train_hours": 0.01, "valid_rows": 4, "test_rows": 4})
    for plan, asked in ((small, small.digest), (large, large.digest), (large, None)):
        assert corpus_digest(plan.address, asked) == plan.digest
        split = open_corpora(plan.address, asked)["train"]
        assert split.rows == plan.rows["train"]
        assert open_corpus(split.address, split.digest).rows == split.rows  # type: ignore[union-attr]
    for look in (
        lambda: corpus_digest(small.address, "0" * 64),
        lambda: open_corpus(f"{small.address}/train", "0" * 64),
    ):
        with pytest.raises(NotThere, match="unmuffle simulate"):
            look()


def test_a_rendered_corpus_is_what_an_address_means_where_both_are(
    tmp_path: Path, plan_tiny: Callable[..., Planned], build_tiny: BuildTiny, without_ray: None
) -> None:
    """Without a digest the rendered one opens, with its digest either."""
    plan, built = plan_tiny(tmp_path), build_tiny(str(tmp_path))
    assert plan.address == built.address
    assert corpus_digest(plan.address) == built.digest
    assert isinstance(open_corpora(plan.address)["train"], Corpus)
    assert isinstance(open_corpus(f"{plan.address}/train"), Corpus)
    assert isinstance(open_corpora(plan.address, plan.digest)["train"], VirtualCorpus)


def test_sources_that_moved_are_planned_again_at_the_same_digest(
    tmp_path: Path, material: object, plan_tiny: Callable[..., Planned]
) -> None:
    """The address of the recordings is circumstance: the newer one stands in the plan."""
    plan = plan_tiny(tmp_path)
    moved = storage.local_copy(storage.normal(material.speech), tmp_path / "elsewhere")  # type: ignore[attr-defined]
    assert plan_tiny(tmp_path, speech=storage.normal(str(moved))) == plan
    sources = open_corpora(plan.address)["train"].record.sources  # type: ignore[union-attr]
    assert all("/elsewhere/" in one.address for one in sources.recordings if one.kind == "speech")


def test_what_needs_audio_says_that_there_is_a_plan_alone(tmp_path: Path, plan_tiny: Callable[..., Planned]) -> None:
    """Opened by the rendered corpus's door, or checked as one, it answers with what to type."""
    plan = plan_tiny(tmp_path)
    for look in (Corpus.open, verify):
        with pytest.raises(NotThere, match="without --virtual"):
            look(plan.address)


def test_verifying_a_plan_names_every_source_that_changed(
    tmp_path: Path, material: object, plan_tiny: Callable[..., Planned]
) -> None:
    """One file changed, one gone: two lines; none before."""
    copy = storage.local_copy(storage.normal(material.speech), tmp_path / "speech")  # type: ignore[attr-defined]
    plan = plan_tiny(tmp_path / "store", speech=storage.normal(str(copy)))
    record = plan_below(plan.address)
    assert record is not None and verify_plan(record) == []
    first, second = sorted(copy.rglob("*.flac"))[:2]
    first.write_bytes(b"another")
    second.unlink()
    problems = verify_plan(record)
    assert [str(first) in problems[0], str(second) in problems[1]] == [True, True] and len(problems) == 2


def test_shipped_recordings_are_named_without_their_folder(tmp_path: Path, tiny_scenario: Tiny) -> None:
    """A plan over the sample corpus holds no path of the machine that made it, and still reads."""
    plan = commit_plan(tiny_scenario(speech="sample", noise="sample", rirs="sample"), str(tmp_path))
    (stored,) = storage.listing(plan.address)
    assert b"file:" not in storage.read(stored.address)
    assert open_corpora(plan.address)["test"].row(0)[0] == "test-00000000"


def test_a_row_that_cannot_be_rendered_is_quarantined_as_in_a_shard(
    tmp_path: Path, plan_tiny: Callable[..., Planned], build_tiny: BuildTiny, tiny_scenario: Tiny, without_ray: None
) -> None:
    """Same rows, same reasons; reading such a row by number is bad audio in both."""
    for number, split in enumerate(("train", "valid", "test")):
        half = np.concatenate([np.zeros(16_000), np.full(9, 0.1 + 0.1 * number)]).astype(np.float32)
        place = tmp_path / "noise" / split / split / "half.flac"
        place.parent.mkdir(parents=True)
        place.write_bytes(audio.encode_flac(half, 8000))
    still = Case(name="still", degradations=(AddNoise(offset=0.0),))
    scenario = tiny_scenario(
        cases=(still, Case(name="reverb", share=39, degradations=(Reverberate(),))), rows_per_shard=40
    )
    noise = storage.normal(str(tmp_path / "noise"))
    plan = plan_tiny(tmp_path / "a", **scenario.model_dump(include={"cases", "rows_per_shard"}) | {"noise": noise})
    built = build_tiny(str(tmp_path / "b"), scenario, noise=noise)
    rendered, virtual = open_splits(built.address)["train"], open_corpora(plan.address)["train"]
    assert isinstance(virtual, VirtualCorpus)
    reasons = [row for shard in rendered.shards for row in shard.quarantined]
    assert virtual.quarantined == reasons and len(reasons) == 1
    bad = int(reasons[0].id.rpartition("-")[2])
    for corpus in (rendered, virtual):
        with pytest.raises(BadAudio, match="is silent"):
            corpus.row(bad)
        assert corpus.row(bad + 1)[0] == f"train-{bad + 1:08d}"


def test_too_many_bad_rows_are_refused(
    tmp_path: Path, plan_tiny: Callable[..., Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the share that a rendered corpus may have, reading a whole split stops with the reason."""

    def broken(*_: object) -> None:
        raise BadAudio("speech/x is gone")

    plan = plan_tiny(tmp_path)
    monkeypatch.setattr("simulation.virtual.render", broken)
    with pytest.raises(TooManyQuarantined, match=r"5% of the \d+ rows of tiny@.*speech/x is gone"):
        _ = open_corpora(plan.address)["train"].entries


def test_a_damaged_or_foreign_plan_is_answered(tmp_path: Path, plan_tiny: Callable[..., Planned]) -> None:
    """Bytes that are no plan, a plan under another's name, changed sources, another render version."""
    plan = plan_tiny(tmp_path)
    (stored,) = storage.listing(plan.address)
    data = storage.read(stored.address)
    for wrong, message in ((data[:-9], "not a valid VirtualRecord"), (data.replace(b'"test":4', b'"test":8'), "name")):
        storage.replace(stored.address, wrong)
        with pytest.raises(CorpusDamaged, match=message):
            open_corpora(plan.address, plan.digest)
    storage.replace(stored.address, data)
    corpus = open_corpora(plan.address)["train"]
    assert isinstance(corpus, VirtualCorpus)
    sources = corpus.record.sources
    fewer = sources.model_copy(update={"recordings": sources.recordings[:-1]})
    with pytest.raises(CorpusDamaged, match="is written there"):
        replace(corpus, record=corpus.record.model_copy(update={"sources": fewer})).row(0)
    with pytest.raises(ManifestMismatch, match="render version 99"):
        replace(corpus, record=corpus.record.model_copy(update={"render_version": 99})).row(0)
