"""`unmuffle compare`: any number of versions on the gate corpus, ranked, with how sure the ranking is."""

from collections.abc import Sequence
from typing import Any

from components.evaluate import scored
from components.promote import looks_with, scores_beside
from components.record import version_at
from components.specs import Input
from pipelines.answer import Answer, stacked, table
from pipelines.judge import gate_asked
from simulation import storage
from simulation.cluster import cluster
from simulation.errors import BadSetting
from training.intervals import Interval
from training.ranking import Ranking, ranking
from training.tracking import Tracking


def compare(models: Sequence[str], gate_corpus: str, metric: str, use: str, store: str) -> Answer:
    """Score versions on the gate corpus, or take the scores that are there, and rank them. This counts as a look."""
    tracking = Tracking()
    found = [tracking.resolve(model, use) for model in models]
    names = list(dict.fromkeys(version_at(tracking, use, version.address).name for version in found))
    if len(names) < 2:
        raise BadSetting(
            f"{', '.join(models)} is one version. Name two or more to compare; `unmuffle models` lists them."
        )
    inputs = tuple(Input(address=version.address, sha256=version.weights_sha256) for version in found)
    with cluster():
        scorecard = scored(tuple(dict.fromkeys(inputs)), gate_asked(gate_corpus, use, store), use, store)
    result = ranking(scores_beside(scorecard.address), names, metric)
    looks_with(store, scorecard.address, f"compare-{scorecard.sha256[:16]}")
    return shown(result, storage.join(scorecard.address.rpartition("/")[0], "report.html"))


def shown(result: Ranking, report: str) -> Answer:
    """A ranking as a table."""
    from training.metrics import METRICS

    note = METRICS[result.metric]
    rows = [
        (str(place), each.system, _interval(each.mean), _interval(each.lead), f"{each.best_share:.0%}")
        for place, each in enumerate(result.places, 1)
    ]
    title = f"{result.utterances} utterances by {note.title}, {note.unit}"
    data: dict[str, Any] = result.model_dump(mode="json") | {"report": report}
    lines = [f"{result.left_out} utterances left out: some version has no value."] if result.left_out else []
    lines += [f"Listen: {report.removeprefix('file://')}"]
    columns = ("", "version", "mean [95 %]", "ahead of the next by [95 %]", "best in")
    return Answer(data, stacked(table(title, columns, rows), *lines))


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
