"""Scenarios: what a corpus is made of. Sources, cases of degradations with ranges, size and seed; the named ones.

A case is a slice of the corpus: its degradations, in the order in which they happen. Row i's case is a pure function of
split and i, by a fixed pattern that spreads the cases evenly, so every prefix of a split has nearly the asked shares.
The named scenarios are in `simulation/scenarios/`.
"""

from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, model_validator

from simulation.composition import Part, members, names
from simulation.degradations import AnyDegradation
from simulation.degradations.base import Choice
from simulation.rooms import RoomBank
from simulation.schema import Schema
from simulation.sources import SPLITS, Kind, Split

NAME = "^[a-z0-9_]+$"

SPEECH_LABEL = "speech"
"""The label under which the utterance itself is drawn; no degradation may take it."""


class Case(Schema):
    """One slice of a corpus: a name, how often it comes, and what happens to the speech, in order."""

    name: str = Field(pattern=NAME)

    share: int = Field(default=1, ge=1, le=1000)
    """Rows of this case to those of the others."""

    splits: tuple[Split, ...] = ("train", "valid", "test")
    """Splits in which it comes."""

    degradations: tuple[Part, ...]
    """In order of operation; names unique, since they key the draws. At least one, but for recorded pairs."""

    @property
    def members(self) -> tuple[AnyDegradation, ...]:
        """Every degradation that may happen, those inside `Some` included."""
        return tuple(members(self.degradations))

    @model_validator(mode="after")
    def _names_unique(self) -> "Case":
        found = list(names(self.degradations))
        if len(set(found)) < len(found) or SPEECH_LABEL in found:
            raise ValueError(
                f"the degradations of case {self.name!r} are named {', '.join(found)}; give each a label of its own,"
                f" other than {SPEECH_LABEL!r}"
            )
        return self


class Size(Schema):
    """How much of the plan is rendered; rounded up to whole shards. No part of a corpus's identity."""

    train_hours: float = Field(gt=0.0)
    valid_rows: int = Field(ge=1)
    test_rows: int = Field(ge=1)


class Scenario(Schema):
    """A named recipe for a corpus."""

    name: str = Field(pattern=NAME)

    sample_rate: int = Field(default=16_000, ge=4000, le=192_000)
    """Of the corpus, in Hz; sources at other rates are resampled."""

    bit_depth: Literal[16, 24] = 16
    """Of the FLAC in the shards."""

    speech: str = "sample"
    noise: str = "sample"
    rirs: str = "sample"
    """Source corpora: `sample` (shipped), a folder, a manifest, a bucket prefix, or `none`. No part of the identity,
    since the source manifest's digest is."""

    pairs: str = ""
    """Recorded pairs in place of the three: a folder or bucket prefix with clean/ and noisy/. Every pair is a row, in
    order; `size` says how much there was. No part of the identity either."""

    narrow_sources: tuple[Kind, ...] = ()
    """Kinds of sources that may be recorded below `sample_rate`; of the others, such recordings are set aside. What is
    resampled up has nothing above its old band, and its mixtures are band-limited without saying so."""

    most_bad_sources: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of a kind's recordings that may be set aside as unusable before the scan fails. No part of the identity."""

    rooms: RoomBank | None = None
    """Simulated rooms beside the measured ones."""

    cases: tuple[Case, ...] = Field(min_length=1)

    rows_per_shard: int = Field(default=32, ge=1, le=10_000)

    size: Size

    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _something_happens(self) -> "Scenario":
        bare = [case.name for case in self.cases if not case.degradations]
        if bare and not self.pairs:
            raise ValueError(f"case {bare[0]!r} has no degradations; only recorded pairs need none")
        return self

    @model_validator(mode="after")
    def _case_names_unique(self) -> "Scenario":
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ValueError(f"the cases are named {', '.join(names)}; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _every_split_has_a_case(self) -> "Scenario":
        missing = [split for split in SPLITS if not any(split in case.splits for case in self.cases)]
        if missing:
            raise ValueError(f"no case comes in the split {missing[0]!r}; leave `splits` of one out, or name it there")
        return self

    @model_validator(mode="after")
    def _usable_at_the_sample_rate(self) -> "Scenario":
        for degradation in (each for case in self.cases for each in case.members):
            degradation.check(self.sample_rate)
        return self

    def case_of(self, split: Split, index: int) -> Case:
        """The case of row `index` of a split."""
        pattern = _spread(tuple(case.share if split in case.splits else 0 for case in self.cases))
        return self.cases[pattern[index % len(pattern)]]

    def identity(self) -> dict[str, Any]:
        """What makes two corpora the same: all but their size, the seed (which may be overridden) and addresses."""
        sources = {"speech", "noise", "rirs", "pairs", "most_bad_sources"}
        return self.model_dump(mode="json", exclude={"size", "seed", *sources})

    @property
    def kinds(self) -> set[Kind]:
        """Kinds of recordings the degradations choose from, beside speech."""
        values = (
            getattr(degradation, name)
            for case in self.cases
            for degradation in case.members
            for name in type(degradation).model_fields
        )
        return {value.of for value in values if isinstance(value, Choice)}


@lru_cache
def _spread(shares: tuple[int, ...]) -> tuple[int, ...]:
    """Which case each row of a cycle belongs to: each comes as often as its share says, as evenly as rows allow."""
    places = [((turn + 0.5) / share, case) for case, share in enumerate(shares) for turn in range(share)]
    return tuple(case for _, case in sorted(places))
