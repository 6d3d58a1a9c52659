"""Documents that people write: what is wrong with one is said once, in place, with the key that was meant."""

import json
from typing import Any

import pytest

from simulation.errors import BadSetting
from simulation.scenario import Scenario
from simulation.scenarios.sample import sample


def refused(**changes: Any) -> str:
    """What is said about the sample scenario with these changes."""
    with pytest.raises(BadSetting) as caught:
        Scenario.parse(json.dumps(sample().model_dump(mode="json") | changes), "mine.json")
    return str(caught.value)


def test_a_misspelt_key_is_answered_with_the_one_that_was_meant() -> None:
    """At any depth."""
    said = refused(rows_per_shrad=4)
    assert (
        said
        == "mine.json is not a valid Scenario: rows_per_shrad: there is no such key; did you mean 'rows_per_shard'?"
    )
    assert "did you mean 'train_hours'" in refused(size={"train_hour": 1.0, "valid_rows": 1, "test_rows": 1})


def test_a_key_in_the_wrong_place_is_not_answered_with_itself() -> None:
    """It is spelt well."""
    assert refused(low=1.0).endswith("low: there is no such key")


def test_one_fault_is_one_message() -> None:
    """A case with a bad degradation is not also called one without any, nor the scenario one without cases."""
    said = refused(cases=[{"name": "noise", "degradations": [{"kind": "ad_noise"}]}])
    assert "cases.0.degradations.0" in said and "'noise', 'reverb', 'band_limit'" in said
    assert "at least 1 item" not in said


def test_what_is_no_json_is_said_of_the_whole() -> None:
    """There is no field to name."""
    with pytest.raises(BadSetting, match=r"mine\.json is not a valid Scenario: the whole: Invalid JSON"):
        Scenario.parse("{nope", "mine.json")


def test_a_value_is_told_what_it_tries_to_be() -> None:
    """A wrong word is answered with the words and nothing of objects, a wrong list with what is wrong in it."""

    def said(**changes: Any) -> str:
        return refused(cases=[{"name": "coded", "degradations": [{"kind": "codec", **changes}]}]).partition("codec.")[2]

    words = "'mp3', 'vorbis', 'opus', 'gsm', 'alaw' or 'mulaw'"
    assert said(format="aac") == f"format: Input should be {words} (found 'aac')"
    assert said(format={"values": ["opus", "aac"]}) == f"format: Input should be {words} (found 'aac')"
    assert said(format={"values": []}).startswith("format.values: Tuple should have at least 1 item")
    assert said(bitrate_kbps={"values": [8], "weights": [1, 2]}).startswith("bitrate_kbps.one_of: there are 1 values")
