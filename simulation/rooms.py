"""Rooms: banks of simulated room impulse responses.

A bank is a pure function of (seed, id): nothing need be stored, any worker simulates any response alone. For a bank
that is stored, to be measured, listened to and used by many scenarios, see `bank.py`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from simulation.chance import generator
from simulation.errors import BadSetting
from simulation.rir import Rir
from simulation.room_acoustics import PRE_DELAY_SAMPLES, SPEED_OF_SOUND_M_PER_S, Place, dead_rt60_s, hybrid, images
from simulation.schema import Range, Schema

WALL_DISTANCE_M = 0.5
"""Neither the speaker nor the microphone comes closer to a wall."""

STEEPEST_ELEVATION_RAD = 0.35
"""The speaker's mouth is at most this far above or below the microphone (20°)."""


class RoomBank(Schema):
    """Shoebox rooms, drawn uniformly from these ranges; each split has rooms of its own.

    Ids look like those of recordings: `room/train/0012/3` is position 3 in room 12 of the split `train`.
    """

    rooms: int = Field(default=24, ge=1)
    """Rooms in each split."""

    positions: int = Field(default=8, ge=1)
    """Positions of speaker and microphone in each room."""

    length_m: Range = Range(low=4.0, high=7.0)
    width_m: Range = Range(low=3.5, high=5.5)
    height_m: Range = Range(low=2.4, high=3.2)

    rt60_s: Range = Range(low=0.15, high=0.4)
    """Asked of the walls; what comes out is measured. Image sources come out some 10-30 % longer (Sabine), the hybrid
    within a few percent."""

    method: Literal["images", "hybrid"] = "images"
    """Image sources throughout, for dry rooms; or image sources for 50 ms and a diffuse tail, for any reverberation
    time at the same cost."""

    distance_m: Range = Range(low=0.5, high=2.0)
    """From the speaker to the microphone."""

    @model_validator(mode="after")
    def _possible(self) -> "RoomBank":
        narrowest_m = min(self.length_m.low, self.width_m.low) - 2 * WALL_DISTANCE_M
        if not 0.1 <= self.distance_m.low <= self.distance_m.high <= narrowest_m:
            raise ValueError(f"distance_m must lie between 0.1 and {narrowest_m:g} m to fit into the smallest room")
        if self.height_m.low < 2.2:
            raise ValueError(
                f"height_m starts at {self.height_m.low:g}; a room that people speak in has at least 2.2 m"
            )
        largest_m = np.array([self.length_m.high, self.width_m.high, self.height_m.high])
        if self.method == "images" and self.rt60_s.low <= (shortest_s := dead_rt60_s(largest_m)):
            raise ValueError(f"rt60_s must stay above {shortest_s:.3f}, what the largest room has with no echo at all")
        return self

    def groups(self, split: str) -> dict[str, list[str]]:
        """The ids of a split's responses, by room."""
        rooms = [f"room/{split}/{room:04d}" for room in range(self.rooms)]
        return {room: [f"{room}/{position}" for position in range(self.positions)] for room in rooms}

    def simulate(self, seed: int, rir_id: str, sample_rate: int) -> Rir:
        """The response with this id; onset by geometry."""
        return Placement(self, seed, rir_id).simulate(sample_rate)


def is_simulated(rir_id: str) -> bool:
    """Whether an id belongs to a bank and not to a recording."""
    return rir_id.startswith("room/")


def simulated_room(rir_id: str) -> str:
    """The room of a bank's response: what splits are disjoint by."""
    return rir_id.rpartition("/")[0]


@dataclass(frozen=True)
class Placement:
    """One speaker and one microphone in one room, every number drawn from the bank's ranges."""

    bank: RoomBank
    seed: int
    rir_id: str

    @cached_property
    def size_m(self) -> Place:
        """Length, width, height."""
        room = simulated_room(self.rir_id)
        ranges = {"length_m": self.bank.length_m, "width_m": self.bank.width_m, "height_m": self.bank.height_m}
        return np.array([span.draw(generator(self.seed, room, name)) for name, span in ranges.items()])

    @cached_property
    def rt60_s(self) -> float:
        """Asked, not measured."""
        return self.bank.rt60_s.draw(generator(self.seed, simulated_room(self.rir_id), "rt60_s"))

    def travel_samples(self, sample_rate: int) -> int:
        """How long the direct sound travels: whole samples, so that the direct pulse is sharp and its onset exact."""
        distance_m = self.bank.distance_m.draw(generator(self.seed, self.rir_id, "distance_m"))
        return max(round(distance_m / SPEED_OF_SOUND_M_PER_S * sample_rate), 1)

    def places(self, sample_rate: int) -> tuple[Place, Place]:
        """Microphone and speaker, as far apart as the sound travels; tried until both keep clear of the walls."""
        distance_m = self.travel_samples(sample_rate) * SPEED_OF_SOUND_M_PER_S / sample_rate
        rng = generator(self.seed, self.rir_id, "places")
        room_for_m = self.size_m - 2 * WALL_DISTANCE_M
        for _ in range(10_000):
            microphone = WALL_DISTANCE_M + room_for_m * rng.random(3)
            azimuth = 2 * np.pi * rng.random()
            elevation = STEEPEST_ELEVATION_RAD * (2 * rng.random() - 1)
            level = np.cos(elevation)
            direction = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
            speaker = microphone + distance_m * direction
            if np.all(speaker > WALL_DISTANCE_M) and np.all(speaker < self.size_m - WALL_DISTANCE_M):
                return microphone, speaker
        raise BadSetting(f"{distance_m:g} m do not fit into a room of {self.size_m.round(2)} m; lower distance_m")

    def simulate(self, sample_rate: int) -> Rir:
        """The response, by the bank's method; its onset follows from the geometry."""
        room = (self.size_m, *self.places(sample_rate), self.rt60_s, sample_rate)
        samples = images(*room) if self.bank.method == "images" else hybrid(*room, key=(self.seed, self.rir_id))
        onset = PRE_DELAY_SAMPLES + self.travel_samples(sample_rate)
        return Rir(samples.astype(np.float32), onset, sample_rate)
