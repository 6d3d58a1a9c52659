"""The gate: candidates against an opponent, on the utterances of the gate corpus, by a written policy. Pure.

A candidate wins where it is shown to be better in the policy's main metric and shown not to be worse in the others.
Differences are paired by utterance, their intervals clustered by speaker, noise recording and room. With several
candidates, chance has several tries; Holm's procedure keeps the risk of any false winner at `alpha`: all are judged at
alpha / (candidates left), those that win leave, and the rest are judged again. Whatever is missing is a no.

Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from serving.judgement import Difference, Facts, Judgement, SliceCheck, SliceGain, Verdict
from serving.ledger import worn_out
from serving.limits import budget_check, finite, limit_check
from serving.policy import EVERY_SLICE, Policy
from serving.reasons import doubts, objections, sentence, summary, title
from training.intervals import Bootstrap, Interval
from training.metrics import METRICS
from training.sampling import SEED, averaged
from training.slices import is_harmless

__all__ = ["UNPROCESSED", "Facts", "Judgement", "Verdict", "verdict"]

UNPROCESSED = "unprocessed"
"""The opponent where there is no champion: the input itself."""


WAYS = ("speaker", "noise")
WAYS_IF_LABELLED = ("room",)
"""Columns by which utterances are clustered; a table need not have the latter, as not every corpus has rooms."""


def verdict(
    scores: pd.DataFrame,
    champion: str | None,
    candidates: Sequence[str],
    policy: Policy,
    facts: Mapping[str, Facts] | None = None,
    looks: int = 0,
) -> Verdict:
    """Judge candidates by a table of scores: one line per `row` and `system`, with `case`, `speaker`, `noise`, metrics.

    A stochastic system may have several lines for a row, told apart by the column `seed`: their scores are averaged
    before rows are paired, and each of them is held to the limits. Rows of the do-no-harm slices are for limits only.
    The table is that of the gate corpus, which was looked at `looks` times, this one included. `champion` is a name in
    the column `system`; without one the candidates are held against the unprocessed input. `facts` says what the
    candidates cost, by name.
    """
    opponent = champion or UNPROCESSED
    bench = _Bench(scores, opponent, policy, facts or {})
    names = list(dict.fromkeys(candidates))
    complaints = {name: bench.complaint(name) for name in names}
    judged = _holm(bench, [name for name in names if complaints[name] is None])
    judgements = tuple(judged.get(name) or bench.refused(name, str(complaints[name])) for name in names)
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
        reason=summary(winner, judgements, opponent),
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


def _mean(judgement: Judgement) -> float:
    assert judgement.gain is not None
    return judgement.gain.interval.mean


class _Bench:
    """The scores, arranged for questions about one candidate at a time."""

    def __init__(self, scores: pd.DataFrame, opponent: str, policy: Policy, facts: Mapping[str, Facts]) -> None:
        self.opponent = opponent
        self.facts = facts
        self.policy = policy
        self.metrics = (policy.metric, *(other.metric for other in policy.not_worse))
        needed = ["row", "system", "case", *WAYS, *self.metrics]
        self.absent = [column for column in needed if column not in scores.columns]
        measured = list(dict.fromkeys([*self.metrics, *(limit.metric for limit in policy.limits)]))
        columns = dict.fromkeys([*needed, *measured, *WAYS_IF_LABELLED, SEED])
        self.outputs = scores.reindex(columns=list(columns)).assign(
            **{name: pd.to_numeric(scores[name], errors="coerce") for name in measured if name in scores}
        )
        """Every output of every system, numbers as numbers."""
        self.scores = averaged(self.outputs[~is_harmless(self.outputs["case"])], measured)
        """One line for each row and system, of the corpus itself."""
        self.reference = self._table(opponent)

    def _table(self, system: str) -> pd.DataFrame:
        """The utterances of one system, by row."""
        return self.scores[self.scores["system"] == system].set_index("row").sort_index()

    def _outputs(self, system: str) -> pd.DataFrame:
        """What it made of the corpus and of the rows to do no harm on."""
        return self.outputs[self.outputs["system"] == system]

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
        table, ours, theirs = self._table(candidate), self._outputs(candidate), self._outputs(self.opponent)
        if self.absent:
            return f"the scores lack the columns {', '.join(self.absent)}"
        if candidate == self.opponent:
            return "it is the opponent itself"
        if self.reference.empty or table.empty:
            return f"there are no scores of {self.opponent if self.reference.empty else candidate}"
        if any(outputs.duplicated(["row", SEED]).any() for outputs in (ours, theirs)):
            return "utterances were scored twice"
        if apart := len(set(ours["row"]) ^ set(theirs["row"])):
            return f"{apart} utterances were scored for it only or for {self.opponent} only"
        return self._failures(table) or self._too_few()

    def _failures(self, table: pd.DataFrame) -> str | None:
        for metric in self.metrics:
            failed = int((finite(self.reference[metric]) & ~finite(table[metric])).sum())
            if failed:
                return f"{title(metric)} failed on {failed} utterances where {self.opponent} has a value"
        return None

    def _too_few(self) -> str | None:
        for metric in self.metrics:
            scored = int(finite(self._deciding.rows[metric]).sum())
            if scored < self.policy.minimum_utterances:
                return (
                    f"{title(metric)} has values on {scored} utterances of the deciding slices, "
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
        doubtful = tuple(doubts(others, slices, margins))
        checks = self._checks(candidate)
        objected = tuple(objections(checks["limits"], checks["budgets"]))
        return Judgement(
            candidate=candidate,
            wins=gain.met and not doubtful and not objected,
            confidence=confidence,
            gain=gain,
            others=others,
            slices=slices,
            margins=margins,
            **checks,
            reason=sentence(self.opponent, gain, others, slices, doubtful, objected),
        )

    def refused(self, candidate: str, complaint: str) -> Judgement:
        """A candidate that cannot be compared; limits and budgets that it breaks may be why, and are named."""
        checks = self._checks(candidate) if len(self._outputs(candidate)) else {}
        broken = [f"cannot be judged: {complaint}", *objections(checks.get("limits", ()), checks.get("budgets", ()))]
        return Judgement(
            candidate=candidate,
            wins=False,
            confidence=None,
            gain=None,
            others=(),
            slices=(),
            **checks,
            reason=" and ".join(broken),
        )

    def _checks(self, candidate: str) -> dict[str, Any]:
        """What needs no opponent."""
        facts = self.facts.get(candidate, Facts())
        outputs, unprocessed = self._outputs(candidate), self._outputs(UNPROCESSED)
        return {
            "limits": tuple(limit_check(limit, outputs, unprocessed) for limit in self.policy.limits),
            "budgets": tuple(budget_check(budget, facts) for budget in self.policy.budgets),
            "facts": facts,
        }

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
