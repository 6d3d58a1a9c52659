"""The canary's decision: on the evidence of mirrored requests, step up, go on, or roll back. Pure.

A request that both versions answered is one look at the candidate: each check passes, fails or says nothing. What is
known of a check is two counts, and a decision may be taken after every look without its error growing, however long it
goes on:

* **Roll back** where a check has failed too often. Under "it fails on at most `tolerated` of the requests" the
  likelihood ratio against any larger share is a supermartingale, and so is the mean of several; it reaches 1/a with
  probability a at most, ever (Ville's inequality). a is `alpha` over the checks and the steps, so an acceptable
  candidate is rolled back for a check with probability `alpha` at most in the whole canary. The smallest number of
  failures that suffice follows: two or three in a row.
* **Step up** where for every check "it fails on at least `unacceptable` of the requests" is refuted at `beta` by the
  likelihood ratio for `tolerated`. A candidate that is unacceptable in any check passes a step with probability `beta`
  at most, without a correction for the number of checks, since all of them have to be passed (Berger 1982).
* **Neither within `most` requests**: the default is no.

Sources: Wald, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16, 1945; Ville, "Étude
critique de la notion de collectif", 1939; Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference",
Statistical Science 38(4), 2023.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from serving.tolerances import Tolerances
from simulation.errors import BadSetting
from simulation.schema import Schema

LARGER_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Of failing requests: the alternatives whose likelihood ratios are averaged, those above the tolerated share."""
EVERYTHING = 100.0
"""Percent."""


class Check(Schema):
    """One thing that is looked at on every mirrored request, and how often it may fail."""

    name: str
    """As in `serving.mirrored.findings`."""
    tolerated: float = Field(default=0.02, gt=0, lt=1)
    """Share of requests on which an acceptable candidate may fail it."""
    unacceptable: float = Field(default=0.1, gt=0, lt=1)
    """Share from which on a candidate must not be stepped up."""

    @model_validator(mode="after")
    def _apart(self) -> "Check":
        if self.tolerated >= self.unacceptable:
            raise ValueError(f"tolerated {self.tolerated} is not below unacceptable {self.unacceptable}")
        return self


CHECKS = (
    *(Check(name=name) for name in ("answers", "silence", "level", "clipping", "delay")),
    Check(name="speed", tolerated=0.05, unacceptable=0.2),  # a machine that is busy is slow now and then
    Check(name="quality", tolerated=0.2, unacceptable=0.45),  # one utterance's DNSMOS is noise, their sign is not
)


class Rules(Schema):
    """When a canary is stepped up, and when it is rolled back."""

    steps: tuple[float, ...] = (5.0, 25.0, 100.0)
    """Percent of the requests that the candidate answers. 0 is a shadow; 100, the last, is the promotion itself."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Risk that an acceptable candidate is rolled back for a check."""
    beta: float = Field(default=0.01, gt=0, lt=1)
    """Risk that a step lets a candidate pass that is unacceptable in some check."""
    most: int = Field(default=1000, gt=0)
    """Mirrored requests of a step after which the answer is no."""
    mirrored_percent: float = Field(default=20.0, ge=0, le=100)
    """Of all requests, beside those that it answers: the candidate is asked too, and its answer is heard by nobody."""
    patience_s: float = Field(default=24 * 3600.0, gt=0)
    """How long a step waits for requests."""
    tolerances: Tolerances = Tolerances()
    checks: tuple[Check, ...] = CHECKS

    @model_validator(mode="after")
    def _rising(self) -> "Rules":
        rising = all(0 <= low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        if len(self.steps) < 2 or not rising or self.steps[-1] != EVERYTHING:
            raise ValueError("steps are percentages that rise from 0 or more to 100, two or more, such as 5,25,100")
        return self

    @classmethod
    def of(cls, steps: str) -> "Rules":
        """From `5,25,100`, as a person types it; BadSetting says what was expected."""
        try:
            numbers = tuple(float(step) for step in steps.split(","))
        except ValueError:
            raise BadSetting(f"{steps!r} are no percentages. Expected such as --canary 5,25,100") from None
        return cls.parse({"steps": numbers}, "--canary")

    @property
    def canary_steps(self) -> tuple[float, ...]:
        """Those on which the candidate is watched."""
        return self.steps[:-1]

    @property
    def needs_quality(self) -> bool:
        """Whether DNSMOS is asked."""
        return any(check.name == "quality" for check in self.checks)

    @property
    def enough(self) -> float:
        """Evidence, as a likelihood ratio, at which one check rolls back."""
        return len(self.checks) * len(self.canary_steps) / self.alpha


class Tally(Schema):
    """What is known of one check."""

    judged: int = 0
    """Requests on which it could be told."""
    failed: int = 0
    example: str = ""
    """Of a failure: the latest."""


class Evidence(Schema):
    """What a step has seen."""

    percent: float
    mirrored: int = 0
    """Requests that both versions were asked."""
    tallies: dict[str, Tally] = Field(default_factory=dict)

    def with_one_more(self, found: Mapping[str, str]) -> "Evidence":
        """After another mirrored request."""
        tallies = dict(self.tallies)
        for name, why in found.items():
            before = tallies.get(name, Tally())
            tallies[name] = Tally(
                judged=before.judged + 1, failed=before.failed + bool(why), example=why or before.example
            )
        return Evidence(percent=self.percent, mirrored=self.mirrored + 1, tallies=tallies)


class Decision(Schema):
    """What a step came to, and why in a sentence."""

    action: Literal["go on", "step up", "roll back"]
    reason: str


def decide(evidence: Evidence, rules: Rules) -> Decision:
    """What to do on this evidence; may be asked after every request."""
    tallies = {check: evidence.tallies.get(check.name, Tally()) for check in rules.checks}
    for check, tally in tallies.items():
        if log_evidence_against(check, tally) >= np.log(rules.enough):
            return Decision(action="roll back", reason=_why(check, tally, rules))
    left = [check.name for check, tally in tallies.items() if log_evidence_for(check, tally) < -np.log(rules.beta)]
    if not left:
        passed = f"{len(rules.checks)} checks passed on {evidence.mirrored} mirrored requests"
        return Decision(action="step up", reason=f"{passed} at {evidence.percent:g} %")
    if evidence.mirrored >= rules.most:
        reason = f"{evidence.mirrored} mirrored requests at {evidence.percent:g} % do not settle {', '.join(left)}"
        return Decision(action="roll back", reason=reason)
    return Decision(action="go on", reason=f"{evidence.mirrored} mirrored requests; open: {', '.join(left)}")


def log_evidence_against(check: Check, tally: Tally) -> float:
    """Log of the mean likelihood ratio of larger shares of failures to the tolerated one."""
    larger = np.array([share for share in LARGER_SHARES if share > check.tolerated])
    ratios = _log_ratio(tally, larger, check.tolerated)
    return float(np.logaddexp.reduce(ratios) - np.log(len(larger)))


def log_evidence_for(check: Check, tally: Tally) -> float:
    """Log of the likelihood ratio of the tolerated share of failures to the unacceptable one."""
    return float(_log_ratio(tally, np.array(check.tolerated), check.unacceptable))


def _log_ratio(tally: Tally, share: np.ndarray, other: float) -> np.ndarray:
    passed = tally.judged - tally.failed
    return np.asarray(tally.failed * np.log(share / other) + passed * np.log((1 - share) / (1 - other)))


def _why(check: Check, tally: Tally, rules: Rules) -> str:
    against = np.exp(min(log_evidence_against(check, tally), 50.0))
    return (
        f"{check.name}: failed on {tally.failed} of {tally.judged} mirrored requests, where {check.tolerated:.0%} are"
        f" tolerated (evidence {against:.3g}, {rules.enough:.3g} is enough); the latest: {tally.example}"
    )
