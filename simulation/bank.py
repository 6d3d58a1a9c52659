"""build_bank(bank, store): a bank of rooms as a corpus of its own, simulated on Ray, measured, and used by scenarios.

A room is the unit of work and of commitment: its responses are written first (FLAC, 24 bit), then `<room>.json` with
the geometry, the reverberation time asked for and measured, DRR and the sample of the direct sound. What was committed
is not simulated again. `manifest.csv` comes last; its address is what a scenario takes as `rirs`. It names checksums,
rooms, splits and direct-path samples, so that responses align by geometry and splits share no room.

    <store>/rirs/<name>@<plan digest, 8>/train/0003/5.flac     position 5 of room 3
                                         train/0003.json       the room's commit object
                                         bank.json             every room's digest; last but one
                                         manifest.csv          the door for scenarios; last
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import Field

from simulation import audio, storage
from simulation.errors import CorpusDamaged, NotReproducible
from simulation.rir import drr_db, rt60_s
from simulation.rooms import Placement, RoomBank
from simulation.schema import Schema, canonical_json
from simulation.sources import SPLITS, Split

BANK_VERSION = 1
"""Raised by hand when a bank's responses change; part of its plan digest."""

PEAK = 0.9
"""Of every response: what is used of it is its shape, and 24 bits are to be used well."""

BITS = 24

NAME = "^[a-z0-9_]+$"

LIBRARIES = ("unmuffle", "numpy", "scipy", "soundfile", "pyroomacoustics")
"""Distributions whose versions decide the samples."""

COLUMNS = ("path", "room", "split", "onset", "sha256", "licence", "source", "asked_rt60_s", "rt60_s", "drr_db")
"""Of the manifest."""

Progress = Callable[[int, int], None]
"""Called with (rooms done, rooms in all)."""

Metres = tuple[float, float, float]
"""Along length, width and height."""


class BankPlan(Schema):
    """Which bank is meant, before it exists."""

    name: str = Field(pattern=NAME)
    bank: RoomBank
    sample_rate: int = Field(ge=4000, le=192_000)
    seed: int = Field(ge=0)

    @property
    def plan_digest(self) -> str:
        """The plan digest, 64 hex characters."""
        plan = {**self.model_dump(mode="json"), "bank_version": BANK_VERSION}
        return hashlib.sha256(canonical_json(plan)).hexdigest()

    @property
    def rooms(self) -> list[tuple[Split, str]]:
        """Split and id of every room, in order."""
        return [(split, room) for split in SPLITS.values() for room in self.bank.groups(split)]


class Response(Schema):
    """One committed response."""

    path: str
    """Below the bank's address."""
    sha256: str
    samples: int
    onset: int
    """The sample at which the direct sound peaks, by geometry."""
    microphone_m: Metres
    speaker_m: Metres
    distance_m: float
    rt60_s: float | None
    """Measured: T30, else T20; None where neither can be."""
    drr_db: float
    """Measured: direct to reverberant energy."""


class RoomRecord(Schema):
    """A room's commit object: the room exists once this does."""

    room: str
    split: Split
    size_m: Metres
    asked_rt60_s: float
    responses: tuple[Response, ...]


class BankRecord(Schema):
    """`bank.json`: what was made, of what, by what."""

    plan: BankPlan
    rooms: tuple[tuple[str, str], ...]
    """Id and sha256 of every room's commit object."""
    bank_digest: str
    """Over the ordered digests of the rooms."""
    libraries: dict[str, str]


@dataclass(frozen=True)
class BuiltBank:
    """A finished bank."""

    address: str
    manifest: str
    """What a scenario takes as `rirs`."""
    digest: str
    responses: int
    simulated: int
    """Rooms simulated now."""
    reused: int
    """Rooms that were there before."""


def build_bank(
    bank: RoomBank,
    store: str,
    *,
    name: str = "rooms",
    sample_rate: int = 16_000,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
) -> BuiltBank:
    """Simulate a bank, or what is missing of it. Needs `simulation.cluster.cluster()`.

    Raises BadSetting for a name that is none, NotReproducible where other values were committed for the same plan,
    CorpusDamaged where a response is not the one that was committed, StorageError.
    """
    plan = BankPlan.parse({"name": name, "bank": bank, "sample_rate": sample_rate, "seed": seed}, "the bank")
    root = storage.join(storage.normal(store), "rirs", f"{name}@{plan.plan_digest[:8]}")
    with storage.writer_lock(root):
        there = _committed(plan, root)
        missing = [room for _, room in plan.rooms if room not in there]
        report = progress or (lambda done, total: None)
        report(len(there), len(plan.rooms))
        done = dict(there)
        for room, data in _on_ray(plan, root, missing, workers):
            done[room] = data
            report(len(done), len(plan.rooms))
        digest = _finish(plan, root, done)
    responses = len(plan.rooms) * bank.positions
    return BuiltBank(root, storage.join(root, "manifest.csv"), digest, responses, len(missing), len(there))


def simulated_room(plan: BankPlan, split: Split, room: str) -> tuple[RoomRecord, dict[str, bytes]]:
    """The record of a room and the bytes of its responses by path; pure, so that any worker makes any room."""
    members = plan.bank.groups(split)[room]
    placements = [Placement(plan.bank, plan.seed, member) for member in members]
    files: dict[str, bytes] = {}
    responses = []
    for member, placement in zip(members, placements, strict=True):
        path = f"{member.removeprefix('room/')}.flac"
        files[path], response = _response(plan, placement, path)
        responses.append(response)
    record = RoomRecord(
        room=room,
        split=split,
        size_m=_metres(placements[0].size_m),
        asked_rt60_s=placements[0].rt60_s,
        responses=tuple(responses),
    )
    return record, files


def _response(plan: BankPlan, placement: Placement, path: str) -> tuple[bytes, Response]:
    """One response as FLAC, and what is recorded of it."""
    rir = placement.simulate(plan.sample_rate)
    microphone, speaker = placement.places(plan.sample_rate)
    data = audio.encode_flac(rir.samples * np.float32(PEAK / np.abs(rir.samples).max()), plan.sample_rate, BITS)
    return data, Response(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        samples=len(rir.samples),
        onset=rir.onset,
        microphone_m=_metres(microphone),
        speaker_m=_metres(speaker),
        distance_m=round(float(np.linalg.norm(speaker - microphone)), 4),
        rt60_s=rt60_s(rir),
        drr_db=drr_db(rir),
    )


def _metres(place: np.ndarray) -> Metres:
    length, width, height = (round(float(each), 4) for each in place)
    return length, width, height


# ---- committing ------------------------------------------------------------------------------------------------------


def commit_room(plan: BankPlan, root: str, split: Split, room: str) -> bytes:
    """Simulate a room, write its responses, then its commit object, whose bytes are returned."""
    record, files = simulated_room(plan, split, room)
    for response in record.responses:
        address, data = storage.join(root, response.path), files[response.path]
        if not storage.create(address, data) and hashlib.sha256(storage.read(address)).hexdigest() != response.sha256:
            raise CorpusDamaged(f"{address} is not what its room and seed give. Delete it and build the bank again.")
    data, address = record.canonical(), _commit_address(root, room)
    if not storage.create(address, data) and storage.read(address) != data:
        raise NotReproducible(
            f"{address} was committed with other values than simulating it again gives. Nothing was overwritten. Look"
            " at the library versions in bank.json, and raise BANK_VERSION if simulation was changed on purpose."
        )
    return data


def _commit_address(root: str, room: str) -> str:
    return storage.join(root, f"{room.removeprefix('room/')}.json")


def _committed(plan: BankPlan, root: str) -> dict[str, bytes]:
    """The commit objects of the rooms that are finished, and whose responses are all there."""
    below = {stored.address for stored in storage.listing(root)}
    rooms = [room for _, room in plan.rooms if _commit_address(root, room) in below]
    found = dict(zip(rooms, storage.read_many(_commit_address(root, room) for room in rooms), strict=True))
    return {
        room: data
        for room, data in found.items()
        if all(storage.join(root, each.path) in below for each in RoomRecord.parse(data, room).responses)
    }


def _on_ray(plan: BankPlan, root: str, rooms: list[str], workers: int) -> Iterator[tuple[str, bytes]]:
    """Simulate and commit on Ray, so many rooms at a time; yields each when it is committed, in any order."""
    import ray

    from simulation.cluster import fraction

    splits = {room: split for split, room in plan.rooms}
    task = ray.remote(num_cpus=fraction(workers))(commit_room) if rooms else None
    waiting, running = list(reversed(rooms)), dict[Any, str]()
    while waiting or running:
        while task and waiting and len(running) < workers:
            room = waiting.pop()
            running[task.remote(plan, root, splits[room], room)] = room
        done, _ = ray.wait(list(running), num_returns=1)
        try:
            yield running.pop(done[0]), ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None


def _finish(plan: BankPlan, root: str, done: dict[str, bytes]) -> str:
    """bank.json, then the manifest; the bank's digest."""
    rooms = tuple((room, hashlib.sha256(done[room]).hexdigest()) for _, room in plan.rooms)
    digest = hashlib.sha256("".join(f"{sha256}\n" for _, sha256 in rooms).encode()).hexdigest()
    record = BankRecord(
        plan=plan, rooms=rooms, bank_digest=digest, libraries={library: version(library) for library in LIBRARIES}
    )
    storage.create(storage.join(root, "bank.json"), record.canonical())
    records = [RoomRecord.parse(data, room) for room, data in done.items()]
    storage.create(storage.join(root, "manifest.csv"), _manifest(records))
    return digest


def _manifest(rooms: list[RoomRecord]) -> bytes:
    """The responses as a CSV manifest of sources."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for room in sorted(rooms, key=lambda one: one.room):
        for one in room.responses:
            said = ("simulated", "pyroomacoustics", room.asked_rt60_s, one.rt60_s, one.drr_db)
            table.writerow([one.path, room.room, room.split, one.onset, one.sha256, *said])
    return text.getvalue().encode()
