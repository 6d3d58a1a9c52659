"""Where training runs, and how much it may use: chosen at launch, never part of an identity."""

from typing import Literal

from pydantic import Field, model_validator

from simulation.schema import Schema


class Budget(Schema):
    """What a run may use before it stops, with a checkpoint; None: as much as it takes. A larger one lets it go on."""

    max_steps: int | None = Field(default=None, gt=0)
    """Counted from the run's beginning."""
    max_core_hours: float | None = Field(default=None, gt=0)
    """Of all attempts together, as the cost ledger counts them: claimed cores for as long as workers hold them."""
    max_gpu_hours: float | None = Field(default=None, gt=0)

    def spent(self, step: int, core_hours: float, gpu_hours: float) -> str:
        """What is spent, in words; empty where there is something left."""
        used = {"max_steps": step, "max_core_hours": core_hours, "max_gpu_hours": gpu_hours}
        return ", ".join(f"{name} {limit:g}" for name, limit in self.limits.items() if used[name] >= limit)

    @property
    def limits(self) -> dict[str, int | float]:
        """Those that there are."""
        return self.model_dump(exclude_none=True)


class ComputeProfile(Schema):
    """Workers and what each may claim."""

    workers: int | tuple[int, int] = 1
    """Training processes; the global batch is dealt out among them. (least, most): as many as there is room for, looked
    at again after every failure and every `resize_every_s`."""
    resize_every_s: float = Field(default=60.0, gt=0)
    cpus_per_worker: int = Field(default=2, ge=1)
    """CPUs a worker claims, and the threads torch may use in it."""
    gpus_per_worker: int = Field(default=0, ge=0, le=1)
    """GPUs a worker claims; without one it trains on the CPU."""
    memory_per_worker_gb: float | None = Field(default=None, gt=0)
    """Main memory a worker claims, in 10^9 bytes; None: whatever it takes."""
    validation: Literal["inside", "apart"] = "inside"
    """Who listens to the valid split: the first worker, while the others wait, or a process beside them on CPUs, while
    training goes on. Figures are the same, but for rounding between a GPU and a CPU."""
    validation_cpus: int = Field(default=1, ge=1)
    """CPUs of that process, and its threads. It claims them where there are any to spare, and shares the workers' where
    there are none."""
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _some_workers(self) -> "ComputeProfile":
        if not 1 <= self.least_workers <= self.most_workers:
            raise ValueError(f"workers {self.workers} must be a number from 1 on, or (least, most) of such")
        return self

    @property
    def least_workers(self) -> int:
        """With fewer, the run waits."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """As many as it ever has."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]
