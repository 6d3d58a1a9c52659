import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simulation import bank as bank_module
from simulation import storage
from simulation.bank import BankPlan, BankRecord, RoomRecord, build_bank, commit_room, simulated_room
from simulation.cluster import ClusterInfo
from simulation.draw import Plan, draw
from simulation.errors import BadSetting, CorpusDamaged, NotReproducible, TooManyQuarantined
from simulation.render import Library, render
from simulation.room_acoustics import PRE_DELAY_SAMPLES, SPEED_OF_SOUND_M_PER_S
from simulation.rooms import RoomBank
from simulation.scenario import Scenario
from simulation.schema import Range
from simulation.sources import SourceManifest, scan

RATE = 8000
BANK = RoomBank(rooms=2, positions=2, rt60_s=Range(low=0.2, high=0.6), method="hybrid")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms are simulated in this process: what does not concern Ray need not wait for it."""

    def simulated(plan: BankPlan, root: str, rooms: list[str], workers: int) -> object:
        splits = {room: split for split, room in plan.rooms}
        return ((room, commit_room(plan, root, splits[room], room)) for room in rooms)

    monkeypatch.setattr(bank_module, "_on_ray", simulated)


def test_a_bank_is_built_on_ray_and_not_twice(tmp_path: Path, ray_cluster: ClusterInfo) -> None:
    """The digest is that of one worker or two; a room that is lost is simulated again, and no other."""
    one = build_bank(BANK, str(tmp_path / "one"), sample_rate=RATE, workers=1)
    two = build_bank(BANK, str(tmp_path / "two"), sample_rate=RATE, workers=2)
    assert one.digest == two.digest and (one.simulated, one.reused, one.responses) == (6, 0, 12)
    assert build_bank(BANK, str(tmp_path / "one"), sample_rate=RATE).simulated == 0
    storage.delete(f"{one.address}/train/0001.json")
    again = build_bank(BANK, str(tmp_path / "one"), sample_rate=RATE)
    assert (again.simulated, again.reused, again.digest) == (1, 5, one.digest)


def test_what_a_worker_finds_wrong_is_raised_as_it_is(tmp_path: Path, ray_cluster: ClusterInfo) -> None:
    """Another response at its address stops the build, with the error that the worker met."""
    built = build_bank(BANK, str(tmp_path), sample_rate=RATE, workers=1)
    storage.delete(f"{built.address}/test/0000.json")
    storage.replace(f"{built.address}/test/0000/1.flac", b"something else")
    with pytest.raises(CorpusDamaged, match=r"test/0000/1\.flac"):
        build_bank(BANK, str(tmp_path), sample_rate=RATE, workers=1)


def test_commit_objects_say_what_was_asked_and_what_came_of_it(tmp_path: Path, here: None) -> None:
    """Geometry, reverberation time asked for and measured, DRR, and the sample at which the direct sound arrives."""
    built = build_bank(BANK, str(tmp_path), sample_rate=RATE, seed=3)
    for room in ("train/0000", "valid/0001", "test/0001"):
        record = RoomRecord.parse(storage.read(f"{built.address}/{room}.json"), room)
        assert BANK.length_m.low <= record.size_m[0] <= BANK.length_m.high
        assert BANK.rt60_s.low <= record.asked_rt60_s <= BANK.rt60_s.high
        for one in record.responses:
            apart_m = np.linalg.norm(np.array(one.speaker_m) - np.array(one.microphone_m))
            assert one.distance_m == pytest.approx(apart_m, abs=1e-3)
            assert one.onset == PRE_DELAY_SAMPLES + round(one.distance_m / SPEED_OF_SOUND_M_PER_S * RATE)
            assert one.rt60_s == pytest.approx(record.asked_rt60_s, rel=0.1)
            assert -25 < one.drr_db < 25
    record = BankRecord.parse(storage.read(f"{built.address}/bank.json"), "bank.json")
    assert record.bank_digest == built.digest and record.plan.bank == BANK and len(record.rooms) == 6
    assert record.libraries["pyroomacoustics"]


def test_a_room_is_a_pure_function_of_the_plan(tmp_path: Path, here: None) -> None:
    """Simulated anywhere, alone, it gives the bytes and the record that were committed; another seed gives others."""
    built = build_bank(BANK, str(tmp_path), sample_rate=RATE, seed=3)
    plan = BankPlan(name="rooms", bank=BANK, sample_rate=RATE, seed=3)
    record, files = simulated_room(plan, "valid", "room/valid/0001")
    assert storage.read(f"{built.address}/valid/0001.json") == record.canonical()
    assert all(storage.read(f"{built.address}/{path}") == data for path, data in files.items())
    other, _ = simulated_room(plan.model_copy(update={"seed": 4}), "valid", "room/valid/0001")
    assert other.responses[0].sha256 != record.responses[0].sha256


def test_a_bank_is_the_source_of_a_scenario(
    tmp_path: Path, here: None, tiny_scenario: Callable[..., Scenario], material: object
) -> None:
    """Its manifest is taken as `rirs`: rooms in their splits, checksums compared, onsets by geometry at any rate."""
    built = build_bank(BANK, str(tmp_path), sample_rate=16_000)
    sources = scan(material.speech, material.noise, built.manifest, sample_rate=RATE)  # type: ignore[attr-defined]
    assert set(sources.groups("rir", "test")) == {"room/test/0000", "room/test/0001"}
    plan = Plan(tiny_scenario(rooms=None), sources, 1)
    library = Library(sources, plan.scenario, 1)
    for rir in [one for one in sources.recordings if one.kind == "rir"]:
        assert rir.onset is not None and library.rir(rir.id).onset == round(rir.onset / 2)
    row = next(row for index in range(8) if (row := draw(plan, "test", index)).case == "reverb")
    _, measured = render(row, plan.scenario, library)
    found = RoomRecord.parse(storage.read(f"{built.address}/{str(row.room).removeprefix('room/')}.json"), "room")
    assert measured.rt60_s == pytest.approx(found.asked_rt60_s, rel=0.15)
    storage.replace(f"{built.address}/test/0000/0.flac", storage.read(f"{built.address}/test/0000/1.flac"))
    with pytest.raises(TooManyQuarantined, match="sha256"):
        scan(material.speech, material.noise, built.manifest, sample_rate=RATE)  # type: ignore[attr-defined]


def test_a_stated_onset_is_part_of_a_source_and_must_lie_inside(tmp_path: Path, here: None) -> None:
    """Another onset is another source; one that is no sample of the response is refused."""
    built = build_bank(BANK, str(tmp_path), sample_rate=16_000)
    text = storage.read(built.manifest).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    first = rows[0]["onset"]

    def scanned(onset: str) -> SourceManifest:
        storage.replace(built.manifest, text.replace(f",{first},", f",{onset},", 1).encode())
        return scan("sample", "sample", built.manifest, sample_rate=16_000)

    assert scanned(first).digest() != scanned(str(int(first) + 1)).digest()
    with pytest.raises(TooManyQuarantined, match="onset 999999"):
        scanned("999999")
    with pytest.raises(BadSetting, match="expected the number of a sample"):
        scanned("-3")


def test_other_values_for_the_same_room_are_not_reproducible(tmp_path: Path, here: None) -> None:
    """Nothing is overwritten: a commit object that says otherwise stops the build."""
    built = build_bank(BANK, str(tmp_path), sample_rate=RATE)
    plan, address = BankPlan(name="rooms", bank=BANK, sample_rate=RATE, seed=0), f"{built.address}/train/0000.json"
    changed = json.loads(storage.read(address)) | {"asked_rt60_s": 9.0}
    storage.replace(address, json.dumps(changed).encode())
    with pytest.raises(NotReproducible, match=r"train/0000\.json"):
        commit_room(plan, built.address, "train", "room/train/0000")
    assert json.loads(storage.read(address))["asked_rt60_s"] == 9.0


def test_a_room_whose_response_is_gone_is_simulated_again(tmp_path: Path, here: None) -> None:
    """A commit object alone is no room: the response is put back."""
    built = build_bank(BANK, str(tmp_path), sample_rate=RATE)
    lost = f"{built.address}/train/0001/0.flac"
    data = storage.read(lost)
    storage.delete(lost)
    again = build_bank(BANK, str(tmp_path), sample_rate=RATE)
    assert (again.simulated, again.digest) == (1, built.digest) and storage.read(lost) == data


def test_what_makes_another_bank_has_another_address(tmp_path: Path) -> None:
    """Seed, rate, a range, the method: each is in the plan digest; a name that is none is refused."""
    plan = BankPlan(name="rooms", bank=BANK, sample_rate=RATE, seed=0)
    changes = [{"seed": 1}, {"sample_rate": 16_000}, {"bank": BANK.model_copy(update={"method": "images"})}]
    assert len({plan.plan_digest, *(plan.model_copy(update=change).plan_digest for change in changes)}) == 4
    with pytest.raises(BadSetting, match="name"):
        build_bank(BANK, str(tmp_path), name="My Rooms")
