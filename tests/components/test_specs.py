"""Stage keys: what decides a result enters them, what does not stays out."""

import pytest

from components.simulate import spec_of
from components.specs import EvaluateSpec, Input, SimulateSpec, TrainSpec
from simulation import render
from simulation.errors import BadSetting
from simulation.scenarios.sample import sample

DIGEST = "a" * 64
OTHER = "b" * 64


def simulate_spec(**changes: object) -> SimulateSpec:
    """A spec of the sample scenario."""
    return SimulateSpec(scenario=sample().model_copy(update=changes), sources_digest=DIGEST, render_version=1)


def train_spec(**changes: object) -> TrainSpec:
    """A spec of some recipe on some corpus."""
    settings = {"recipe": {"name": "r", "seed": 0}, "corpus": Input(address="file:///a", sha256=DIGEST)}
    return TrainSpec.model_validate(settings | changes)


def test_a_spec_survives_json() -> None:
    """What lies in the store is what was asked for."""
    spec = simulate_spec()
    assert SimulateSpec.parse(spec.canonical(), "here") == spec


def test_where_the_sources_lie_is_not_identity() -> None:
    """The same recordings in another bucket give the same corpus, so the same key."""
    assert simulate_spec(speech="s3://elsewhere/speech").key() == simulate_spec().key()


def test_size_seed_sources_and_rendering_are_identity() -> None:
    """Each of them changes the result, so each changes the key."""
    larger = sample().size.model_copy(update={"train_hours": 2.0})
    other_sources = simulate_spec().model_copy(update={"sources_digest": OTHER})
    other_rendering = simulate_spec().model_copy(update={"render_version": 2})
    specs = (simulate_spec(), simulate_spec(seed=1), simulate_spec(size=larger), other_sources, other_rendering)
    assert len({spec.key() for spec in specs}) == 5


def test_a_new_render_version_makes_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised by hand when rendering gives other samples: the old result must not answer."""
    before = spec_of(sample()).key()
    monkeypatch.setattr(render, "RENDER_VERSION", render.RENDER_VERSION + 1)
    assert spec_of(sample()).key() != before


def test_moving_a_corpus_keeps_the_key_and_changing_it_does_not() -> None:
    """An input counts by its digest, wherever it lies."""
    moved = train_spec(corpus=Input(address="s3://bucket/a", sha256=DIGEST))
    changed = train_spec(corpus=Input(address="file:///a", sha256=OTHER))
    assert moved.key() == train_spec().key() != changed.key()


def test_who_asked_is_not_identity_but_asking_again_is() -> None:
    """Two pipeline runs share a result; --again makes a new one."""
    assert train_spec(parent="run-1").key() == train_spec(parent="run-2").key()
    assert train_spec(again=1).key() != train_spec().key()


def test_equal_fields_of_different_stages_have_different_keys() -> None:
    """The stage's name is part of its key."""
    corpus = Input(address="file:///a", sha256=DIGEST)
    evaluate = EvaluateSpec(models=(), corpus=corpus, use="denoise-16k", metric_versions={"pesq": 1})
    renamed = evaluate.model_copy(update={"stage": "train"})
    assert evaluate.key() != renamed.key()


def test_a_metric_that_was_changed_makes_a_new_key() -> None:
    """Its version is raised by hand whenever the same audio would get another number."""
    corpus = Input(address="file:///a", sha256=DIGEST)
    old, new = (
        EvaluateSpec(models=(), corpus=corpus, use="denoise-16k", metric_versions={"pesq": version})
        for version in (1, 2)
    )
    assert old.key() != new.key()


@pytest.mark.parametrize("text", ["", "file:///a", "file:///a#short", f"file:///a{DIGEST}"])
def test_an_input_without_its_digest_is_refused(text: str) -> None:
    """Steps hand over "<address>#<digest>" and nothing less."""
    with pytest.raises(BadSetting, match="64 hex"):
        Input.of(text)


def test_an_input_reads_back_what_it_writes() -> None:
    """Also where the address holds the mark itself."""
    one = Input(address="file:///a#b", sha256=DIGEST)
    assert Input.of(str(one)) == one
