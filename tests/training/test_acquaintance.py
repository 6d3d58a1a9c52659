"""What a version has to do with the corpus it is scored on."""

from types import SimpleNamespace

import pytest

from training.acquaintance import acquaintance

PLAN, OTHER = "a" * 64, "b" * 64


def corpus(plan: str, split: str) -> SimpleNamespace:
    """A split of a simulated corpus."""
    return SimpleNamespace(record=SimpleNamespace(plan_digest=plan), split=split)


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        (corpus(PLAN, "train"), "learnt from it"),
        (corpus(PLAN, "test"), "another split of it"),
        (corpus(OTHER, "train"), "another corpus"),
        (corpus(OTHER, "test"), "another corpus"),
        (SimpleNamespace(address="pairs"), "another corpus"),
    ],
)
def test_the_plan_tells_whether_a_version_knows_a_corpus(heard: SimpleNamespace, found: str) -> None:
    """The same plan: its train split was learnt from, another was not; other plans and pairs are other corpora."""
    assert acquaintance({"plan_digest": PLAN}, heard) == found


def test_a_version_that_does_not_say_is_not_called_unacquainted() -> None:
    """Weights from elsewhere, and those of earlier releases."""
    assert acquaintance({}, corpus(PLAN, "test")) is None
    assert acquaintance({"plan_digest": ""}, corpus(PLAN, "test")) is None
