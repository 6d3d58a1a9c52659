"""The measured card: asked for against measured, what a corpus was made from, what to look at, what to hear."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation import audio, levels
from simulation.build import Built
from simulation.card import Card, CardFacts, Quality, card
from simulation.card.alarms import alarms
from simulation.card.facts import compared
from simulation.card.samples import chosen
from simulation.card.table import asked
from simulation.corpus import open_splits
from simulation.errors import BadSetting
from simulation.provenance import keep_sources, kept_sources
from simulation.sources import Probe, Quarantined, Recording, SourceManifest
from simulation.virtual import commit_plan

Build = Callable[..., Built]


@pytest.fixture(scope="module")
def built(material: Any, tiny_scenario: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The tiny corpus: four cases, 16 rows."""
    from simulation import build as building
    from simulation.build import render_shard
    from simulation.render import Library
    from simulation.shards import commit

    def rendered(plan: Any, root: str, missing: list, workers: int) -> Any:
        library = Library(plan.sources, plan.scenario, plan.seed)
        for split, number in missing:
            tar, record = render_shard(plan, split, number, library)
            yield split, number, commit(f"{root}/{split}", tar, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.build._rendered", rendered)
        return building.build(tiny_scenario(), str(tmp_path_factory.mktemp("store")), **vars(material))


@pytest.fixture(scope="module")
def drawn(built: Built) -> Card:
    """Its card."""
    return card(built.address)


def of(facts: CardFacts, name: str) -> Any:
    """One quantity of a card."""
    return next(quantity for quantity in facts.quantities if quantity.name == name)


def test_the_card_counts_what_is_there(built: Built, drawn: Card) -> None:
    """Rows, hours, speakers and cases add up to those of the corpus."""
    corpora, facts = open_splits(built.address), drawn.facts
    rows = [entry.row for corpus in corpora.values() for entry in corpus.entries]
    assert facts.rows == len(rows) == sum(part.rows for part in facts.slices) == sum(one.rows for one in facts.splits)
    assert facts.hours == pytest.approx(sum(corpus.hours for corpus in corpora.values()), abs=1e-3)
    assert set(facts.speakers) == {row.speaker for row in rows}
    assert facts.corpus_digest == built.digest
    assert {part.case: part.rows for part in facts.slices} == {
        case: sum(row.case == case for row in rows) for case in ("noise", "reverb", "band_limit", "all")
    }


def test_what_was_asked_stands_beside_what_was_measured(built: Built, drawn: Card) -> None:
    """The SNR of every row with noise is compared, and is the one that was asked within 0.1 dB; so is the rest."""
    corpora, snr = open_splits(built.address), of(drawn.facts, "snr_db").comparison
    told = [
        operation.snr_db
        for corpus in corpora.values()
        for entry in corpus.entries
        for operation in entry.row.operations
        if operation.kind == "noise"
    ]
    assert snr.asked.rows == len(told)
    assert snr.asked.median == pytest.approx(np.median(told), abs=1e-3)
    assert snr.largest < 0.1
    assert of(drawn.facts, "rt60_s").comparison.asked.low >= 0.15
    assert set(of(drawn.facts, "bandwidth_hz").cases) == {"noise", "reverb", "band_limit", "all"}
    assert of(drawn.facts, "bandwidth_hz").comparison.asked.rows == drawn.facts.slices[2].rows


def test_what_was_asked_is_what_was_drawn_not_what_came_out(built: Built) -> None:
    """The number in the row's operation, whatever was measured; the cutoff for the bandwidth of what was only cut."""
    train = open_splits(built.address)["train"]
    scenario, seed = train.record.scenario, train.record.seed
    for entry in train.entries:
        drawn = {operation.kind: operation for operation in entry.row.operations}
        off = entry.measured.model_copy(update={"snr_db": 77.0, "rt60_s": 9.0, "bandwidth_hz": 1.0})
        told = asked(entry.row, off, scenario, seed)
        assert told.get("snr_db") == (drawn["noise"].snr_db if "noise" in drawn else None)
        assert ("bandwidth_hz" in told) == (entry.row.case == "band_limit")
        assert told.get("bandwidth_hz", entry.measured.cutoff_hz) == entry.measured.cutoff_hz
        assert 0.15 <= told.get("rt60_s", 0.15) <= 0.2
    assert any("rt60_s" in asked(entry.row, entry.measured, scenario, seed) for entry in train.entries)


def test_differences_are_row_by_row() -> None:
    """Two columns with equal quantiles in another order are far apart, and the card says so."""
    asked, measured = pd.Series([1.0, 2.0, 3.0, np.nan]), pd.Series([3.0, 2.0, 1.0, 5.0])
    found = compared(asked, measured)
    assert found is not None
    assert found.asked == found.measured
    assert (found.largest, found.difference.rows) == (2.0, 3)
    assert compared(asked, pd.Series([np.nan] * 4)) is None


def test_the_facts_survive_json(drawn: Card) -> None:
    """What `--json` prints is what the page is made from."""
    assert CardFacts.parse(drawn.facts.canonical(), "card.json") == drawn.facts


# ---- alarms ---------------------------------------------------------------------------------------------------------


def recording(name: str, **changes: Any) -> Recording:
    """Clean, full-band speech with a licence."""
    probe = {"level_db": -30.0, "clipped_share": 0.0, "silent_share": 0.0, "bandwidth_hz": 7900.0, "snr_db": 40.0}
    fields = {
        "id": f"speech/{name}", "kind": "speech", "address": f"file:///{name}.flac", "group": name, "split": "train",
        "samples": 16_000, "sample_rate": 16_000, "sha256": "0" * 64, "licence": "CC0",
        "probe": Probe.model_validate(probe | changes.pop("probe", {})),
    }  # fmt: skip
    return Recording.model_validate(fields | changes)


def rows(**columns: list[Any]) -> pd.DataFrame:
    """Rows of ten speakers, of which nothing is wrong."""
    frame = pd.DataFrame({"split": "train", "speaker": [f"s{i}" for i in range(10)], "hours": 1.0})
    for name in ("asked_rt60_s", "rt60_s", "drr_db"):
        frame[name] = np.nan
    return frame.assign(**columns)


def alarms_of(*recordings: Recording, frame: pd.DataFrame | None = None, **others: Any) -> tuple[str, ...]:
    """The alarms over these sources, at 16 kHz."""
    scenario = type("Scenario", (), {"sample_rate": 16_000})()
    manifest = SourceManifest(recordings=recordings, quarantined=others.get("quarantined", ()))
    frame = rows() if frame is None else frame
    return alarms(manifest, frame, scenario, others.get("measured", ()), others.get("quality", ()))


def test_clean_full_band_licensed_sources_raise_no_alarm() -> None:
    """No alarm means something."""
    assert alarms_of(recording("a"), recording("b")) == ()


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        (
            {"probe": {"snr_db": 12.0}},
            r"1 of 2 clean recordings have an estimated SNR below 20 dB: speech/x \(12\.0 dB",
        ),
        ({"probe": {"bandwidth_hz": 3900.0}}, r"1 of 2 clean recordings end below 5\.6 kHz.*speech/x \(3900 Hz"),
        ({"licence": ""}, "1 of 2 recordings state no licence"),
        ({"sample_rate": 8000}, r"1 of 2 speech recordings have a lower rate .*8000 Hz"),
    ],
    ids=["noisy", "narrow", "no licence", "low rate"],
)
def test_a_source_that_is_not_clean_raises_an_alarm(changes: dict[str, Any], alarm: str) -> None:
    """One bad recording among good ones is named, with its number."""
    (found,) = alarms_of(recording("a"), recording("x", **changes))
    assert re.search(alarm, found), found


def test_quality_scores_of_the_layer_above_raise_alarms() -> None:
    """A metric is handed in by name; below its limit a clean source is named, without a score it is not judged."""
    quality = (Quality("DNSMOS", 3.0, {"speech/a": 3.5, "speech/b": 2.25}),)
    (found,) = alarms_of(recording("a"), recording("b"), recording("c"), quality=quality)
    assert found == "1 of 2 clean recordings that were judged score below 3 by DNSMOS: speech/b (2.25)."


def test_rows_that_came_out_otherwise_raise_alarms() -> None:
    """A room that decays twice as long, a decay that cannot be measured, one voice in half of it, a file set aside."""
    long = rows(asked_rt60_s=[0.3] * 10, rt60_s=[0.7] * 2 + [0.3] * 8, drr_db=[0.0] * 10)
    assert "In 2 of 10 rows" in alarms_of(recording("a"), frame=long)[0]
    unmeasured = rows(drr_db=[0.0] * 10, rt60_s=[0.4] * 9 + [np.nan])
    assert "of 1 of 10 reverberant rows cannot be measured" in alarms_of(recording("a"), frame=unmeasured)[0]
    one_voice = rows(speaker=["loud"] * 5 + list("abcde"))
    assert alarms_of(recording("a"), frame=one_voice) == ("50% of the training hours are of one speaker, loud.",)
    aside = (Quarantined(address="file:///x.wav", reason="Silent", kind="speech"),)
    assert "1 of 2 source files were set aside" in alarms_of(recording("a"), quarantined=aside)[0]


def test_an_snr_that_is_not_the_one_asked_raises_an_alarm(drawn: Card) -> None:
    """More than 0.1 dB apart in any row."""
    snr = of(drawn.facts, "snr_db")
    off = snr.model_copy(update={"comparison": snr.comparison.model_copy(update={"largest": 0.2})})
    assert alarms_of(recording("a"), measured=(snr,)) == ()
    assert "SNR came out up to 0.2 dB from what was asked" in alarms_of(recording("a"), measured=(off,))[0]


# ---- samples and page -----------------------------------------------------------------------------------------------


def test_the_rows_to_hear_cover_every_case_and_are_always_the_same() -> None:
    """Ten of them; of each case hard and easy ones; whatever the order of the rows."""
    frame = pd.DataFrame(
        {"id": [f"train-{i:08d}" for i in range(400)], "case": [["a", "b", "c", "d"][i % 4] for i in range(400)]}
    )
    for name in ("snr_db", "sir_db", "drr_db", "cutoff_hz", "level_db"):
        frame[name] = np.nan
    frame["snr_db"] = [float((37 * i) % 401) for i in range(400)]
    picked = chosen(frame)
    assert len(set(picked)) == 10
    by_case = frame.set_index("id").loc[picked].groupby("case", sort=False)["snr_db"].agg(list)
    assert list(by_case.index) == ["a", "b", "c", "d"]
    assert all(values == sorted(values) and values[-1] - values[0] > 150 for values in by_case)
    assert chosen(frame.sample(frac=1, random_state=1).sort_values("case", kind="stable")) == picked
    assert len(chosen(frame.head(3))) == 3


def test_the_page_holds_everything_and_loads_nothing(drawn: Card) -> None:
    """Twenty sounds and pictures inside; no address of anything outside; figures are SVG."""
    text = drawn.page.decode()
    assert text.count("data:audio/wav;base64,") == text.count("data:image/png;base64,") == 20
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", text)
    assert "@import" not in text and "<script" not in text and "url(http" not in text
    assert text.count("<svg") >= len(drawn.facts.quantities) + 3
    for part in drawn.facts.slices:
        assert part.case in text


def test_a_plan_has_no_card(tmp_path: Path, material: Any, tiny_scenario: Callable[..., Any]) -> None:
    """Nothing was measured of rows that nobody has rendered: the answer says what to type."""
    scenario = tiny_scenario(**vars(material))
    plan = commit_plan(scenario, str(tmp_path / "store"))
    with pytest.raises(BadSetting, match="is a plan: its rows are rendered when they are read"):
        card(plan.address)


def test_equal_corpora_have_equal_cards(built: Built, drawn: Card) -> None:
    """Byte for byte: no date, no random id."""
    assert card(built.address).page == drawn.page


def test_what_was_set_aside_is_on_the_card(built: Built, tmp_path: Path) -> None:
    """Files by address with their reason, whatever characters they hold; a split's card has the same sources."""
    manifest = kept_sources(built.address)
    bad = Quarantined(address="file:///speech/<b>x.wav", reason="Clipped: 3.0% of its samples", kind="speech")
    copy = shutil.copytree(built.address.removeprefix("file://"), tmp_path / built.address.rpartition("/")[2])
    keep_sources(f"file://{copy}", manifest.model_copy(update={"quarantined": (bad,)}))
    drawn = card(f"file://{copy}/test")
    assert [one.what for one in drawn.facts.set_aside_sources] == [bad.address]
    assert "file:///speech/&lt;b&gt;x.wav" in drawn.page.decode()
    assert drawn.facts.sources[0].set_aside == 1
    assert [split.split for split in drawn.facts.splits] == ["test"]


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(drawn: Card, new_tab: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The page in Chromium, from disk, with the network off."""
    path = tmp_path_factory.mktemp("page") / "card.html"
    path.write_bytes(drawn.page)
    opened = new_tab()
    opened.open(path)
    return opened


def test_every_sound_of_the_card_plays(tab: Any) -> None:
    """With the network off; each can be entered late."""
    played = tab.js(
        """(async () => {
             const times = [];
             for (const sound of document.querySelectorAll("audio")) {
               sound.muted = true;
               await sound.play();
               sound.currentTime = 0.9 * sound.duration;
               const silent = () => (sound.seeking || sound.readyState < 2) && !sound.error;
               while (silent()) await new Promise((go) => setTimeout(go, 10));
               times.push([sound.error ? sound.error.message : "", sound.duration, sound.currentTime]);
               sound.pause();
             }
             return times;
           })()"""
    )
    assert len(played) == 20
    assert all(not error and at >= 0.85 * length > 0.3 for error, length, at in played), played


@pytest.mark.parametrize("width", [400, 1200])
def test_the_card_fits_its_window(tab: Any, width: int) -> None:
    """On a phone and on a desk nothing sticks out sideways; tables scroll inside themselves."""
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert tab.js("document.documentElement.scrollWidth") <= width


def test_the_card_complains_of_nothing_and_asks_for_nothing(tab: Any) -> None:
    """No error in the console, and no request but for itself and what it carries."""
    tab.js("1")
    assert tab.complaints == []
    assert {address.split(":")[0] for address in tab.requests} <= {"file", "data"}


def test_what_is_heard_is_what_is_stored(built: Built, drawn: Card) -> None:
    """The first sound of the page is the noisy side of the first row that was chosen."""
    import base64

    first = re.search(r'data-row="([^"]+)".*?data:audio/wav;base64,([^"]+)"', drawn.page.decode(), re.DOTALL)
    assert first is not None
    samples, rate = audio.read(base64.b64decode(first[2]), "page")
    corpus = open_splits(built.address)[first[1].rpartition("-")[0]]
    stored = corpus.read(corpus.position(first[1]))
    assert rate == corpus.sample_rate
    assert np.array_equal(audio.mono(samples), stored.noisy[: 5 * rate])
    assert levels.rms_db(stored.noisy) > -60


def test_the_command_writes_the_page_and_prints_the_facts(built: Built, tmp_path: Path) -> None:
    """`unmuffle corpus card` puts the page where it was told; `--json` alone writes none."""
    import json

    from typer.testing import CliRunner

    from pipelines.cli import app

    out = tmp_path / "card.html"
    told = CliRunner().invoke(app, ["corpus", "card", f"{built.address}#{built.digest}", "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert out.read_bytes().startswith(b"<!doctype html>")
    facts = CliRunner().invoke(app, ["corpus", "card", built.address, "--json"])
    assert json.loads(facts.stdout)["rows"] == 16
