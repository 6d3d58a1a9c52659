"""`unmuffle compare` and `unmuffle aa`: versions on the gate corpus, ranked; and how often the gate errs on it."""

from collections.abc import Sequence
from typing import Any

from components.evaluate import scored
from components.promote import looks_with, scores_beside
from components.record import version_at
from components.specs import Input
from pipelines.answer import Answer, line, stacked, table
from pipelines.judge import gate_asked
from serving.ledger import worn_out
from serving.policy import Policy, policy_for
from serving.relabelling import AA, Rate, aa
from simulation import storage
from simulation.cluster import cluster
from simulation.errors import BadSetting
from training.intervals import Interval
from training.metrics import METRICS
from training.ranking import Ranking, ranking
from training.registry import Version
from training.tracking import Tracking


def compare(models: Sequence[str], gate_corpus: str, metric: str, use: str, store: str, policy: str = "") -> Answer:
    """Score versions on the gate corpus, or take the scores that are there, and rank them. This counts as a look.

    By `metric`, else by the main one of the policy (a name or a file; empty: the use's own).
    """
    judged_by, versions = policy_for(use, policy), _versions(models, use)
    if len(versions) < 2:
        raise BadSetting(
            f"{', '.join(models)} is one version. Name two or more to compare; `unmuffle models` lists them."
        )
    scorecard = _scored(versions, gate_corpus, use, store, policy)
    names = [version.name for version in versions]
    result = ranking(scores_beside(scorecard.address), names, metric or judged_by.metric, judged_by.seed)
    seen = looks_with(store, scorecard.address, f"compare-{scorecard.sha256[:16]}")
    return shown(result, _page(scorecard), _worn(judged_by, seen))


def false_promotions(models: Sequence[str], gate_corpus: str, use: str, store: str, policy: str = "") -> Answer:
    """Two seeds of one recipe through the gate, and how often it would err between them. This counts as a look.

    `models` are two versions, or one name of a recipe: its two newest versions that were trained on the same corpus.
    """
    judged_by = policy_for(use, policy)
    first, second = _seeds(models, use)
    scorecard = _scored((first, second), gate_corpus, use, store, policy)
    result = aa(scores_beside(scorecard.address), first.name, second.name, judged_by)
    seen = looks_with(store, scorecard.address, f"aa-{scorecard.sha256[:16]}")
    return shown_aa(result, _page(scorecard), _worn(judged_by, seen))


def shown(result: Ranking, report: str, warnings: Sequence[str] = ()) -> Answer:
    """A ranking as a table."""
    note = METRICS[result.metric]
    rows = [
        (str(place), each.system, _interval(each.mean), _interval(each.lead), f"{each.best_share:.0%}")
        for place, each in enumerate(result.places, 1)
    ]
    title = f"{result.utterances} utterances by {note.title}, {note.unit}"
    data: dict[str, Any] = result.model_dump(mode="json") | {"report": report, "warnings": list(warnings)}
    lines = [f"{result.left_out} utterances left out: some version has no value."] if result.left_out else []
    lines += [f"Warning: {warning}" for warning in warnings]
    columns = ("", "version", "mean [95 %]", "ahead of the next by [95 %]", "best in")
    return Answer(data, stacked(table(title, columns, rows), *lines, line(f"Listen: {report.removeprefix('file://')}")))


def shown_aa(result: AA, report: str, warnings: Sequence[str] = ()) -> Answer:
    """An A-A report as a table."""
    (judgement,) = result.verdict.judgements
    first, second = result.verdict.opponent, judgement.candidate
    rows = [
        ("promoted by chance", _rate(result.promotions), str(result.promotions.count)),
        ("gain claimed by chance", _rate(result.gains), str(result.gains.count)),
    ]
    title = f"{first} and {second}, names swapped at random {result.repeats} times ({result.speakers} speakers)"
    lines = [
        f"As they are: {second} {judgement.reason}",
        f"By the policy {result.verdict.policy.name}, revision {result.verdict.policy.revision}; budgets left out.",
        *(f"Warning: {warning}" for warning in warnings),
    ]
    data = result.model_dump(mode="json") | {"report": report, "warnings": list(warnings)}
    columns = ("", "rate [95 %]", f"of {result.repeats}")
    return Answer(data, stacked(table(title, columns, rows), *lines, line(f"Listen: {report.removeprefix('file://')}")))


def _versions(models: Sequence[str], use: str) -> list[Version]:
    """The versions that were named, each once."""
    tracking = Tracking()
    found = [version_at(tracking, use, tracking.resolve(model, use).address) for model in models]
    return list({version.name: version for version in found}.values())


def _seeds(models: Sequence[str], use: str) -> tuple[Version, Version]:
    """Two versions of one recipe."""
    found = _newest_two(models[0], use) if len(models) == 1 else _versions(models, use)
    if len(found) != 2:
        raise BadSetting(
            f"{', '.join(models)} are not two versions. Name two seeds of one recipe, or a recipe that was trained "
            "twice; `unmuffle train RECIPE --corpus ADDRESS --again 1` trains with the next seed."
        )
    recipes = [version.tags.get("recipe", version.network) for version in found]
    if recipes[0] != recipes[1]:
        raise BadSetting(
            f"{found[0].name} is of the recipe {recipes[0]}, {found[1].name} of {recipes[1]}. A-A asks how often the "
            "gate errs between two seeds of one recipe; `unmuffle compare` ranks different ones."
        )
    if len({version.tags.get("corpus_digest") for version in found}) > 1:
        raise BadSetting(
            f"{found[0].name} and {found[1].name} were trained on different corpora; A-A needs one corpus, two seeds."
        )
    if found[0].weights_sha256 == found[1].weights_sha256:
        raise BadSetting(f"{found[0].name} and {found[1].name} have equal weights: train one with another seed.")
    return found[0], found[1]


def _newest_two(recipe: str, use: str) -> list[Version]:
    """Of a recipe, on the corpus of the newest."""
    known = [version for version in Tracking().versions(use) if version.tags.get("recipe") == recipe]
    return [version for version in known if version.tags["corpus_digest"] == known[-1].tags["corpus_digest"]][-2:]


def _scored(versions: Sequence[Version], gate_corpus: str, use: str, store: str, policy: str) -> Input:
    inputs = tuple(Input(address=version.address, sha256=version.weights_sha256) for version in versions)
    with cluster():
        return scored(inputs, gate_asked(gate_corpus, use, store), use, store, policy=policy)


def _page(scorecard: Input) -> str:
    return storage.join(scorecard.address.rpartition("/")[0], "report.html")


def _worn(policy: Policy, looks: int) -> tuple[str, ...]:
    return worn_out(looks, policy.alpha, policy.most_looks)


def _rate(rate: Rate) -> str:
    return f"{rate.share:.1%} [{rate.low:.1%}, {rate.high:.1%}]"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
