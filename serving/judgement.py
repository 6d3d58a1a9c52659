"""What a gate found: every number behind its verdict, as it is kept, shown and read by machines."""

from serving.policy import Budget, Limit, Policy
from simulation.schema import Schema
from training.intervals import Interval


class Difference(Schema):
    """Candidate minus opponent in one metric, turned so that more is better, over the slices that decide."""

    metric: str
    interval: Interval
    """At the judgement's confidence."""
    left_out: int
    """Utterances of these slices on which the opponent has no value."""
    must_exceed: float
    """The whole interval has to lie above this; `met` says whether it does."""
    met: bool


class SliceGain(Schema):
    """The gain in the main metric in one slice; worse slices are shown whatever the verdict."""

    slice: str
    interval: Interval
    worse: bool
    """The mean is below 0."""
    vetoes: bool


class SliceCheck(Schema):
    """What became of a slice's margin."""

    slice: str
    interval: Interval | None
    """Of the gain in the main metric at 1 - alpha of the margin; None where the corpus has no such slice."""
    must_exceed: float
    met: bool


class LimitCheck(Schema):
    """What became of a do-no-harm limit."""

    limit: Limit
    outside: int
    """Outputs outside it, or without a value."""
    n: int
    """Outputs it holds for: one an utterance, or one for each sampling seed of it."""
    excused: int = 0
    """Outputs that are not in `n`, as the unprocessed input has no value there either."""
    worst: float | None = None
    """The value that lies furthest outside, or nearest to it; None where there is none."""
    met: bool


class BudgetCheck(Schema):
    """What became of a budget."""

    budget: Budget
    value: float | None
    """None where it was not measured."""
    met: bool


class Facts(Schema):
    """What a version costs, and on which machine that was measured; None: nobody did. Units as `policy.Fact`."""

    real_time_factor: float | None = None
    latency_ms: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None
    machine: str = ""


class Judgement(Schema):
    """What the gate found for one candidate."""

    candidate: str
    wins: bool
    confidence: float | None
    """Of every interval here, after Holm; None where it could not be judged."""
    gain: Difference | None
    others: tuple[Difference, ...]
    slices: tuple[SliceGain, ...]
    margins: tuple[SliceCheck, ...] = ()
    limits: tuple[LimitCheck, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()
    facts: Facts = Facts()
    """All that was measured beside the scores, with a budget or without."""
    reason: str
    """One sentence."""


class Verdict(Schema):
    """Who becomes champion, if anybody, and every number behind it."""

    policy: Policy
    opponent: str
    slices: tuple[str, ...]
    """The slices that decided."""
    judgements: tuple[Judgement, ...]
    ranking: tuple[str, ...]
    """Candidates that could be judged, best first by the mean of the main metric."""
    winner: str | None
    warnings: tuple[str, ...] = ()
    reason: str
