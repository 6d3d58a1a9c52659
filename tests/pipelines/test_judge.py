"""Gating by hand: on which corpus."""

import pytest

from pipelines import judge
from simulation.errors import NotThere
from simulation.home import Home


def test_a_gate_corpus_that_is_not_there_is_not_called_one_that_is_not_pinned(home: Home) -> None:
    """Who named a corpus should look at that name."""
    with pytest.raises(NotThere, match=r"There is no corpus at .*nowhere"):
        judge.gate_asked(f"nowhere#{'a' * 64}", "denoise-16k", home.store)
    with pytest.raises(NotThere, match="No gate corpus is pinned for denoise-16k"):
        judge.gate_asked("", "denoise-16k", home.store)
