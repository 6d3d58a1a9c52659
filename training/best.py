"""The best versions of a run so far, kept beside its checkpoints: weights and record, nothing to go on from.

They are those of validated steps, whatever checkpoints there are. A step that is trained again after a failure gives
the same weights at the same address. `<run>/best/step-<step>/`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from simulation import storage
from simulation.errors import BadSetting
from training.checkpoint import CONFIG, VersionRecord, version_record
from training.recipe import KeepBest

FIGURE = "kept_for"
"""The fact of a record that says which figure it is kept for."""


class Kept(NamedTuple):
    """A version that is kept."""

    step: int
    value: float
    """Of the metric."""
    address: str


class Best:
    """The best versions below a run's address."""

    def __init__(self, run: str, rule: KeepBest) -> None:
        self.address, self.rule = storage.join(run, "best"), rule

    def kept(self) -> list[Kept]:
        """The best first; of equal ones, the earlier."""
        records = [one.address for one in storage.listing(self.address) if one.address.endswith("/" + CONFIG)]
        folders = [address.rpartition("/")[0] for address in records]
        return self._sorted([_kept(folder, version_record(folder)) for folder in folders])

    def offer(self, step: int, figures: dict[str, float], files: dict[str, bytes]) -> None:
        """Keep the version that these files are if it is among the best; what it ousts is removed, record first."""
        refuse_other_figures(self.rule, figures)
        one = Kept(step, figures[self.rule.metric], storage.join(self.address, f"step-{step:08d}"))
        others = [other for other in self.kept() if other.step != step]
        order = self._sorted([*others, one])
        if one in order[: self.rule.count]:
            for name, data in files.items():  # in this order: the record comes last
                storage.replace(storage.join(one.address, name), data)
        for lost in order[self.rule.count :]:
            for stored in sorted(storage.listing(lost.address), key=lambda each: not each.address.endswith(CONFIG)):
                storage.delete(stored.address)

    def _sorted(self, found: list[Kept]) -> list[Kept]:
        sign = -1 if self.rule.higher_is_better else 1
        return sorted(found, key=lambda one: (sign * one.value, one.step))


def refuse_other_figures(rule: KeepBest, figures: Iterable[str]) -> None:
    """BadSetting where the rule asks for a figure that is not among these."""
    if rule.metric not in figures:
        raise BadSetting(f"keep_best asks for {rule.metric!r}; validation gives {', '.join(sorted(figures))}.")


def _kept(folder: str, record: VersionRecord) -> Kept:
    return Kept(record.facts["steps"], record.facts[FIGURE], folder)
