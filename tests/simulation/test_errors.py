"""Errors as they travel."""

import pickle

import pytest

from simulation import errors
from simulation.errors import UnknownName, UnmuffleError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UnmuffleError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_processes_as_it_is(kind: type[UnmuffleError]) -> None:
    """Type and message survive pickling, also where the message was made of other arguments."""
    error = UnknownName("recipe", "dmm", ["dm"]) if kind is UnknownName else kind("found, expected, what to type")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and again.exit_code == error.exit_code
