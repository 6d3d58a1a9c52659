"""The command that simulates a bank of rooms: the bank as a person describes it, built on Ray."""

from components.compute import Compute, progress
from simulation import storage
from simulation.bank import BuiltBank, build_bank
from simulation.cluster import cluster
from simulation.rooms import RoomBank
from simulation.schema import Range

LIVELY = RoomBank(
    rooms=24,
    length_m=Range(low=3.0, high=10.0),
    width_m=Range(low=3.0, high=8.0),
    height_m=Range(low=2.4, high=4.0),
    rt60_s=Range(low=0.2, high=1.2),
    method="hybrid",
)
"""What is built where nothing is said."""


def built(bank: str, store: str, *, name: str, sample_rate: int, seed: int) -> BuiltBank:
    """The bank whose JSON lies at this address, or `LIVELY`, in the store; what is there is not simulated again."""
    picked = RoomBank.parse(storage.read(storage.normal(bank)), bank) if bank else LIVELY
    with cluster():
        return build_bank(
            picked,
            store,
            name=name,
            sample_rate=sample_rate,
            seed=seed,
            workers=Compute.current().workers,
            progress=progress(f"rooms {name}"),
        )
