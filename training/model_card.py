"""The model card of a version: one page of Markdown from what is known of it, for whoever finds it in the registry.

Sections follow Mitchell et al., Model Cards for Model Reporting (2019): details, intended use, training data, figures,
limits. Nothing in it is typed by hand, so a sentence that is wrong here is wrong in the code or in a record.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from simulation.card.facts import licences
from simulation.corpus import Corpus
from simulation.errors import NotThere
from simulation.provenance import kept_sources
from simulation.scenario import Scenario
from simulation.sources import SourceManifest
from simulation.virtual import VirtualCorpus, open_corpora
from training.counting import parameters
from training.ledger import Cost
from training.models import Enhancer
from training.recipe import Recipe
from training.registry import known_use

LISTED = 12
"""Licences that are listed; a corpus of thousands of sources has more."""


@dataclass(frozen=True)
class Trained:
    """What a card is made from."""

    recipe: Recipe
    corpus: str
    """Address of its root."""
    corpus_digest: str
    steps: int
    weights: str
    """Address of the version's folder."""
    weights_sha256: str
    valid: Mapping[str, float]
    """Figures on the valid split."""
    cost: Cost
    code: Mapping[str, str]
    """See `training.provenance.code`."""
    environment: Mapping[str, object]


def model_card(of: Trained) -> str:
    """The page."""
    sections = {
        f"{of.recipe.network}, recipe {of.recipe.name}": _details(of),
        "Intended use": _use(of),
        "Training data": _data(of),
        "Figures": _figures(of),
        "Limits": _limits(of),
        "Made by": _made(of),
    }
    page = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"#{page[2:]}\n"


def _details(of: Trained) -> str:
    with torch.device("meta"):
        model: Enhancer = of.recipe.model.build()
    pieces = "whole utterances" if of.recipe.segment_s is None else f"pieces of {of.recipe.segment_s:g} s"
    latency = f"causal, {1000 * model.latency_samples / model.sample_rate:.1f} ms algorithmic latency"
    return _list(
        f"Network `{of.recipe.model.kind}`: {parameters(model):,} parameters, {model.sample_rate} Hz, "
        f"{latency if model.causal else 'not causal: it needs the whole recording'}",
        f"Input and output: float32 `[-1, samples]` in [-1, 1] at {model.sample_rate} Hz, of equal length",
        f"Weights: `{of.weights}/weights.safetensors`, sha256 `{of.weights_sha256}`; no pickle",
        f"Learnt by `{of.recipe.objective.kind}` in {of.steps} steps of {of.recipe.batch_size} {pieces}, "
        f"seed {of.recipe.seed}",
    )


def _use(of: Trained) -> str:
    use = known_use(of.recipe.use)
    return (
        f"{of.recipe.use}: {use.description} Recordings of one speaker; `unmuffle enhance` takes any length, rate and "
        "number of channels, and resamples."
    )


def _data(of: Trained) -> str:
    corpora = open_corpora(of.corpus, of.corpus_digest)
    sizes = ", ".join(f"{split} {_size(corpus)}" for split, corpus in corpora.items())
    lines = [f"Corpus `{of.corpus}`, digest `{of.corpus_digest}`", f"Splits, no speaker in two of them: {sizes}"]
    sources = _sources(of.corpus, corpora["train"])
    if sources is None:
        return _list(*lines, "Its sources were not recorded when it was built")
    found = licences(sources)
    lines += [
        f"{one.recordings} {one.kind} recordings, {one.hours:.2f} h, licence {one.licence or 'not stated'}"
        for one in found[:LISTED]
    ]
    return _list(*lines, *([f"and {len(found) - LISTED} more licences"] if len(found) > LISTED else []))


def _size(corpus: Corpus | VirtualCorpus) -> str:
    return f"{corpus.rows} rows" + (f" ({corpus.hours:.2f} h)" if isinstance(corpus, Corpus) else "")


def _sources(root: str, corpus: Corpus | VirtualCorpus) -> SourceManifest | None:
    if isinstance(corpus, VirtualCorpus):
        return corpus.record.sources
    try:
        return kept_sources(root)
    except NotThere:
        return None


def _figures(of: Trained) -> str:
    lines = [f"| {name.removeprefix('valid/')} | {value:.3f} |" for name, value in of.valid.items()]
    table = "\n".join(["| on the valid split | mean |", "| --- | ---: |", *lines])
    return f"{table}\n\nWhat the gate measured, with intervals, stands in the tags `gate_*` and in the run's `gate/`."


def _limits(of: Trained) -> str:
    cases = ", ".join(sorted({case.name for case in _scenario(of).cases}))
    return _list(
        f"It has learnt from simulated mixtures of these kinds: {cases}. Others were not heard",
        "Music, several speakers at once and languages that the sources lack were not measured here",
        "A network may remove or alter speech; keep the recording",
    )


def _scenario(of: Trained) -> Scenario:
    return open_corpora(of.corpus, of.corpus_digest)["train"].record.scenario


def _made(of: Trained) -> str:
    revision = of.code.get("git_revision", "unknown") + (" with changes" if "git_changed" in of.code else "")
    return _list(
        f"unmuffle {of.code['unmuffle_version']}, git revision {revision}, sources `{of.code['code_sha256'][:16]}`",
        f"Python {of.environment['python']} on {of.environment['platform']}; all packages: `environment/` of the run",
        f"Cost: {of.cost.line()}",
    )


def _list(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines)
