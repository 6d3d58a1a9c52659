"""What the page says of a version's quality: a few lines of the scorecard by which it was promoted, kept beside it."""

from serving.verdict import Verdict
from simulation import storage
from simulation.errors import NotThere
from simulation.schema import Schema
from training.registry import Version
from training.scorecard import REFERENCE, Scorecard
from training.slices import OVERALL


class Line(Schema):
    """One metric over the whole gate corpus."""

    title: str
    unit: str
    higher_is_better: bool
    version: float | None
    """Mean of the version; None where nothing could be scored."""
    low: float | None
    high: float | None
    """Of its interval."""
    unprocessed: float | None
    """Mean of the input itself."""


class Scores(Schema):
    """Of one version."""

    version: str
    """As people call it: `dm/3`."""
    corpus_digest: str
    rows: int
    """Utterances that were scored."""
    lines: tuple[Line, ...]
    verdict: str
    """Why it was promoted, in a sentence."""


def scores_of(version: Version, scorecard: Scorecard, verdict: Verdict) -> Scores:
    """The lines of this version; it has to be one of the scorecard's systems."""
    lines = []
    for metric in scorecard.metrics:
        mean, before = (scorecard.score(system, OVERALL, metric.name).mean for system in (version.name, REFERENCE))
        lines.append(
            Line(
                title=metric.title,
                unit=metric.unit,
                higher_is_better=metric.higher_is_better,
                version=mean.mean if mean else None,
                low=mean.low if mean else None,
                high=mean.high if mean else None,
                unprocessed=before.mean if before else None,
            )
        )
    return Scores(
        version=version.name,
        corpus_digest=scorecard.corpus_digest,
        rows=scorecard.rows,
        lines=tuple(lines),
        verdict=verdict.reason,
    )


def keep(store: str, use: str, weights_sha256: str, scores: Scores) -> None:
    """Where a service finds it that knows nothing but its version."""
    storage.replace(_address(store, use, weights_sha256), scores.canonical())


def kept(store: str, use: str, weights_sha256: str) -> Scores | None:
    """Of the version with these weights; None where it was never promoted."""
    address = _address(store, use, weights_sha256)
    try:
        return Scores.parse(storage.read(address), address)
    except NotThere:
        return None


def _address(store: str, use: str, weights_sha256: str) -> str:
    return storage.join(store, "promotions", use, "scores", f"{weights_sha256[:16]}.json")
