"""The verdict as a page: every requirement with what was found, and nothing from elsewhere."""

import re

import numpy as np
import pandas as pd

from serving.judgement import Facts
from serving.policy import EVERY_SLICE, Budget, Limit, NotWorse, Policy, SliceMargin
from serving.verdict import verdict
from serving.verdict_page import page

POLICY = Policy(
    name="ours",
    revision=7,
    not_worse=(NotWorse(metric="stoi", margin=0.005),),
    slice_margins=(SliceMargin(slice=EVERY_SLICE, margin=1.0),),
    limits=(Limit(metric="delay", highest=5.0), Limit(metric="polarity", lowest=0.0)),
    budgets=(Budget(fact="real_time_factor", limit=0.5), Budget(fact="memory_mb", limit=1000.0)),
)


def shown(gain_db: float, delay_ms: float, looks: int = 1) -> str:
    """The page of one candidate against a champion."""
    rng = np.random.default_rng(1)
    lines = [
        {
            "row": f"r{k:02d}", "system": system, "case": "<noise>", "speaker": f"s{k % 8}", "noise": f"n{k % 9}",
            "si_sdr": (gain + 0.2 * rng.normal()), "stoi": 0.9, "delay": delay, "polarity": 1.0,
        }
        for system, gain, delay in (("dm/1", 0.0, 0.0), ("dm/2", gain_db, delay_ms)) for k in range(40)
    ]  # fmt: skip
    facts = Facts(real_time_factor=0.25, latency_ms=20.0, machine="a test's")
    return page(verdict(pd.DataFrame(lines), "dm/1", ["dm/2"], POLICY, {"dm/2": facts}, looks)).decode()


def test_the_page_says_what_was_found_and_what_was_wanted() -> None:
    """The limit that was broken stands among the requirements, with its unit; a fact that nobody measured is told."""
    text = shown(gain_db=2.0, delay_ms=20.0, looks=30)
    table = text[text.index("<tbody>") : text.index("</tbody>")]
    rows = [re.sub(r"\s*<[^>]+>\s*", "|", row) for row in table.split("</tr>")[:-1]]
    assert len(rows) == 3 + 1 + 2
    assert "better in SI-SDR" in rows[0] and "all of it above 0.1" in rows[0] and "✓" in rows[0]
    assert "no loss in the slice &lt;noise&gt;" in rows[2]
    assert "do no harm: Delay" in rows[3] and "40 of 40 outside, worst 20 ms" in rows[3] and "at most 5 ms" in rows[3]
    assert "✗" in rows[3]
    assert "not measured" in rows[5] and "at most 1000" in rows[5] and "✗" in rows[5]
    assert "1 of 2 limits kept" in text and "Measured on a test&#39;s." in text
    assert "Nobody wins over dm/1" in text and "Warning: the gate corpus was looked at 30 times" in text
    assert "By the policy ours, revision 7" in text


def test_nothing_in_the_page_comes_from_elsewhere() -> None:
    """It is mailed, kept and opened years later."""
    text = shown(gain_db=2.0, delay_ms=0.0)
    assert not re.search(r"(src|href|url\(|@import|<script|<link)", text)
    assert text.startswith("<!doctype html>")
