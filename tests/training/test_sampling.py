"""Sampling seeds of stochastic systems: averaged before anything is paired."""

import numpy as np
import pandas as pd

from training.sampling import averaged


def test_seeds_are_averaged_and_a_failure_of_one_is_a_failure() -> None:
    """Two rows sampled twice become two lines; a mean over what did not fail would hide the failure."""
    table = pd.DataFrame(
        {
            "row": ["a", "a", "b", "b"],
            "system": "dm/1",
            "case": "noise",
            "seed": [0, 1, 0, 1],
            "si_sdr": [1.0, 3.0, 5.0, np.nan],
        }
    )
    found = averaged(table, ["si_sdr"]).set_index("row")
    assert list(found.index) == ["a", "b"] and list(found["case"]) == ["noise", "noise"]
    assert found.loc["a", "si_sdr"] == 2.0
    assert np.isnan(found.loc["b", "si_sdr"])


def test_a_table_without_seeds_is_left_alone() -> None:
    """Deterministic systems have one line a row already."""
    table = pd.DataFrame({"row": ["a"], "system": ["dm/1"], "si_sdr": [1.0]})
    assert averaged(table, ["si_sdr"]) is table
