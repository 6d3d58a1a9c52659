"""The verdict as a page: one self-contained HTML file with who wins, why, and every number behind it."""

from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

import jinja2

from serving.judgement import BudgetCheck, Difference, Facts, Judgement, LimitCheck, SliceCheck, Verdict
from serving.policy import Policy
from serving.reasons import plain, title
from training.intervals import Interval
from training.metrics import METRICS

UNITS = {"real_time_factor": "on one thread", "latency_ms": "ms", "memory_mb": "MB at the peak", "size_mb": "MB"}
MEASURES = ("dB", "LU", "ms")
"""Units that are written behind a number; the others are scales, which the metric's definition explains."""


class Line(NamedTuple):
    """One requirement."""

    what: str
    found: str
    wanted: str
    note: str
    met: bool


def page(verdict: Verdict) -> bytes:
    """UTF-8; nothing in it is loaded from anywhere."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files("serving").joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    judged = [
        {
            "judgement": each,
            "requirements": list(_requirements(each, verdict.policy)),
            "limits": [_limit(check) for check in each.limits],
            "kept": sum(check.met for check in each.limits),
            "slices": [(part, _signed(verdict.policy.metric, part.interval)) for part in each.slices],
            "facts": list(_facts(each.facts)),
        }
        for each in verdict.judgements
    ]
    template = environment.get_template("verdict.html.j2")
    return template.render(verdict=verdict, judged=judged, metric=title(verdict.policy.metric)).encode()


def _requirements(judgement: Judgement, policy: Policy) -> Iterator[Line]:
    """In the order in which a reader asks; of the many limits only those that were not kept."""
    if judgement.gain is not None:
        yield _compared(judgement.gain, "better in")
    yield from (_compared(each, "not worse in") for each in judgement.others)
    yield from (_margin(each, policy) for each in judgement.margins)
    yield from (_limit(each) for each in judgement.limits if not each.met)
    yield from (_budget(each) for each in judgement.budgets)


def _compared(difference: Difference, how: str) -> Line:
    left_out = f"{difference.left_out} left out" if difference.left_out else ""
    found, wanted = _signed(difference.metric, difference.interval), f"all of it above {difference.must_exceed:g}"
    return Line(f"{how} {title(difference.metric)}", found, wanted, left_out, difference.met)


def _margin(check: SliceCheck, policy: Policy) -> Line:
    found = "no scores" if check.interval is None else _signed(policy.metric, check.interval)
    what = f"no loss in the slice {check.slice}"
    return Line(what, found, f"all of it above {check.must_exceed:g}", title(policy.metric), check.met)


def _limit(check: LimitCheck) -> Line:
    limit = check.limit
    ends = (("at least", limit.lowest), ("at most", limit.highest))
    unit = METRICS[limit.metric].unit if limit.metric in METRICS else ""
    unit = f" {unit}" if unit in MEASURES else ""
    wanted = ", ".join(f"{word} {bound:g}{unit}" for word, bound in ends if bound is not None)
    wanted += f" on {1 - limit.share:.0%}" if limit.share else " on all"
    worst = "" if check.worst is None else f", worst {plain(check.worst)}{unit}"
    found = f"{check.outside} of {check.n} outside{worst}"
    excused = f"; {check.excused} cannot have a value" if check.excused else ""
    where = ", ".join(limit.slices) or "the slices of the corpus"
    return Line(f"do no harm: {title(limit.metric)}", found, wanted, where + excused, check.met)


def _budget(check: BudgetCheck) -> Line:
    fact = check.budget.fact
    found = "not measured" if check.value is None else plain(check.value)
    return Line(f"budget: {fact}", found, f"at most {plain(check.budget.limit)}", UNITS[fact], check.met)


def _facts(facts: Facts) -> Iterator[tuple[str, str]]:
    for name, unit in UNITS.items():
        value = getattr(facts, name)
        yield name, "not measured" if value is None else f"{plain(value)} {unit}"


def _signed(metric: str, interval: Interval) -> str:
    digits = 2 if metric in METRICS and METRICS[metric].unit == "dB" else 3
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+.{digits}f} (no interval)"
    return f"{interval.mean:+.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
