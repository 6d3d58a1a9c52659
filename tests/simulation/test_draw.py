from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import chance as chance_module
from simulation import draw as draw_module
from simulation.degradations import AddNoise, BandLimit
from simulation.draw import Plan, draw, shard_count, shard_rows
from simulation.errors import BadSetting, UnknownName
from simulation.manifest import Row
from simulation.render import RENDER_VERSION
from simulation.scenario import Case, Scenario, Size
from simulation.scenarios import SCENARIOS, scenario
from simulation.schema import Range
from simulation.sources import SPLITS, SourceManifest, scan

Tiny = Callable[..., Scenario]
Manifest = Callable[..., SourceManifest]


@pytest.fixture
def plan(tiny_scenario: Tiny, manifest_in_memory: Manifest) -> Plan:
    """The tiny scenario over recordings in memory."""
    return Plan(tiny_scenario(), manifest_in_memory(), 7)


def test_a_row_depends_on_its_number_alone(plan: Plan) -> None:
    """Drawn in any order, by any plan object, a row is the same; and it survives JSON."""
    forwards = [draw(plan, "train", index) for index in range(40)]
    again = Plan(plan.scenario, plan.sources, plan.seed)
    backwards = [draw(again, "train", index) for index in reversed(range(40))][::-1]
    assert forwards == backwards
    assert [Row.model_validate_json(row.model_dump_json()) for row in forwards] == forwards
    assert len({row.model_dump_json(exclude={"index", "id"}) for row in forwards if row.noise}) == 20


def test_rows_far_out_are_drawn_alone(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 10**9 takes as many random numbers as row 0 of the same case: none for the rows before it."""
    made: list[int] = []
    original = chance_module.generator
    monkeypatch.setattr(chance_module, "generator", lambda *key: (made.append(1), original(*key))[1])
    counts = []
    for index in (0, 10**9):
        made.clear()
        assert draw(plan, "train", index).id.endswith(str(index))
        counts.append(len(made))
    assert plan.scenario.case_of("train", 0) == plan.scenario.case_of("train", 10**9)
    assert counts[0] == counts[1] > 0


def test_splits_and_seeds_draw_differently(plan: Plan) -> None:
    """Row 3 of one split, or of another seed, has other numbers."""
    other_seed = Plan(plan.scenario, plan.sources, 8)
    numbers = [draw(one, split, 0).operations[0].snr_db for one in (plan, other_seed) for split in SPLITS.values()]  # type: ignore[union-attr]
    assert len(set(numbers)) == 6


def test_changing_one_range_shifts_no_other_draw(plan: Plan) -> None:
    """Another SNR range leaves speech, rooms, cutoffs, noises and offsets of every row as they were."""

    def louder(case: Case) -> Case:
        changed = [
            one.model_copy(update={"snr_db": Range(low=20.0, high=30.0)}) if isinstance(one, AddNoise) else one
            for one in case.degradations
        ]
        return case.model_copy(update={"degradations": tuple(changed)})

    cases = tuple(louder(case) for case in plan.scenario.cases)
    changed = Plan(plan.scenario.model_copy(update={"cases": cases}), plan.sources, plan.seed)
    assert changed.digest != plan.digest
    for index in range(40):
        before, after = draw(plan, "train", index), draw(changed, "train", index)
        for row in (before, after):
            assert all(low <= getattr(one, "snr_db", low) for low in [-5.0] for one in row.operations)
        strip = {"operations": {"__all__": {"snr_db"}}}
        assert before.model_dump(exclude=strip) == after.model_dump(exclude=strip)


def test_speakers_are_drawn_uniformly_then_their_utterances(tiny_scenario: Tiny) -> None:
    """A speaker with many utterances is heard no more often than one with few."""
    sources = _unbalanced()
    plan = Plan(tiny_scenario(), sources, 0)
    rows = [draw(plan, "train", index) for index in range(1500)]
    speakers = Counter(row.speaker for row in rows)
    assert all(count == pytest.approx(500, abs=75) for count in speakers.values())
    utterances = Counter(row.speech for row in rows if row.speaker == "train0")
    assert len(utterances) == 20 and max(utterances.values()) < 60
    noises = Counter(row.noise for row in rows if row.noise)
    assert all(count == pytest.approx(250, abs=60) for count in noises.values())


def _unbalanced() -> SourceManifest:
    """The first speaker and the first noise have twenty recordings, the others one."""
    from simulation.sources import Recording

    return SourceManifest(
        recordings=tuple(
            Recording(
                id=f"{kind}/{split}{group}-{take:02d}",
                kind=kind,  # type: ignore[arg-type]
                address="file:///nowhere",
                group=f"{split}{group}",
                split=SPLITS[split],
                samples=8000,
                sample_rate=8000,
                sha256="0" * 64,
            )
            for kind in ("speech", "noise", "rir")
            for split in SPLITS
            for group in range(3)
            for take in range(20 if group == 0 else 1)
        )
    )


def test_no_speaker_noise_or_room_is_in_two_splits(plan: Plan) -> None:
    """Checked on the rows themselves, over enough of them to meet every group."""
    met = {
        split: {(what, getattr(row, what)) for row in rows for what in ("speaker", "noise", "room", "speech")}
        for split in SPLITS.values()
        for rows in [[draw(plan, split, index) for index in range(200)]]
    }
    nothing = {("noise", None), ("room", None)}
    assert all(len(groups) > 10 for groups in met.values())
    assert met["train"] & met["test"] == met["train"] & met["valid"] == met["valid"] & met["test"] == nothing


def test_a_leaking_manifest_is_refused(tiny_scenario: Tiny, manifest_in_memory: Manifest) -> None:
    """One test speaker among the training speakers is enough; the error names them."""
    sources = manifest_in_memory()
    leak = sources.recordings[0].model_copy(update={"id": "speech/leak", "split": "test"})
    with pytest.raises(BadSetting, match=f"'{leak.group}'.*'train' and 'test'"):
        Plan(tiny_scenario(), SourceManifest(recordings=(*sources.recordings, leak)), 0)


def test_a_split_without_sources_is_refused(tiny_scenario: Tiny, manifest_in_memory: Manifest) -> None:
    """Whatever a case needs must be there in every split; simulated rooms count, what no case needs does not."""

    def without(kind: str, split: str) -> SourceManifest:
        kept = [one for one in manifest_in_memory().recordings if (one.kind, one.split) != (kind, split)]
        return SourceManifest(recordings=tuple(kept))

    with pytest.raises(BadSetting, match=r"noise recordings.*'valid'"):
        Plan(tiny_scenario(), without("noise", "valid"), 0)
    with pytest.raises(BadSetting, match=r"rir recordings.*'test'"):
        Plan(tiny_scenario(rooms=None), without("rir", "test"), 0)
    Plan(tiny_scenario(), without("rir", "test"), 0)
    dry = tiny_scenario(cases=(Case(name="noise", degradations=(AddNoise(),)),), rooms=None)
    Plan(dry, without("rir", "train"), 0)


# ---- cases and sizes -------------------------------------------------------------------------------------------------


@given(shares=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_shares_are_exact_in_every_cycle_and_near_in_every_prefix(shares: list[int]) -> None:
    """Each case comes as often as its share says; no prefix is off by more than one cycle's rounding."""
    cases = tuple(Case(name=f"c{i}", share=share, degradations=(AddNoise(),)) for i, share in enumerate(shares))
    size = Size(train_hours=1.0, valid_rows=1, test_rows=1)
    drawn = Scenario(name="s", cases=cases, size=size)
    names = [drawn.case_of("train", index).name for index in range(3 * sum(shares))]
    assert Counter(names) == {f"c{i}": 3 * share for i, share in enumerate(shares)}
    for i, share in enumerate(shares):
        counts = np.cumsum([name == f"c{i}" for name in names])
        asked = np.arange(1, len(names) + 1) * share / sum(shares)
        assert np.abs(counts - asked).max() <= 1.0 + len(shares) / 2


def test_rows_are_rounded_up_to_whole_shards(plan: Plan) -> None:
    """Five rows in shards of four are two shards, and shards are adjacent."""
    size = Size(train_hours=0.001, valid_rows=5, test_rows=4)
    grown = Plan(plan.scenario.model_copy(update={"size": size}), plan.sources, 7)
    assert (shard_count(grown, "valid"), shard_count(grown, "test")) == (2, 1)
    assert list(shard_rows(grown, 2)) == [8, 9, 10, 11]


def test_training_hours_are_counted_in_drawn_utterances(plan: Plan) -> None:
    """The fewest shards whose utterances (half a second each) last as long as asked; more hours only add shards."""

    def shards(seconds: float) -> int:
        size = plan.scenario.size.model_copy(update={"train_hours": seconds / 3600})
        return shard_count(Plan(plan.scenario.model_copy(update={"size": size}), plan.sources, 7), "train")

    assert [shards(seconds) for seconds in (0.1, 1.99, 2.01, 20.0)] == [1, 1, 2, 10]


# ---- the plan digest -------------------------------------------------------------------------------------------------


def test_the_plan_digest_ignores_size_and_place(plan: Plan) -> None:
    """Hours, rows, source addresses and the folder a file lies in name no other corpus."""
    moved = [one.model_copy(update={"address": f"s3://elsewhere/{one.id}"}) for one in plan.sources.recordings]
    changes = {"size": Size(train_hours=9.0, valid_rows=99, test_rows=99), "speech": "/elsewhere", "seed": 99}
    other = Plan(plan.scenario.model_copy(update=changes), SourceManifest(recordings=tuple(moved)), plan.seed)
    assert other.digest == plan.digest
    assert plan.name == f"tiny@{plan.digest[:8]}"


def test_the_plan_digest_follows_everything_else(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed, a range, bit depth, rows per shard, one recording's bytes, or the render version: another corpus."""
    changed = plan.sources.recordings[0].model_copy(update={"sha256": "f" * 64})
    digests = [
        plan.digest,
        Plan(plan.scenario, plan.sources, 8).digest,
        Plan(plan.scenario.model_copy(update={"bit_depth": 24}), plan.sources, 7).digest,
        Plan(plan.scenario.model_copy(update={"rows_per_shard": 5}), plan.sources, 7).digest,
        Plan(plan.scenario.model_copy(update={"rooms": None}), plan.sources, 7).digest,
        Plan(plan.scenario, SourceManifest(recordings=(changed, *plan.sources.recordings[1:])), 7).digest,
    ]
    monkeypatch.setattr(draw_module, "RENDER_VERSION", RENDER_VERSION + 1)
    digests.append(Plan(plan.scenario, plan.sources, 7).digest)
    assert len(set(digests)) == 7


# ---- scenarios -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_named_scenarios_survive_json(name: str) -> None:
    """What corpus.json stores gives back the scenario."""
    assert scenario(name).name == name
    assert Scenario.parse(scenario(name).model_dump_json(), name) == scenario(name)


def test_unknown_scenarios_are_answered_with_the_known_ones() -> None:
    """A near miss is suggested."""
    with pytest.raises(UnknownName, match="Did you mean 'sample'"):
        scenario("sampel")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": ()}, "cases"),
        ({"cases": (Case(name="a", degradations=(AddNoise(),)),) * 2}, "a name of its own"),
        ({"sample_rat": 8000}, "sample_rat"),
        ({"bit_depth": 12}, "bit_depth"),
        ({"name": "Not A Name"}, "name"),
        ({"seed": -1}, "seed"),
        ({"cases": (Case(name="a", degradations=(BandLimit(cutoff_hz=4000.0),)),)}, "between 0 and 4000"),
        ({"cases": (Case(name="a", degradations=(BandLimit(cutoff_hz=Range(low=0.0, high=9.0)),)),)}, "between 0"),
    ],
)
def test_impossible_scenarios_are_refused(tiny_scenario: Tiny, change: dict[str, object], message: str) -> None:
    """In one line that names the field."""
    fields = tiny_scenario().model_dump() | change
    with pytest.raises(BadSetting, match=message):
        Scenario.parse(fields, "scenario")


def test_two_degradations_of_one_name_are_refused() -> None:
    """Their draws would be the same; a label tells them apart, and `speech` is taken."""
    with pytest.raises(BadSetting, match="label of its own"):
        Case.parse({"name": "two", "degradations": [{"kind": "noise"}, {"kind": "noise"}]}, "case")
    with pytest.raises(BadSetting, match="label of its own"):
        Case.parse({"name": "two", "degradations": [{"kind": "noise", "label": "speech"}]}, "case")
    Case.parse({"name": "two", "degradations": [{"kind": "noise"}, {"kind": "noise", "label": "wind"}]}, "case")


def test_labels_draw_apart(plan: Plan) -> None:
    """Two noises of one row are two draws."""
    two = Case(name="two", degradations=(AddNoise(), AddNoise(label="wind")))
    row = draw(Plan(plan.scenario.model_copy(update={"cases": (two,)}), plan.sources, 7), "train", 0)
    first, second = row.operations
    assert (first.snr_db, first.offset) != (second.snr_db, second.offset)  # type: ignore[union-attr]


def test_the_sample_scenario_can_carry_a_promotion() -> None:
    """At least 150 noise rows and 25 of each other slice in the test split, and no speaker-noise pair across splits."""
    plan = Plan(scenario("sample"), scan("sample", "sample", "sample", sample_rate=16_000), 0)
    rows = {
        split: [draw(plan, split, i) for shard in range(shard_count(plan, split)) for i in shard_rows(plan, shard)]
        for split in SPLITS.values()
    }
    slices = Counter(row.case for row in rows["test"])
    assert slices.keys() == {"noise", "reverb", "band_limit", "all"}
    assert slices["noise"] >= 150 and min(slices.values()) >= 25 and sum(slices.values()) <= 260
    snrs = [one.snr_db for row in rows["test"] if row.case == "noise" for one in row.operations]  # type: ignore[union-attr]
    assert -5.0 <= min(snrs) < -4.0 and 14.0 < max(snrs) <= 15.0
    kinds = [[one.kind for one in row.operations] for row in rows["test"] if row.case == "all"]
    assert all(kind == ["reverb", "band_limit", "noise"] for kind in kinds)
    pairs = [{(row.speaker, row.noise) for row in rows[split] if row.noise} for split in SPLITS.values()]
    assert not (pairs[0] & pairs[1] or pairs[0] & pairs[2] or pairs[1] & pairs[2])
