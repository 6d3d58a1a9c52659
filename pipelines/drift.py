"""Drift: what is asked has left what the champion was trained on, and which weights of its cases would answer that.

The requests' fingerprints of the last days are compared with those of the champion's corpus, measured in the same way.
Where one of the measures has left it, the scenario is proposed again with other shares of its cases: those whose
mixture comes nearest to the requests. The gate corpus stays as it is pinned, so the bar does not move.
"""

import math
import time
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
from scipy.optimize import nnls

from components.simulate import chosen
from pipelines.request import Request
from pipelines.trace import corpus_of
from serving.fingerprints import EDGES, Counts, asked_since, fingerprint
from simulation import storage
from simulation.errors import BadAudio, BadSetting, NothingNew
from simulation.scenario import Case, Scenario
from simulation.schema import Schema
from simulation.virtual import open_corpora
from training.tracking import Tracking

DAYS = 7
"""Of requests that are looked at."""
LEAST_RECORDINGS = 200
"""With fewer, nothing is said."""
TOLERANCE = 0.2
"""Largest difference of two cumulative shares that is no drift; a measure all of whose values moved has 1."""
ALPHA = 0.001
"""Risk of calling chance a drift: a look is taken every day, at four measures."""
ROWS = 400
"""Of a corpus that are measured, spread over its train split."""
PARTS = 20
"""Shares are proposed in so many parts."""
NEAR = 0.1
"""Shares that differ by no more are the same proposal: requests are not quite alike from night to night."""
SUFFIX = "_reweighted"


class CaseCounts(Schema):
    """Fingerprints of a corpus, by case."""

    cases: dict[str, Counts]


def answering_drift(request: Request, store: str, tracking: Tracking, now_s: float | None = None) -> Request:
    """The request over a scenario whose shares answer the drift of its use; NothingNew where there is none.

    BadSetting where no champion of ours serves, or other shares would not come nearer.
    """
    first_day = time.strftime("%Y-%m-%d", time.gmtime((now_s or time.time()) - DAYS * 86_400))
    asked = asked_since(store, request.use, first_day)
    if asked.recordings < LEAST_RECORDINGS:
        raise NothingNew(
            f"{asked.recordings} recordings of {request.use} were measured since {first_day}; {LEAST_RECORDINGS} are"
            " needed to say anything of drift."
        )
    corpus, cases = _of_champion(request.use, store, tracking)
    found = drift(asked, Counts.together(cases.values()))
    if not found:
        raise NothingNew(f"No drift: {asked.recordings} recordings since {first_day} are as the champion's corpus is.")
    scenario = reweighted(chosen(request.scenario), cases, asked)
    if scenario is None:
        left = ", ".join(f"{name} by {distance:.2f}" for name, distance in found.items())
        raise BadSetting(
            f"The requests of {request.use} left the champion's corpus ({left}), and no other shares of the"
            f" cases of {request.scenario} come nearer. It wants other ranges or sources: write a scenario of your own"
            " and name it, unmuffle pipeline trigger manual --scenario ADDRESS."
        )
    folder = storage.join(store, "scenarios", request.use, corpus[:16])
    return request.model_copy(update={"scenario": _proposed(scenario, folder)})


def drift(asked: Counts, corpus: Counts) -> dict[str, float]:
    """Measures farther apart than is tolerated and than chance explains, with the distance of their cumulative shares.

    The statistic of Kolmogorov and Smirnov over ranges, which makes it smaller, never larger. What chance explains is
    the bound of Dvoretzky, Kiefer and Wolfowitz for each of the two samples, at `ALPHA` over samples and measures.
    """
    distances = {}
    for name in EDGES:
        sizes = (sum(asked.counts[name]), sum(corpus.counts[name]))
        if all(sizes):
            by_chance = sum(math.sqrt(math.log(4 * len(EDGES) / ALPHA) / (2 * size)) for size in sizes)
            apart = float(np.abs(np.cumsum(asked.shares(name)) - np.cumsum(corpus.shares(name))).max())
            if apart > TOLERANCE + by_chance:
                distances[name] = apart
    return distances


def reweighted(scenario: Scenario, cases: dict[str, Counts], asked: Counts) -> Scenario | None:
    """The scenario with the shares whose mixture is nearest to what was asked; None where they are as they were.

    Nearest in the squares of the shares of all ranges. A case keeps one part: what is rare today is not forgotten.
    """
    known = [case for case in scenario.cases if case.name in cases]
    if len(known) < 2:
        return None
    columns = np.stack([_profile(cases[case.name]) for case in known], axis=1)
    weights, _ = nnls(columns, _profile(asked))
    parts = np.maximum(np.round(PARTS * weights / max(weights.sum(), 1e-9)), 1).astype(int)
    shares = {case.name: int(part) for case, part in zip(known, parts, strict=True)}
    changed = tuple(case.model_copy(update={"share": shares.get(case.name, case.share)}) for case in scenario.cases)
    if _near(scenario.cases, changed, 0.5 / PARTS):
        return None
    name = f"{scenario.name.removesuffix(SUFFIX)}{SUFFIX}"
    return scenario.model_copy(update={"name": name, "cases": changed})


def _near(one: Iterable[Case], other: Iterable[Case], within: float) -> bool:
    """Whether each case has nearly the same share of the rows in both."""
    a, b = (np.array([case.share for case in cases], float) for cases in (one, other))
    return bool(np.abs(a / a.sum() - b / b.sum()).max() <= within)


def _proposed(scenario: Scenario, folder: str) -> str:
    """The address of this proposal: of one that was made before against the same corpus, where they are nearly equal.

    So a drift that stays asks for the same run each night, which the trigger refuses.
    """
    for one in storage.listing(folder):
        before = Scenario.parse(storage.read(one.address), one.address)
        alike = before.model_copy(update={"cases": scenario.cases}) == scenario
        if alike and _near(before.cases, scenario.cases, NEAR):
            return one.address
    address = storage.join(folder, f"{scenario.name}-{scenario.digest()[:8]}.json")
    storage.replace(address, scenario.canonical())
    return address


def _profile(counts: Counts) -> np.ndarray:
    """Shares of all ranges of all measures, one after the other."""
    return np.concatenate([counts.shares(name) for name in EDGES])


def _of_champion(use: str, store: str, tracking: Tracking) -> tuple[str, dict[str, Counts]]:
    """Digest and fingerprints, by case, of the corpus that the champion was trained on; measured once and kept."""
    champion = tracking.alias(use, "champion")
    corpus = corpus_of(champion) if champion else None
    if corpus is None:
        raise BadSetting(
            f"{use} has no champion that was trained here, so there is no corpus to compare requests with. Start a run:"
            " unmuffle pipeline submit"
        )
    where = storage.join(store, "fingerprints", "corpora", f"{corpus.sha256[:16]}.json")
    if not storage.exists(where):
        storage.create(where, _counted(corpus.address, corpus.sha256).canonical())
    return corpus.sha256, CaseCounts.parse(storage.read(where), where).cases


def _counted(address: str, digest: str) -> CaseCounts:
    """The measures of rows of the train split, spread over it."""
    train = open_corpora(address, digest)["train"]
    cases: dict[str, Counts] = {}
    for number in np.unique(np.linspace(0, train.rows - 1, min(ROWS, train.rows)).astype(int)):
        with suppress(BadAudio):  # in quarantine
            row_id, mixture = train.row(int(number))
            case = train.record.scenario.case_of("train", int(row_id.rpartition("-")[2])).name
            found = fingerprint(mixture.noisy[:, None], train.sample_rate)
            cases[case] = cases.get(case, Counts()).added(found)
    return CaseCounts(cases=cases)
