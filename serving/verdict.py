"""The gate: candidates against an opponent, on the utterances of the gate corpus, by a written policy. Pure.

A candidate wins where it is shown to be better in the policy's main metric and shown not to be worse in the others.
Differences are paired by utterance, their intervals clustered by speaker, noise recording and room. With several
candidates, chance has several tries; Holm's procedure keeps the risk of any false winner at `alpha`: all are judged at
alpha / (candidates left), those that win leave, and the rest are judged again. Whatever is missing is a no.

Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from serving.ledger import worn_out
from serving.policy import EVERY_SLICE, Budget, Limit, Policy
from simulation.schema import Schema
from training.intervals import Bootstrap, Interval
from training.metrics import METRICS

UNPROCESSED = "unprocessed"
"""The opponent where there is no champion: the input itself."""


WAYS = ("speaker", "noise")
WAYS_IF_LABELLED = ("room",)
"""Columns by which utterances are clustered; a table need not have the latter, as not every corpus has rooms."""


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
    """Utterances outside it, or without a value."""
    n: int
    """Utterances it holds for."""
    met: bool


class BudgetCheck(Schema):
    """What became of a budget."""

    budget: Budget
    value: float | None
    """None where it was not measured."""
    met: bool


class Judgement(Schema):
    """What the gate found for one candidate."""

    candidate: str
    wins: bool
    confidence: float | None
    """Of every interval here, after Holm."""
    gain: Difference | None
    others: tuple[Difference, ...]
    slices: tuple[SliceGain, ...]
    margins: tuple[SliceCheck, ...] = ()
    limits: tuple[LimitCheck, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()
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


Facts = Mapping[str, Mapping[str, float]]
"""What was measured of each candidate beside its scores: name, then `serving.policy.Fact`."""


def verdict(
    scores: pd.DataFrame,
    champion: str | None,
    candidates: Sequence[str],
    policy: Policy,
    facts: Facts | None = None,
    looks: int = 0,
) -> Verdict:
    """Judge candidates by a table of scores: one line per `row` and `system`, with `case`, `speaker`, `noise`, metrics.

    The table is that of the gate corpus, which was looked at `looks` times, this one included. `champion` is a name in
    the column `system`; without one the candidates are held against the unprocessed input.
    """
    opponent = champion or UNPROCESSED
    bench = _Bench(scores, opponent, policy, facts or {})
    names = list(dict.fromkeys(candidates))
    complaints = {name: bench.complaint(name) for name in names}
    judged = _holm(bench, [name for name in names if complaints[name] is None])
    judgements = tuple(judged.get(name) or _refused(name, str(complaints[name])) for name in names)
    ranking = sorted(judged, key=lambda name: (-_mean(judged[name]), name))
    winner = next((name for name in ranking if judged[name].wins), None)
    return Verdict(
        policy=policy,
        opponent=opponent,
        slices=bench.slices,
        judgements=judgements,
        ranking=tuple(ranking),
        winner=winner,
        warnings=worn_out(looks, policy.alpha, policy.most_looks),
        reason=_summary(winner, judgements, opponent),
    )


def _holm(bench: "_Bench", candidates: list[str]) -> dict[str, Judgement]:
    """Judge all at alpha over how many are left, let the winners leave, and repeat until nobody wins any more."""
    left = list(candidates)
    final: dict[str, Judgement] = {}
    while left:
        confidence = 1 - bench.policy.alpha / len(left)
        judged = {name: bench.judge(name, confidence) for name in left}
        winners = [name for name in left if judged[name].wins]
        final |= judged if not winners else {name: judged[name] for name in winners}
        left = [name for name in left if name not in final]
    return final


def _refused(candidate: str, complaint: str) -> Judgement:
    return Judgement(
        candidate=candidate,
        wins=False,
        confidence=None,
        gain=None,
        others=(),
        slices=(),
        reason=f"cannot be judged: {complaint}",
    )


def _mean(judgement: Judgement) -> float:
    assert judgement.gain is not None
    return judgement.gain.interval.mean


def _summary(winner: str | None, judgements: tuple[Judgement, ...], opponent: str) -> str:
    if winner is not None:
        return f"{winner} " + next(each.reason for each in judgements if each.candidate == winner)
    each = "; ".join(f"{judgement.candidate} {judgement.reason}" for judgement in judgements)
    return f"nobody wins over {opponent}: {each or 'there are no candidates'}"


class _Bench:
    """The scores, arranged for questions about one candidate at a time."""

    def __init__(self, scores: pd.DataFrame, opponent: str, policy: Policy, facts: Facts) -> None:
        self.opponent = opponent
        self.facts = facts
        self.policy = policy
        self.metrics = (policy.metric, *(other.metric for other in policy.not_worse))
        needed = ["row", "system", "case", *WAYS, *self.metrics]
        self.absent = [column for column in needed if column not in scores.columns]
        measured = list(dict.fromkeys([*self.metrics, *(limit.metric for limit in policy.limits)]))
        numbers = scores.reindex(columns=measured).apply(pd.to_numeric, errors="coerce")
        self.scores = scores.reindex(columns=list(dict.fromkeys([*needed, *measured, *WAYS_IF_LABELLED]))).assign(
            **{name: numbers[name] for name in numbers}
        )
        self.reference = self._table(opponent)

    def _table(self, system: str) -> pd.DataFrame:
        """The utterances of one system, by row."""
        return self.scores[self.scores["system"] == system].set_index("row").sort_index()

    @cached_property
    def cases(self) -> tuple[str, ...]:
        """Every slice of the gate corpus."""
        return tuple(sorted(self.reference["case"].unique()))

    @cached_property
    def slices(self) -> tuple[str, ...]:
        """Those that decide."""
        return tuple(case for case in self.cases if case in self.policy.slices) or self.cases

    @cached_property
    def _deciding(self) -> "_Utterances":
        return _Utterances(self.reference[self.reference["case"].isin(self.slices)], self.policy.seed)

    @cached_property
    def _by_slice(self) -> "dict[str, _Utterances]":
        by_case = self.reference.groupby("case")
        return {str(case): _Utterances(rows, self.policy.seed) for case, rows in by_case}

    def complaint(self, candidate: str) -> str | None:
        """Why a candidate cannot be judged, or None."""
        table = self._table(candidate)
        if self.absent:
            return f"the scores lack the columns {', '.join(self.absent)}"
        if candidate == self.opponent:
            return "it is the opponent itself"
        if self.reference.empty or table.empty:
            return f"there are no scores of {self.opponent if self.reference.empty else candidate}"
        if self.reference.index.has_duplicates or table.index.has_duplicates:
            return "utterances were scored twice"
        if apart := len(self.reference.index.symmetric_difference(table.index)):
            return f"{apart} utterances were scored for it only or for {self.opponent} only"
        return self._failures(table) or self._too_few()

    def _failures(self, table: pd.DataFrame) -> str | None:
        for metric in self.metrics:
            failed = int((_finite(self.reference[metric]) & ~_finite(table[metric])).sum())
            if failed:
                return f"{METRICS[metric].title} failed on {failed} utterances where {self.opponent} has a value"
        return None

    def _too_few(self) -> str | None:
        for metric in self.metrics:
            scored = int(_finite(self._deciding.rows[metric]).sum())
            if scored < self.policy.minimum_utterances:
                return (
                    f"{METRICS[metric].title} has values on {scored} utterances of the deciding slices, "
                    f"fewer than the {self.policy.minimum_utterances} the policy asks for"
                )
        return None

    def judge(self, candidate: str, confidence: float) -> Judgement:
        """All numbers of one candidate, with every interval at this confidence."""
        table, policy = self._table(candidate), self.policy
        gain = self._deciding.difference(table, policy.metric, confidence, policy.minimum_gain)
        others = tuple(
            self._deciding.difference(table, other.metric, confidence, -other.margin) for other in policy.not_worse
        )
        slices = tuple(self._slice_gains(table, confidence))
        margins = tuple(self._slice_checks(table))
        limits = tuple(_limit_check(limit, table) for limit in policy.limits)
        budgets = tuple(_budget_check(budget, self.facts.get(candidate, {})) for budget in policy.budgets)
        doubts = (*_doubts(others, slices), *_objections(margins, limits, budgets))
        return Judgement(
            candidate=candidate,
            wins=gain.met and not doubts,
            confidence=confidence,
            gain=gain,
            others=others,
            slices=slices,
            margins=margins,
            limits=limits,
            budgets=budgets,
            reason=_sentence(self.opponent, gain, others, slices, doubts),
        )

    def _slice_checks(self, table: pd.DataFrame) -> Iterator[SliceCheck]:
        named = {margin.slice: margin for margin in self.policy.slice_margins}
        fallback = named.pop(EVERY_SLICE, None)
        rest = {name: fallback for name in self._by_slice if fallback is not None}
        for name, margin in (rest | named).items():
            utterances = self._by_slice.get(name)
            interval = utterances.gain(table, self.policy.metric, 1 - margin.alpha) if utterances else None
            met = interval is not None and interval.low is not None and interval.low > -margin.margin
            yield SliceCheck(slice=name, interval=interval, must_exceed=-margin.margin, met=met)

    def _slice_gains(self, table: pd.DataFrame, confidence: float) -> Iterator[SliceGain]:
        for name, utterances in self._by_slice.items():
            interval = utterances.gain(table, self.policy.metric, confidence)
            if interval is None:
                continue
            harmed = interval.high is not None and interval.high < -self.policy.harm_margin
            vetoes = harmed and self.opponent != UNPROCESSED
            yield SliceGain(slice=name, interval=interval, worse=interval.mean < 0, vetoes=vetoes)


class _Utterances:
    """Some utterances of the opponent, with one bootstrap for every comparison on them."""

    def __init__(self, rows: pd.DataFrame, seed: int) -> None:
        self.rows = rows
        clusters = [
            [None if pd.isna(label) else str(label) for label in rows[way]] for way in (*WAYS, *WAYS_IF_LABELLED)
        ]
        self._bootstrap = Bootstrap(clusters, seed)

    def gain(self, table: pd.DataFrame, metric: str, confidence: float) -> Interval | None:
        """Of a candidate's table over these utterances; None where no utterance has a value."""
        direction = 1.0 if METRICS[metric].higher_is_better else -1.0
        values = direction * (table[metric].reindex(self.rows.index) - self.rows[metric])
        return self._bootstrap.interval(values.to_numpy(dtype=np.float64), confidence)

    def difference(self, table: pd.DataFrame, metric: str, confidence: float, must_exceed: float) -> Difference:
        """The same as a requirement; some utterance has a value, or there would have been a complaint."""
        interval = self.gain(table, metric, confidence)
        assert interval is not None
        return Difference(
            metric=metric,
            interval=interval,
            left_out=len(self.rows) - interval.n,
            must_exceed=must_exceed,
            met=interval.low is not None and interval.low > must_exceed,
        )


def _limit_check(limit: Limit, table: pd.DataFrame) -> LimitCheck:
    """Count a candidate's utterances outside a limit; nothing to count is not within it."""
    values = table[table["case"].isin(limit.slices)][limit.metric] if limit.slices else table[limit.metric]
    inside = _finite(values)
    if limit.lowest is not None:
        inside &= values >= limit.lowest
    if limit.highest is not None:
        inside &= values <= limit.highest
    outside, n = int((~inside).sum()), len(values)
    return LimitCheck(limit=limit, outside=outside, n=n, met=n > 0 and outside <= limit.share * n)


def _budget_check(budget: Budget, facts: Mapping[str, float]) -> BudgetCheck:
    value = facts.get(budget.fact)
    known = value is not None and bool(np.isfinite(value))
    return BudgetCheck(
        budget=budget, value=value if known else None, met=known and value is not None and value <= budget.limit
    )


def _doubts(others: tuple[Difference, ...], slices: tuple[SliceGain, ...]) -> Iterator[str]:
    """What speaks against a candidate by comparison with the opponent."""
    yield from (f"{_title(each.metric)} may be worse" for each in others if not each.met)
    yield from (f"it harms the slice {each.slice}" for each in slices if each.vetoes)


def _objections(
    margins: tuple[SliceCheck, ...], limits: tuple[LimitCheck, ...], budgets: tuple[BudgetCheck, ...]
) -> Iterator[str]:
    """What speaks against a candidate by the policy's margins, limits and budgets."""
    for margin in margins:
        if margin.interval is None:
            yield f"the slice {margin.slice} has no scores"
        elif not margin.met:
            yield f"it may lose more than {-margin.must_exceed:g} in the slice {margin.slice}"
    for check in limits:
        if not check.met:
            low, high = check.limit.lowest, check.limit.highest
            bounds = " or ".join(
                f"{word} {bound:g}" for word, bound in (("below", low), ("above", high)) if bound is not None
            )
            yield f"{_title(check.limit.metric)} is {bounds} or missing on {check.outside} of {check.n} utterances"
    for spent in budgets:
        if spent.value is None:
            yield f"its {spent.budget.fact} was not measured"
        elif not spent.met:
            yield f"its {spent.budget.fact} of {spent.value:.3g} is above {spent.budget.limit:g}"


def _sentence(
    opponent: str,
    gain: Difference,
    others: tuple[Difference, ...],
    slices: tuple[SliceGain, ...],
    doubts: tuple[str, ...],
) -> str:
    """Won, tied or lost, by how much, and what else stands in the way or should be known."""
    numbers = ", ".join(_shown(each.metric, each.interval) for each in (gain, *others))
    worse = [f"{each.slice} ({_shown(gain.metric, each.interval)})" for each in slices if each.worse]
    if not gain.met:
        outcome = _short_of(opponent, gain)
    elif doubts:
        outcome = f"gains over {opponent}, but {' and '.join(doubts)}"
    else:
        outcome = f"wins over {opponent}"
    return f"{outcome}: {numbers}" + (f"; worse in {', '.join(worse)}" if worse else "")


def _title(metric: str) -> str:
    """As papers write it; a column that is no metric is called by its name."""
    return METRICS[metric].title if metric in METRICS else metric


def _short_of(opponent: str, gain: Difference) -> str:
    if gain.interval.high is not None and gain.interval.high < 0:
        return f"loses to {opponent}"
    if gain.interval.low is None:
        return f"has too few speakers, noises or rooms for an interval against {opponent}"
    return f"is tied with {opponent}, as the interval is not wholly above {gain.must_exceed:g}"


def _shown(metric: str, interval: Interval) -> str:
    digits, unit = (2, " dB") if METRICS[metric].unit == "dB" else (3, "")
    ends = "" if interval.low is None else f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{METRICS[metric].title} {interval.mean:+.{digits}f}{unit}{ends}"


def _finite(values: pd.Series) -> pd.Series:
    return pd.Series(np.isfinite(values.to_numpy(dtype=np.float64)), index=values.index)
