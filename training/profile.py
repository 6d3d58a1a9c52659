"""Where training runs: chosen at launch, never part of an identity."""

from pydantic import Field

from simulation.schema import Schema


class ComputeProfile(Schema):
    """Workers and what each may claim."""

    workers: int = Field(default=1, ge=1)
    """Training processes; the global batch is dealt out among them."""
    cpus_per_worker: int = Field(default=2, ge=1)
    """CPUs a worker claims, and the threads torch may use in it."""
    gpus_per_worker: int = Field(default=0, ge=0, le=1)
    """GPUs a worker claims; without one it trains on the CPU."""
