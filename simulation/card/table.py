"""The rows of a corpus as a table: a line a row, with what was measured and, under `asked_<name>`, what was asked."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from simulation.degradations import Reverberate
from simulation.degradations.base import recording_id
from simulation.manifest import Entry, Measured, Row
from simulation.rooms import Placement, is_simulated
from simulation.scenario import Scenario

COUNTED = {"samples"}
"""Measured fields that are no quality of the sound: the card gives hours instead."""


@dataclass(frozen=True)
class Quantity:
    """Something that is measured of rows: a field of `Measured`."""

    name: str
    title: str
    unit: str = ""
    within: float | None = None
    """How far what is measured may lie from what was asked before the card raises an alarm; None: anything goes."""


NAMED = (
    Quantity("snr_db", "SNR", "dB", within=0.1),
    Quantity("sir_db", "Speech to interfering talker", "dB", within=0.1),
    Quantity("lag_samples", "Lag of the noisy side", "samples"),
    Quantity("rt60_s", "Reverberation time", "s"),
    Quantity("drr_db", "Direct to reverberant energy", "dB"),
    Quantity("cutoff_hz", "Cutoff", "Hz"),
    Quantity("bandwidth_hz", "Effective bandwidth, noisy", "Hz"),
    Quantity("level_db", "Level, noisy", "dBFS"),
    Quantity("clean_level_db", "Level, clean", "dBFS"),
    Quantity("flat_share", "Samples on flat tops"),
    Quantity("clipped_share", "Samples that clipping changed"),
    Quantity("loss_rate", "Packets lost"),
    Quantity("codec_kbps", "Bit rate of the codec", "kbit/s"),
    Quantity("gain", "Common gain"),
    Quantity("peak", "Peak"),
)
"""Those with a title of their own; further fields of `Measured` follow under their names."""

SAME_FIELD = {("noise", "snr_db"), ("wind", "snr_db"), ("talker", "sir_db"), ("packet_loss", "loss_rate")}
"""Kind and field of operations whose drawn number is what the measured field of that name should be."""


def quantities() -> tuple[Quantity, ...]:
    """Everything that is measured of a row, best known first."""
    titles = {quantity.name: quantity for quantity in NAMED}
    fields = [name for name in Measured.model_fields if name not in COUNTED]
    others = (Quantity(name, name.replace("_", " ")) for name in fields if name not in titles)
    return (*NAMED, *others)


def table(entries: Iterable[Entry], scenario: Scenario, seed: int) -> pd.DataFrame:
    """A line a row: id, split, case, groups, seconds, measured values and what was asked (NaN where there is none)."""
    lines = [
        {
            "id": entry.row.id,
            "split": entry.row.split,
            "case": entry.row.case,
            "speech": entry.row.speech,
            "speaker": entry.row.speaker,
            "noise": entry.row.noise,
            "room": entry.row.room,
            "hours": entry.measured.samples / scenario.sample_rate / 3600,
            **entry.measured.model_dump(exclude=COUNTED),
            **{f"asked_{name}": value for name, value in asked(entry.row, entry.measured, scenario, seed).items()},
        }
        for entry in entries
    ]
    frame = pd.DataFrame(lines)
    numbers = [name for quantity in quantities() for name in (quantity.name, f"asked_{quantity.name}")]
    for name in numbers:
        frame[name] = pd.to_numeric(frame[name]) if name in frame else float("nan")
    return frame


def asked(row: Row, measured: Measured, scenario: Scenario, seed: int) -> dict[str, float]:
    """What a row's operations were told of things that are measured too; of several operations, the last.

    The reverberation time is what the walls of a simulated room were made for; measured rooms were not asked. The
    bandwidth is the cutoff where nothing follows the band limit, as noise would fill the band again.
    """
    found: dict[str, float] = {}
    for operation in row.operations:
        for kind, field in SAME_FIELD:
            value = getattr(operation, field, None) if operation.kind == kind else None
            if isinstance(value, int | float):
                found[field] = float(value)
        if isinstance(operation, Reverberate) and scenario.rooms is not None:
            rir = recording_id(operation.rir)
            if is_simulated(rir):
                found["rt60_s"] = Placement(scenario.rooms, seed, rir).rt60_s
    if row.operations and row.operations[-1].kind == "band_limit" and measured.cutoff_hz is not None:
        found["bandwidth_hz"] = measured.cutoff_hz
    return found
