"""Policies: what it takes to become champion, as named, versioned configuration.

Every requirement has to be met, and each is tested at its own alpha without a correction for their number: a candidate
that fails one of them in truth passes the whole no more often than it passes that one.

Source: Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24(4), 1982.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from simulation import storage
from simulation.errors import UnknownName
from simulation.schema import Schema
from training.metrics import METRICS
from training.registry import known_use
from training.scorecard import LABEL_NUMBERS

EVERY_SLICE = "*"


class NotWorse(Schema):
    """A metric in which a winner must not lose more than a margin."""

    metric: str
    margin: float
    """In the unit of the metric; the whole interval of the difference must lie above minus this."""


class SliceMargin(Schema):
    """A slice in which a winner must be shown not to lose more than a margin of the main metric."""

    slice: str
    """Its name, or "*" for every slice that is not named. A named one that the corpus lacks is a no."""
    margin: float
    """In the unit of the main metric; the whole interval at 1 - `alpha` must lie above minus this."""
    alpha: float = 0.05
    """Two-sided: a loss of just the margin passes in half of it."""


class Limit(Schema):
    """Do no harm: a range which a metric must not leave, whatever is gained elsewhere."""

    metric: str
    """A column of the scores."""
    lowest: float | None = None
    highest: float | None = None
    """In the unit of the metric."""
    share: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Of the utterances, how many may lie outside.

    One without a value lies outside, unless the unprocessed input has none there either: polarity is not asked of
    silence.
    """
    slices: tuple[str, ...] = ()
    """Where it holds; empty: in every slice but the do-no-harm ones, which have to be named."""

    @model_validator(mode="after")
    def _bounded(self) -> "Limit":
        if self.lowest is None and self.highest is None:
            raise ValueError("a limit without lowest and highest limits nothing")
        return self


Fact = Literal["real_time_factor", "size_mb", "memory_mb", "latency_ms"]
"""Seconds of computing per second of audio on one thread; 10^6 bytes of weights; 10^6 bytes of peak memory;
algorithmic latency in ms."""


class Budget(Schema):
    """What a version may cost."""

    fact: Fact
    limit: float
    """The highest that is allowed. A fact that nobody measured is a no."""


class Policy(Schema):
    """What it takes to become champion. A change of any number is a new revision."""

    name: str
    revision: int
    metric: str = "si_sdr"
    """The main metric: it decides who wins, and who wins by most."""
    minimum_gain: float = 0.1
    """In the unit of the main metric; the whole interval of the gain must lie above it."""
    not_worse: tuple[NotWorse, ...] = ()
    slices: tuple[str, ...] = ()
    """The slices that decide, pooled. None of them in the gate corpus, or none named: all slices decide."""
    harm_margin: float = 1.0
    """Against a champion, a slice whose whole interval in the main metric lies below minus this vetoes the winner.

    The unprocessed input has no such veto: a first champion that harms a slice is better than none, and is shown so.
    """
    slice_margins: tuple[SliceMargin, ...] = ()
    """Unlike `harm_margin`, these ask for proof that nothing was lost, and against the unprocessed input too."""
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    alpha: float = 0.05
    """Risk that any candidate of a run wins by chance (two-sided, so intervals of a single candidate are at 95 %)."""
    minimum_utterances: int = 30
    most_looks: int = 20
    """At so many looks at one gate corpus the verdict warns that it wears out; reasons in `serving/ledger.py`."""
    seed: int = 0
    """Of the bootstrap."""


UNTOUCHED = ("harmless_clean", "harmless_high_snr")
"""Slices with nothing, or almost nothing, to take away."""
LONG = ("harmless_long_60s", "harmless_enhanced")
"""Noisy input that is unlike what networks are trained on: a minute at once, and what another system has been at."""


def do_no_harm(louder_share: float) -> tuple[Limit, ...]:
    """What a version must never do, whatever it gains; `louder_share` of clean utterances may change their loudness.

    muted       a tenth of the speech frames gone is a lost word in a short sentence; in clean speech nothing may go.
    polarity    flipped is wrong however little of it is heard: mixed with the original it cancels.
    delay       outputs are aligned sample by sample, so any delay is a fault; noisy rows get 5 ms, as correlation may
                lock on to a neighbouring period of a high voice, clean ones 1 ms. 20 ms is heard as an echo.
    loudness    3 LU is twice the power. On noisy rows the noise that goes or stays moves it too, hence 4.5 LU, which a
                gain of 6 dB still breaks, and a quarter of the rows may lie outside.
    level_drift where the input is clean, pumping of 3 dB is the system's own.
    clipping    one sample in a thousand is audible as crackle.
    On noisy rows a share of 5 % is left to metrics that err: a fault of the system is on all rows, or on many.
    """
    noisy: dict[str, Any] = {"share": 0.05}
    clean: dict[str, Any] = {"slices": UNTOUCHED}
    long: dict[str, Any] = {"slices": LONG}
    return (
        Limit(metric="muted", highest=0.1, **noisy),
        Limit(metric="polarity", lowest=0.0, **noisy),
        Limit(metric="delay", highest=5.0, **noisy),
        Limit(metric="loudness_error", highest=4.5, share=0.25),
        Limit(metric="clipping", highest=0.001, **noisy),
        Limit(metric="muted", highest=0.02, **clean),
        Limit(metric="polarity", lowest=0.0, **clean),
        Limit(metric="delay", highest=1.0, **clean),
        Limit(metric="loudness_error", highest=3.0, share=louder_share, **clean),
        Limit(metric="level_drift", highest=3.0, **clean),
        Limit(metric="clipping", highest=0.001, **clean),
        Limit(metric="muted", highest=0.1, **long),
        Limit(metric="polarity", lowest=0.0, **long),
        Limit(metric="delay", highest=5.0, **long),
        Limit(metric="clipping", highest=0.001, **long),
        Limit(metric="clipping", highest=0.001, slices=("harmless_silence",)),
    )


DENOISE = Policy(
    name="denoise-16k",
    revision=2,
    not_worse=(NotWorse(metric="pesq", margin=0.05), NotWorse(metric="stoi", margin=0.005)),
    slices=("noise",),
    limits=do_no_harm(louder_share=0.25),
)
"""For a first champion too, which was trained for minutes: one clean utterance in four may change its loudness."""
FULLBAND = Policy(
    name="fullband-48k",
    revision=2,
    not_worse=(NotWorse(metric="lsd", margin=0.1), NotWorse(metric="stoi", margin=0.005)),
    limits=do_no_harm(louder_share=0.25),
)
QUALITY = Policy(
    name="quality",
    revision=2,
    not_worse=(NotWorse(metric="pesq", margin=0.05), NotWorse(metric="stoi", margin=0.005)),
    slice_margins=(SliceMargin(slice=EVERY_SLICE, margin=1.0),),
    limits=do_no_harm(louder_share=0.0),
)
"""For listening: better over all slices, shown not to be 1 dB worse in any of them, and harmless to every clean
utterance."""
REALTIME = QUALITY.model_copy(
    update={
        "name": "realtime",
        "budgets": (
            Budget(fact="real_time_factor", limit=0.5),
            Budget(fact="latency_ms", limit=40.0),
            Budget(fact="memory_mb", limit=1_000.0),
            Budget(fact="size_mb", limit=50.0),
        ),
    }
)
"""For a conversation: as `quality`, within budgets of one thread. 40 ms of algorithmic latency is what the DNS
Challenge allows (Reddy et al., ICASSP 2021); half of a thread is left for what else runs there."""

POLICIES = {policy.name: policy for policy in (DENOISE, FULLBAND, QUALITY, REALTIME)}
"""By name; the one that is named after a use is the use's own."""


def policy_for(use: str, name: str = "") -> Policy:
    """The policy of a use, the one of this name, or the one in this JSON file (a path or an address).

    UnknownName for a use, a policy or a metric that does not exist, BadSetting for a file that holds no policy.
    """
    known_use(use)
    if is_file(name):
        return _known_metrics(Policy.parse(storage.read(storage.normal(name)), name))
    if name and name not in POLICIES:
        raise UnknownName("policy", name, POLICIES)
    return POLICIES[name or use]


def is_file(name: str) -> bool:
    """Whether somebody means a policy of their own."""
    return "/" in name or name.endswith(".json")


def _known_metrics(policy: Policy) -> Policy:
    """The policy, once every metric in it is known to exist: a misspelt one would be a no for ever."""
    for name in (policy.metric, *(each.metric for each in policy.not_worse)):
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
    for limit in policy.limits:
        if limit.metric not in (*METRICS, *LABEL_NUMBERS):
            raise UnknownName("metric", limit.metric, [*METRICS, *LABEL_NUMBERS])
    return policy


def metrics_of(policy: Policy) -> tuple[str, ...]:
    """The metrics that a gate by this policy reads, the main one first: what an evaluation has to score for it."""
    named = (policy.metric, *(each.metric for each in policy.not_worse), *(each.metric for each in policy.limits))
    return tuple(dict.fromkeys(name for name in named if name in METRICS))
