"""A judgement in words: won, tied or lost, by how much, and what else stands in the way or should be known."""

from collections.abc import Iterator, Sequence

from serving.judgement import BudgetCheck, Difference, Judgement, LimitCheck, SliceCheck, SliceGain
from training.intervals import Interval
from training.metrics import METRICS


def summary(winner: str | None, judgements: Sequence[Judgement], opponent: str) -> str:
    """The verdict in a sentence."""
    if winner is not None:
        return f"{winner} " + next(each.reason for each in judgements if each.candidate == winner)
    each = "; ".join(f"{judgement.candidate} {judgement.reason}" for judgement in judgements)
    return f"nobody wins over {opponent}: {each or 'there are no candidates'}"


def doubts(others: Sequence[Difference], slices: Sequence[SliceGain], margins: Sequence[SliceCheck]) -> Iterator[str]:
    """What speaks against a candidate by comparison with the opponent."""
    yield from (f"{title(each.metric)} may be worse" for each in others if not each.met)
    yield from (f"it harms the slice {each.slice}" for each in slices if each.vetoes)
    for margin in margins:
        if margin.interval is None:
            yield f"the slice {margin.slice} has no scores"
        elif not margin.met:
            yield f"it may lose more than {-margin.must_exceed:g} in the slice {margin.slice}"


def objections(limits: Sequence[LimitCheck], budgets: Sequence[BudgetCheck]) -> Iterator[str]:
    """What speaks against a candidate whoever the opponent is: the limits and budgets that it does not keep."""
    for check in limits:
        if not check.met:
            limit = check.limit
            ends = (("below", limit.lowest), ("above", limit.highest))
            bounds = " or ".join(f"{word} {bound:g}" for word, bound in ends if bound is not None)
            where = f" in {', '.join(limit.slices)}" if limit.slices else ""
            yield f"{title(limit.metric)} is {bounds} or missing on {check.outside} of {check.n} utterances{where}"
    for spent in budgets:
        found = "was not measured" if spent.value is None else f"of {plain(spent.value)} is above"
        highest = "" if spent.value is None else f" {plain(spent.budget.limit)}"
        if not spent.met:
            yield f"its {spent.budget.fact} {found}{highest}"


def sentence(
    opponent: str,
    gain: Difference,
    others: Sequence[Difference],
    slices: Sequence[SliceGain],
    doubtful: Sequence[str],
    objected: Sequence[str],
) -> str:
    """The reason for one candidate."""
    numbers = ", ".join(_shown(each.metric, each.interval) for each in (gain, *others))
    worse = [f"{each.slice} ({_shown(gain.metric, each.interval)})" for each in slices if each.worse]
    against = " and ".join([*doubtful, *objected])
    if not gain.met:
        outcome = " and ".join([_short_of(opponent, gain), *objected])
    elif against:
        outcome = f"gains over {opponent}, but {against}"
    else:
        outcome = f"wins over {opponent}"
    return f"{outcome}: {numbers}" + (f"; worse in {', '.join(worse)}" if worse else "")


def title(metric: str) -> str:
    """As papers write it; a column that is no metric is called by its name."""
    return METRICS[metric].title if metric in METRICS else metric


def plain(value: float) -> str:
    """Three digits at least, never with an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _short_of(opponent: str, gain: Difference) -> str:
    if gain.interval.high is not None and gain.interval.high < 0:
        return f"loses to {opponent}"
    if gain.interval.low is None:
        return f"has too few speakers, noises or rooms for an interval against {opponent}"
    return f"is tied with {opponent}, as the interval is not wholly above {gain.must_exceed:g}"


def _shown(metric: str, interval: Interval) -> str:
    digits, unit = (2, " dB") if METRICS[metric].unit == "dB" else (3, "")
    ends = "" if interval.low is None else f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{title(metric)} {interval.mean:+.{digits}f}{unit}{ends}"
