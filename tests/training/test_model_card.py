"""The model card: facts of one version, in Markdown."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from simulation.corpus import Corpus
from simulation.degradations import AddNoise
from simulation.errors import NotThere
from simulation.manifest import CorpusRecord
from simulation.scenario import Case, Scenario, Size
from simulation.schema import Range
from simulation.sources import SourceManifest
from simulation.sources.recordings import Recording
from simulation.virtual import VirtualCorpus, VirtualRecord
from training import model_card as module
from training.ledger import Cost
from training.model_card import Trained, model_card
from training.models import CausalReNet
from training.recipe import Recipe
from training.tracking.logged_models import LONGEST, shortened


def recording(number: int, licence: str, kind: str = "speech") -> Recording:
    """Two seconds of somebody."""
    return Recording.model_validate(
        {
            "id": f"{kind}/{number}",
            "kind": kind,
            "address": f"file:///{number}.flac",
            "group": f"speaker-{number}",
            "split": "train",
            "samples": 32000,
            "sample_rate": 16000,
            "sha256": "0" * 64,
            "licence": licence,
        }
    )


SOURCES = SourceManifest(recordings=(recording(1, "CC0"), recording(2, "CC0"), recording(3, "CC BY 4.0", "noise")))
SCENARIO = Scenario(
    name="small",
    cases=tuple(
        Case(name=name, degradations=(AddNoise(snr_db=Range(low=0.0, high=5.0)),)) for name in ("noise", "clipping")
    ),
    size=Size(train_hours=0.001, valid_rows=4, test_rows=2),
)


def shared(monkeypatch: pytest.MonkeyPatch, sources: SourceManifest) -> None:
    """The corpus of the card is a virtual one of these sources."""
    rows = {"train": 8, "valid": 4, "test": 2}
    record = VirtualRecord(
        scenario=SCENARIO, sources=sources, seed=0, render_version=1, plan_digest="a" * 64, rows=rows
    )
    splits = {split: VirtualCorpus(f"s3://bucket/{split}", record, split) for split in ("train", "valid")}
    monkeypatch.setattr(module, "open_corpora", lambda root, digest: splits)


@pytest.fixture
def trained(small_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Facts of a version, its corpus made up."""
    shared(monkeypatch, SOURCES)
    return Trained(
        recipe=small_recipe(),
        corpus="s3://bucket/corpora/sample@01234567",
        corpus_digest="c" * 64,
        steps=10,
        weights="s3://bucket/versions/small-5",
        weights_sha256="d" * 64,
        valid={"valid/si_sdr_db": 7.25},
        cost=Cost(core_seconds=3600.0, wasted_core_seconds=360.0),
        code={"unmuffle_version": "0.1.0", "code_sha256": "e" * 64, "git_revision": "f" * 40},
        environment={"python": "3.11.7", "platform": "Linux"},
    )


@pytest.mark.parametrize(
    "fact",
    [
        "# gru_mask, recipe small\n",
        "## Intended use\n",
        "## Limits\n",
        "float32 `[-1, samples]`",
        f"`s3://bucket/versions/small-5/weights.safetensors`, sha256 `{'d' * 64}`; no pickle",
        "in 10 steps of 5 pieces of 0.4 s, seed 0",
        "train 8 rows, valid 4 rows",
        "2 speech recordings, 0.00 h, licence CC0",
        "1 noise recordings, 0.00 h, licence CC BY 4.0",
        "| si_sdr_db | 7.250 |",
        "these kinds: clipping, noise.",
        f"git revision {'f' * 40},",
        "1.000 core-hours, 0.100 core-hours lost to failures",
    ],
)
def test_the_card_states_what_is_known(trained: Trained, fact: str) -> None:
    """Details, use, data with licences, figures, limits, code and cost."""
    assert fact in model_card(trained)


def test_a_revision_that_was_changed_or_is_unknown_is_said_to_be(trained: Trained) -> None:
    """So that nobody looks for these weights in a revision that did not make them."""
    changed = replace(trained, code={**trained.code, "git_changed": "true"})
    assert f"{'f' * 40} with changes," in model_card(changed)
    unknown = replace(trained, code={name: trained.code[name] for name in ("unmuffle_version", "code_sha256")})
    assert "git revision unknown," in model_card(unknown)


def test_sources_that_were_not_recorded_are_said_to_be_missing(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corpora of earlier releases kept no source manifest; silence about licences would read as none."""

    def missing(root: str) -> Any:
        raise NotThere("no source manifest")

    record = CorpusRecord.model_construct(scenario=SCENARIO, shards=())
    rendered = {split: Corpus(f"s3://bucket/{split}", record, ()) for split in ("train", "valid")}
    monkeypatch.setattr(module, "open_corpora", lambda root, digest: rendered)
    monkeypatch.setattr(module, "kept_sources", missing)
    assert "Its sources were not recorded" in model_card(trained)
    monkeypatch.setattr(module, "kept_sources", lambda root: SourceManifest(recordings=(recording(1, ""),)))
    assert "licence not stated" in model_card(trained)


def test_a_causal_network_states_its_latency(trained: Trained) -> None:
    """In milliseconds; the others say that they need everything."""
    assert ("not causal" in model_card(trained)) != ("algorithmic latency" in model_card(trained))
    causal = trained.recipe.model_copy(update={"model": CausalReNet.Config()})
    assert "ms algorithmic latency" in model_card(replace(trained, recipe=causal))


def test_whole_utterances_are_said_to_be_whole(trained: Trained) -> None:
    """A recipe with bucketing need not have a segment; its card is the last thing that a long training makes."""
    whole = trained.recipe.model_copy(update={"segment_s": None, "bucketing": True})
    assert f"in {trained.steps} steps of {whole.batch_size} whole utterances, seed" in model_card(
        replace(trained, recipe=whole)
    )


def test_many_licences_are_counted_and_the_description_fits(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps 5000 characters of a description: whole lines, and where the rest is."""
    many = SourceManifest(recordings=tuple(recording(number, f"licence {number}") for number in range(40)))
    shared(monkeypatch, many)
    card = model_card(trained)
    assert "and 28 more licences" in card
    assert shortened(card) == card and len(card) < LONGEST
    cut = shortened(card, 1000)
    assert len(cut) <= 1000
    assert cut.endswith("(The whole card is README.md among the model's files.)\n")
    assert all(line in card.splitlines() for line in cut.splitlines()[:-2])
