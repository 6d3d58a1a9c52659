from collections import Counter
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from simulation.chance import Chance
from simulation.composition import Some, draw_parts, members
from simulation.degradations import AddNoise, BandLimit, Clip, PacketLoss, Quantise, Reverberate
from simulation.draw import Plan, draw
from simulation.errors import BadSetting
from simulation.manifest import Row
from simulation.scenario import Case, Scenario
from simulation.schema import OneOf, Range
from simulation.sources import SourceManifest

FOUR = (Clip(), BandLimit(cutoff_hz=Range(low=1000.0, high=2000.0)), PacketLoss(), Quantise())


def _kinds(some: Some, index: int) -> list[str]:
    return [one.kind for one in draw_parts([some], Chance(3, "train", index, "", {}))]


def test_as_many_as_drawn_happen_and_none_twice() -> None:
    """Zero to three of four, as often as their weights say; no row has a member twice."""
    some = Some(of=FOUR, count=OneOf(values=(0, 1, 2, 3), weights=(0.25, 0.40, 0.20, 0.15)))
    rows = [_kinds(some, index) for index in range(2000)]
    assert all(len(set(row)) == len(row) for row in rows)
    counts = Counter(map(len, rows))
    for count, share in enumerate((0.25, 0.40, 0.20, 0.15)):
        assert counts[count] / 2000 == pytest.approx(share, abs=0.04)
    happened = Counter(kind for row in rows for kind in row)
    assert all(happened[one.kind] == pytest.approx(2000 * 1.25 / 4, rel=0.12) for one in FOUR)


def test_the_order_is_the_given_one_or_drawn() -> None:
    """Given: always as listed. Drawn: each of the six orders of three members about as often."""
    given = Some(of=FOUR[:3], count=3)
    assert {tuple(_kinds(given, index)) for index in range(50)} == {("clip", "band_limit", "packet_loss")}
    orders = Counter(tuple(_kinds(given.model_copy(update={"order": "drawn"}), index)) for index in range(1800))
    assert len(orders) == 6 and all(count == pytest.approx(300, abs=75) for count in orders.values())


def test_weights_say_how_readily_a_member_is_picked() -> None:
    """One of two with weights 1 and 3: a quarter and three quarters of the rows."""
    some = Some(of=FOUR[:2], count=1, weights=(1.0, 3.0))
    happened = Counter(_kinds(some, index)[0] for index in range(2000))
    assert happened["clip"] / 2000 == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_without_a_count_all_members_happen_together(probability: float) -> None:
    """In the asked share of rows all of them, in the others none."""
    some = Some(of=FOUR[:2], probability=probability)
    rows = [_kinds(some, index) for index in range(1000)]
    assert all(row in ([], ["clip", "band_limit"]) for row in rows)
    assert sum(map(bool, rows)) / 1000 == pytest.approx(probability, abs=0.04)


def test_a_member_that_is_added_or_changed_shifts_no_other_draw() -> None:
    """Who is picked beside it keeps every number; the order among the old ones stays."""
    three, chance = Some(of=FOUR[:3], order="drawn"), [Chance(3, "train", index, "", {}) for index in range(50)]
    four = Some(of=FOUR, order="drawn")
    milder = Some(of=(Clip(ceiling_db=Range(low=-3.0, high=0.0)), *FOUR[1:3]), order="drawn")
    for one in chance:
        before = list(draw_parts([three], one))
        assert [each for each in draw_parts([four], one) if each.kind != "quantise"] == before
        after = list(draw_parts([milder], one))
        assert [each.kind for each in after] == [each.kind for each in before]
        assert [each for each in after if each.kind != "clip"] == [each for each in before if each.kind != "clip"]


def test_some_may_hold_some() -> None:
    """Nested members are drawn by their own names, and every degradation that may happen is known."""
    inner = Some(label="codec_or_loss", of=(PacketLoss(), Quantise()), count=1)
    outer = Some(of=(Clip(), inner), probability=0.5)
    assert [one.kind for one in members([outer])] == ["clip", "packet_loss", "quantise"]
    assert {tuple(_kinds(outer, index)) for index in range(60)} == {(), ("clip", "packet_loss"), ("clip", "quantise")}


def test_rows_are_flat(
    tiny_scenario: Callable[..., Scenario], manifest_in_memory: Callable[..., SourceManifest]
) -> None:
    """A row lists what happened, in order, each with its numbers; it and the scenario survive JSON."""
    steps = (Reverberate(), Some(label="extras", of=FOUR, count=2, order="drawn"), AddNoise())
    scenario = tiny_scenario(cases=(Case(name="a", degradations=steps),))
    assert Scenario.parse(scenario.model_dump_json(), "scenario") == scenario
    assert scenario.kinds == {"rir", "noise"}
    plan = Plan(scenario, manifest_in_memory(), 7)
    for index in range(20):
        row = draw(plan, "train", index)
        assert [row.operations[0].kind, len(row.operations), row.operations[-1].kind] == ["reverb", 4, "noise"]
        assert Row.model_validate_json(row.canonical()) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 5}, "from 0 to 4"),
        ({"count": OneOf(values=(1, 2.5))}, "from 0 to 4"),
        ({"weights": (1.0,)}, "4 members and 1 weights"),
        ({"weights": (1.0, 1.0, 1.0, 0.0)}, "greater than 0"),
        ({"of": ()}, "at least 1"),
        ({"order": "random"}, "order"),
    ],
)
def test_impossible_compositions_are_refused(change: dict[str, object], message: str) -> None:
    """Before anything is drawn."""
    with pytest.raises(ValidationError, match=message):
        Some(**{"of": FOUR, **change})


def test_names_are_unique_at_every_depth() -> None:
    """A degradation inside keys its draws like one outside; two of one name are refused."""
    with pytest.raises(BadSetting, match="label of its own"):
        Case.parse({"name": "a", "degradations": [Clip(), Some(of=(Clip(), PacketLoss()))]}, "case")
    with pytest.raises(BadSetting, match="label of its own"):
        Case.parse({"name": "a", "degradations": [Some(of=(Clip(),)), Some(of=(PacketLoss(),))]}, "case")
    Case.parse({"name": "a", "degradations": [Clip(), Some(of=(Clip(label="second"),))]}, "case")


def test_a_member_that_cannot_be_used_at_the_rate_is_refused(tiny_scenario: Callable[..., Scenario]) -> None:
    """A cutoff above half the sample rate is found wherever it stands."""
    hidden = Some(of=(Some(label="inner", of=(BandLimit(cutoff_hz=5000.0),)),))
    with pytest.raises(BadSetting, match="between 0 and 4000"):
        Scenario.parse(tiny_scenario().model_dump() | {"cases": [Case(name="a", degradations=(hidden,))]}, "scenario")
