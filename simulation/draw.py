"""Scenario + sources + seed + row number -> Row. Chance happens here and nowhere else.

A plan is everything a corpus is made from except its size. Row i of a split is a pure function of (plan, split, i): it
needs neither the rows before it nor a file, so any worker draws any row.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from simulation.chance import Chance
from simulation.composition import draw_parts
from simulation.degradations import AddNoise, AddTalker, AnyDegradation, Reverberate
from simulation.degradations.base import recording_id
from simulation.errors import BadSetting
from simulation.manifest import Row
from simulation.render import RENDER_VERSION
from simulation.rooms import is_simulated, simulated_room
from simulation.scenario import SPEECH_LABEL, Scenario
from simulation.schema import canonical_json
from simulation.sources import KINDS, SPLITS, Kind, Recording, SourceManifest, Split
from simulation.sources.pairing import partner

Groups = dict[str, Sequence[str]]
"""Recordings' ids by group (speaker, noise recording, room), in order."""


SPEECH: Kind = "speech"


@dataclass(frozen=True)
class Plan:
    """A scenario over scanned sources with a seed. `BadSetting` if a split lacks sources or shares a group."""

    scenario: Scenario
    sources: SourceManifest
    seed: int

    def __post_init__(self) -> None:
        needed = {SPEECH, *self.scenario.kinds}
        for kind in sorted(needed):
            self._check_every_split_has(kind)
            self._check_disjoint(kind)
        if SPEECH in self.scenario.kinds:
            self._check_somebody_else_speaks()

    @cached_property
    def digest(self) -> str:
        """The plan digest, 64 hex characters: equal plans render equal corpora, whatever their size and place."""
        return plan_digest(self.scenario, self.sources.digest(), self.seed, RENDER_VERSION)

    @property
    def name(self) -> str:
        """`<scenario>@<plan digest, 8>`: the corpus's folder below `corpora/` in a store."""
        return f"{self.scenario.name}@{self.digest[:8]}"

    @cached_property
    def catalogue(self) -> dict[str, dict[str, Groups]]:
        """What can be picked in each split: ids by kind and group, measured rooms and simulated ones side by side."""
        return {split: {kind: self._groups(kind, split) for kind in KINDS} for split in SPLITS.values()}

    @cached_property
    def train_shards(self) -> int:
        """Shards that the scenario's hours of training audio ask for; counted once, as every utterance is drawn."""
        return _shards_for_seconds(self, self.scenario.size.train_hours * 3600)

    @cached_property
    def pairs(self) -> dict[str, list[Recording]]:
        """The clean sides of recorded pairs by split, in order of their ids: row i is the i-th."""
        speech = [one for one in self.sources.recordings if one.kind == SPEECH]
        return {split: [one for one in speech if one.split == split] for split in SPLITS}

    def _groups(self, kind: Kind, split: Split) -> Groups:
        recorded = self.sources.groups(kind, split)
        groups: Groups = {group: [member.id for member in members] for group, members in recorded.items()}
        if kind == "rir" and self.scenario.rooms:
            groups |= self.scenario.rooms.groups(split)
        return groups

    def _check_every_split_has(self, kind: Kind) -> None:
        for split in SPLITS:
            if not self.catalogue[split][kind]:
                raise BadSetting(
                    f"The scenario {self.scenario.name!r} needs {kind} recordings, and the sources have none for the"
                    f" split {split!r}. Add some, or name the splits in a CSV manifest's column `split`."
                )

    def _check_somebody_else_speaks(self) -> None:
        for split in SPLITS:
            if len(self.catalogue[split][SPEECH]) < 2:
                raise BadSetting(
                    f"The scenario {self.scenario.name!r} has interfering talkers, and the split {split!r} has one"
                    " speaker. Add recordings of another speaker to it."
                )

    def _check_disjoint(self, kind: Kind) -> None:
        home: dict[str, str] = {}
        for split in SPLITS:
            for group in self.catalogue[split][kind]:
                if home.setdefault(group, split) != split:
                    raise BadSetting(
                        f"The {kind} group {group!r} is in the splits {home[group]!r} and {split!r}; a group belongs to"
                        " one split only. Correct the column `split` of the manifest."
                    )


def plan_digest(scenario: Scenario, sources_digest: str, seed: int, render_version: int) -> str:
    """sha256 over what identifies a plan; size, source addresses and machines do not."""
    identity = {
        "scenario": scenario.identity(),
        "sources": sources_digest,
        "seed": seed,
        "render_version": render_version,
    }
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def draw(plan: Plan, split: Split, index: int) -> Row:
    """Row `index` of a split, every number in it. Costs the same for any index."""
    case = plan.scenario.case_of(split, index)
    utterance = draw_utterance(plan, split, index)
    chance = Chance(plan.seed, split, index, "", plan.catalogue[split], utterance.group)
    operations = tuple(draw_parts(case.degradations, chance))
    return Row(
        index=index,
        id=row_id(split, index),
        split=split,
        case=case.name,
        speech=utterance.id,
        speaker=utterance.group,
        noise=_noise_group(plan, operations),
        room=_room(plan, operations),
        interferer=_interferer(plan, operations),
        noisy=partner(utterance.id) if plan.scenario.pairs else None,
        operations=operations,
    )


def draw_utterance(plan: Plan, split: Split, index: int) -> Recording:
    """The utterance of row `index`: speaker uniformly, then one of their utterances; of recorded pairs, the one."""
    if plan.scenario.pairs:
        return plan.pairs[split][index]
    chance = Chance(plan.seed, split, index, SPEECH_LABEL, plan.catalogue[split])
    return plan.sources.find(chance.pick(SPEECH, "recording"))


def row_id(split: Split, index: int) -> str:
    """`train-00000012`."""
    return f"{split}-{index:08d}"


def shard_rows(plan: Plan, shard: int, split: Split = "train") -> range:
    """The row numbers of a shard; the last one of recorded pairs has those that are left."""
    rows = plan.scenario.rows_per_shard
    end = (shard + 1) * rows
    return range(shard * rows, min(end, len(plan.pairs[split])) if plan.scenario.pairs else end)


def row_count(plan: Plan, split: Split) -> int:
    """How many rows a split has, those that cannot be rendered among them."""
    if plan.scenario.pairs:
        return len(plan.pairs[split])
    return shard_count(plan, split) * plan.scenario.rows_per_shard


def shard_count(plan: Plan, split: Split) -> int:
    """How many shards the scenario's size asks for. The last one is full too: corpora grow by whole shards."""
    size, rows_per_shard = plan.scenario.size, plan.scenario.rows_per_shard
    if plan.scenario.pairs:
        return -(-len(plan.pairs[split]) // rows_per_shard)
    if split == "train":
        return plan.train_shards
    rows = size.valid_rows if split == "valid" else size.test_rows
    return -(-rows // rows_per_shard)


def _shards_for_seconds(plan: Plan, seconds: float) -> int:
    """The fewest shards of the split `train` whose drawn utterances last this long."""
    so_far_s = 0.0
    for shard in count():
        if so_far_s >= seconds:
            return shard
        for index in shard_rows(plan, shard):
            utterance = draw_utterance(plan, "train", index)
            so_far_s += utterance.samples / utterance.sample_rate
    raise AssertionError("count() does not end")


def _noise_group(plan: Plan, operations: Sequence[AnyDegradation]) -> str | None:
    for operation in operations:
        if isinstance(operation, AddNoise):
            return plan.sources.find(recording_id(operation.recording)).group
    return None


def _interferer(plan: Plan, operations: Sequence[AnyDegradation]) -> str | None:
    for operation in operations:
        if isinstance(operation, AddTalker):
            return plan.sources.find(recording_id(operation.recording)).group
    return None


def _room(plan: Plan, operations: Sequence[AnyDegradation]) -> str | None:
    for operation in operations:
        if isinstance(operation, Reverberate):
            rir = recording_id(operation.rir)
            return simulated_room(rir) if is_simulated(rir) else plan.sources.find(rir).group
    return None
