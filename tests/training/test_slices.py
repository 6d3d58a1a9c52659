"""Slices: every row where it belongs."""

import numpy as np
import pandas as pd

from simulation.corpora.sample import speaker_groups
from training.slices import slices_of


def labels(**columns: list[object]) -> pd.DataFrame:
    """Rows of one case unless another is given."""
    size = len(next(iter(columns.values())))
    return pd.DataFrame({"case": ["noise"] * size, **columns})


def members(table: pd.DataFrame) -> dict[str, list[int]]:
    """The rows of each slice, by its name."""
    return {part.name: np.flatnonzero(mask).tolist() for part, mask in slices_of(table).items()}


def test_a_row_on_an_edge_is_in_the_bucket_above_and_one_without_a_value_in_none() -> None:
    """Ranges are [low, high); NaN and None are in no bucket; empty buckets are not listed."""
    found = members(labels(rt60_s=[0.1, 0.25, 0.49, 2.0, None]))
    assert found == {
        "overall": [0, 1, 2, 3, 4], "noise": [0, 1, 2, 3, 4],
        "RT60 below 0.25 s": [0], "RT60 0.25 to 0.5 s": [1, 2], "RT60 from 1 s": [3],
    }  # fmt: skip


def test_bandwidth_level_length_and_speaker_group_are_slices_of_their_own_kind() -> None:
    """Each column is cut into its buckets, under a kind that tells them apart; silence is the lowest level."""
    table = labels(
        cutoff_hz=[1500.0, np.nan], level_db=[-np.inf, -25.0], seconds=[2.5, 60.0], speaker_group=["child", None]
    )
    assert {(part.kind, part.name, part.rows) for part in slices_of(table)} == {
        ("overall", "overall", 2), ("case", "noise", 2), ("bandwidth", "bandwidth below 2000 Hz", 1),
        ("level", "input level below -40 dBFS", 1), ("level", "input level -30 to -20 dBFS", 1),
        ("length", "length 2 to 3 s", 1), ("length", "length from 15 s", 1), ("speaker", "speaker: child", 1),
    }  # fmt: skip


def test_harmless_rows_count_in_no_slice_but_their_own() -> None:
    """Rows that nothing should be done to would otherwise move the overall mean."""
    found = members(labels(case=["noise", "harmless_clean"], seconds=[2.5, 2.5], speaker_group=["adult", "adult"]))
    assert found == {
        "overall": [0], "noise": [0], "harmless_clean": [1], "length 2 to 3 s": [0], "speaker: adult": [0],
    }  # fmt: skip


def test_what_was_done_is_a_slice_where_the_cases_do_not_say_it() -> None:
    """Rows with reverberation are those of two cases; those with a band limit are a case already."""
    found = members(
        labels(
            case=["noise", "reverb", "all", "narrow", "harmless_clean"],
            degradations=["noise", "reverb", "reverb+noise", "band_limit", None],
            codec=[None, "opus", "gsm", "opus", None],
            source=["lj", "lj", None, "kathleen", "lj"],
        )
    )
    kinds = ("with ", "codec: ", "source: ")
    assert {name: rows for name, rows in found.items() if name.startswith(kinds)} == {
        "with noise": [0, 2], "with reverb": [1, 2], "codec: gsm": [2], "codec: opus": [1, 3],
        "source: kathleen": [3], "source: lj": [0, 1],
    }  # fmt: skip


def test_speakers_of_the_sample_corpus_are_children_or_adults_by_their_age() -> None:
    """A boy of six is a child; a speaker without an age is one of the two women; a stranger is in no group."""
    groups = speaker_groups()
    assert (groups["so762_0003"], groups["kathleen"], groups.get("anna")) == ("child", "adult", None)
    assert sum(group == "child" for group in groups.values()) == 76
