"""What every named scenario keeps."""

import math
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate

from simulation import chance, levels
from simulation.degradations import AddNoise, Reverberate
from simulation.degradations.base import Mixture
from simulation.degradations.reverb import convolve, kept
from simulation.draw import Plan, draw
from simulation.errors import BadSetting
from simulation.manifest import Row
from simulation.render import CEILING, Library, render
from simulation.scenarios import SCENARIOS, about, scenario, table
from simulation.sources import SPLITS, SourceManifest, scan_for

ADDED = {"noise", "wind", "hiss", "talker"}
"""What sounds beside the speech."""

every_scenario = pytest.mark.parametrize("name", SCENARIOS)

Planned = Callable[[str], tuple[Plan, Library]]


@pytest.fixture(scope="module")
def planned(manifest_in_memory: Callable[..., SourceManifest], waveform: Callable[..., np.ndarray]) -> Planned:
    """`planned(name)`: the scenario over synthetic recordings of a second at its own rate, and their library."""

    class Synthetic(Library):
        def _load(self, recording_id: str) -> np.ndarray:
            rate = self._scenario.sample_rate
            if not recording_id.startswith("rir/"):
                return waveform(recording_id, 1.0, rate)
            direct, tail = np.zeros(rate // 4, np.float32), waveform(recording_id, 0.25, rate)
            direct[rate // 200] = 1.0
            return direct + np.float32(0.2) * tail * (np.arange(len(tail)) > rate // 100)

    def planned(name: str) -> tuple[Plan, Library]:
        plan = Plan(scenario(name), manifest_in_memory(scenario(name).sample_rate), 5)
        return plan, Synthetic(plan.sources, plan.scenario, plan.seed)

    return planned


def _rows(plan: Plan) -> list[Row]:
    """A few rows of each case."""
    met: Counter[str] = Counter()
    rows = []
    for split in SPLITS.values():
        for index in range(24):
            row = draw(plan, split, index)
            if met[row.case] < 4:
                met[row.case] += 1
                rows.append(row)
    assert met.keys() == {case.name for case in plan.scenario.cases}
    return rows


def _applied(row: Row, library: Library, kinds: Callable[[str], bool]) -> Mixture:
    """The row with the operations of some kinds only, before gain and quantiser."""
    speech = library.samples(row.speech)
    mixture = Mixture(speech, speech, library._scenario.sample_rate)
    for operation in row.operations:
        if kinds(operation.kind):
            mixture = operation.apply(mixture, library)
    return mixture


@every_scenario
def test_rows_render_within_bounds(name: str, planned: Planned) -> None:
    """Both sides are finite, as long as the utterance, at most 0.99, and what is measured is near what was asked."""
    plan, library = planned(name)
    for row in _rows(plan):
        mixture, measured = render(row, plan.scenario, library)
        assert len(mixture.clean) == len(mixture.noisy) == len(library.samples(row.speech)) == measured.samples
        assert np.isfinite(mixture.clean).all() and np.isfinite(mixture.noisy).all()
        assert measured.peak <= CEILING and not levels.silent(mixture.clean)
        for operation in row.operations:
            if operation.kind in ("noise", "wind"):
                assert measured.snr_db == pytest.approx(operation.snr_db, abs=0.1)  # type: ignore[union-attr]


@every_scenario
def test_target_and_input_are_aligned(name: str, planned: Planned) -> None:
    """With everything but what sounds beside the speech, the two correlate most at lag 0, to a sample."""
    plan, library = planned(name)
    for row in _rows(plan):
        mixture = _applied(row, library, lambda kind: kind not in ADDED)
        found = int(np.argmax(correlate(mixture.noisy, mixture.clean, method="fft"))) - (len(mixture.clean) - 1)
        assert abs(found) <= 1, [one.kind for one in row.operations]


@every_scenario
def test_one_gain_goes_to_speech_target_and_noise(name: str, planned: Planned) -> None:
    """Without device and network, noisy less reverberant speech, at the target's gain, is the noise or nothing."""
    plan, library = planned(name)
    for row in _rows(plan):
        mixture = _applied(row, library, lambda kind: kind in ("level", "reverb", "noise"))
        wet = target = library.samples(row.speech).astype(np.float64)
        for operation in (one for one in row.operations if isinstance(one, Reverberate)):
            rir = library.rir(operation.rir).normalised  # type: ignore[arg-type]
            target = target if operation.target == "dry" else convolve(target, kept(rir, operation.target))[0]
            wet = convolve(wet, rir)[0]
        gain = float(np.dot(mixture.clean, target) / np.dot(target, target))
        limit = 2e-6 * max(float(np.abs(mixture.noisy).max()), 1.0)
        assert np.abs(mixture.clean - gain * target).max() < limit
        left = mixture.noisy - gain * wet
        noises = [one for one in row.operations if isinstance(one, AddNoise)]
        if not noises:
            assert np.abs(left).max() < limit
        for operation in noises:
            noise = library.samples(operation.recording)  # type: ignore[arg-type]
            likeness = correlate(np.tile(noise, 2), left, mode="valid", method="fft")
            energy = math.sqrt(np.sum(left**2) * np.sum(np.square(noise, dtype=np.float64)))
            assert likeness.max() / energy > 0.9999


@every_scenario
def test_rows_are_equal_bit_for_bit_in_any_order_and_after_json(name: str, planned: Planned) -> None:
    """Drawn by another plan, read from JSON, rendered backwards by another library: the same samples and values."""
    (plan, library), (again, other) = planned(name), planned(name)
    rows = _rows(plan)
    forwards = [render(row, plan.scenario, library) for row in rows]
    redrawn = [Row.model_validate_json(draw(again, row.split, row.index).canonical()) for row in rows]
    backwards = [render(row, again.scenario, other) for row in reversed(redrawn)]
    assert redrawn == rows
    for (mixture, measured), (same, measured_again) in zip(forwards, reversed(backwards), strict=True):
        assert mixture.noisy.tobytes() == same.noisy.tobytes() and mixture.clean.tobytes() == same.clean.tobytes()
        assert measured == measured_again


@every_scenario
def test_degradations_happen_as_often_as_they_say(name: str, planned: Planned) -> None:
    """Of 600 rows of a case, each degradation that stands in it alone is in its share."""
    plan, _ = planned(name)
    for case in plan.scenario.cases:
        alone = plan.scenario.model_copy(update={"cases": (case.model_copy(update={"splits": tuple(SPLITS)}),)})
        rows = [draw(Plan(alone, plan.sources, 1), "train", index) for index in range(600)]
        for part in case.degradations:
            if part.kind != "some":
                found = sum(any(one.name == part.name for one in row.operations) for row in rows) / 600
                assert found == pytest.approx(part.probability, abs=4 * math.sqrt(0.25 / 600))


@every_scenario
def test_rows_far_out_are_drawn_at_the_cost_of_the_first(
    name: str, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 10**9 and those around it ask for as many random numbers and as much memory as row 0 and its like."""
    plan, _ = planned(name)
    made: list[int] = []
    original = chance.generator
    monkeypatch.setattr(chance, "generator", lambda *key: (made.append(1), original(*key))[1])

    def cost(first: int) -> tuple[int, int]:
        for index in range(first, first + 240):  # what is kept once for all rows is no row's cost
            draw(plan, "train", index)
        made.clear()
        tracemalloc.start()
        for index in range(first, first + 240):
            draw(plan, "train", index)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return len(made), peak

    (near, near_bytes), (far, far_bytes) = cost(0), cost(10**9)
    assert far == pytest.approx(near, rel=0.0 if name in ("sample", "sample48", "renet") else 0.1)
    assert far_bytes < 1.5 * near_bytes + 20_000


@every_scenario
def test_a_scenario_says_where_it_comes_from_and_where_it_deviates(name: str) -> None:
    """One sentence of what it is, a source, and deviations where the source is not ours; 48 kHz where the name says."""
    said = about(name)
    assert said.summary and said.source
    assert said.deviates or said.source.startswith("ours")
    assert scenario(name).sample_rate == (48_000 if name.endswith("48") else 16_000)


def test_the_page_of_scenarios_is_what_the_code_says() -> None:
    """`docs/scenarios.md` lists every scenario as it is today."""
    found = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
    assert found == table.document(), "run python -m simulation.scenarios.table >docs/scenarios.md"


# ---- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SCENARIOS if not name.endswith("48")])
def test_scenarios_at_16_khz_need_nothing_but_the_sample_corpus(name: str) -> None:
    """Their plan stands over the sources that ship with the project, and its first rows render."""
    plan = Plan(scenario(name), scan_for(scenario(name)), 0)
    library = Library(plan.sources, plan.scenario, 0)
    for index in range(3):
        mixture, _ = render(draw(plan, "test", index), plan.scenario, library)
        assert mixture.sample_rate == 16_000


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.endswith("48")])
def test_scenarios_at_48_khz_refuse_sources_below_unless_asked(name: str) -> None:
    """The sample corpus is refused with what to type; named in `narrow_sources`, it is resampled up."""
    with pytest.raises(BadSetting, match=r"16000 Hz.*--speech FOLDER.*narrow_sources"):
        scan_for(scenario(name))
    with pytest.raises(BadSetting, match="--noise FOLDER"):
        scan_for(scenario(name).model_copy(update={"narrow_sources": ("speech",)}))
    asked = scenario(name).model_copy(update={"narrow_sources": ("speech", "noise")})
    plan = Plan(asked, scan_for(asked), 0)
    row = draw(plan, "test", 0)
    samples = Library(plan.sources, asked, 0).samples(row.speech)
    assert len(samples) == 3 * plan.sources.find(row.speech).samples


# ---- what single scenarios promise -----------------------------------------------------------------------------------


def _operations(name: str, planned: Planned, rows: int, split: str = "train") -> list[list[object]]:
    plan, _ = planned(name)
    return [list(draw(plan, SPLITS[split], index).operations) for index in range(rows)]


def test_urgent_has_none_to_three_extras_in_any_order_and_one_wind_in_twenty(planned: Planned) -> None:
    """In the published shares; clipping at quantiles never comes beside wind."""
    rows = [[one.kind for one in row] for row in _operations("urgent", planned, 2000)]  # type: ignore[attr-defined]
    extras = {"band_limit", "clip_quantiles", "codec", "packet_loss"}
    counts = Counter(len(extras & set(row)) for row in rows if "noise" in row)
    total = sum(counts.values())
    for count, share in enumerate((0.25, 0.40, 0.20, 0.15)):
        assert counts[count] / total == pytest.approx(share, abs=0.04)
    winds = [row for row in rows if "wind" in row]
    assert len(winds) == 100 and not any("clip_quantiles" in row or "noise" in row for row in winds)
    assert sum("clip" in row for row in winds) == pytest.approx(75, abs=14)
    pairs = Counter(tuple(one for one in row if one in extras) for row in rows if len(extras & set(row)) == 2)
    assert len(pairs) == 12


def test_the_grid_of_voicebank_demand_has_other_levels_in_the_test(planned: Planned) -> None:
    """0, 5, 10, 15 dB to learn from and 2.5, 7.5, 12.5, 17.5 dB to be tested by, each as often."""
    for split, levels_db in (("train", (0.0, 5.0, 10.0, 15.0)), ("test", (2.5, 7.5, 12.5, 17.5))):
        met = Counter(row[0].snr_db for row in _operations("voicebank_demand", planned, 800, split))  # type: ignore[attr-defined]
        assert met.keys() == set(levels_db) and all(count == pytest.approx(200, abs=50) for count in met.values())


def test_the_six_cases_of_renet_come_in_turn(planned: Planned) -> None:
    """Equal shares, room before noise before band limit."""
    rows = [tuple(one.kind for one in row) for row in _operations("renet", planned, 600)]  # type: ignore[attr-defined]
    assert len(set(rows)) == 6 and set(Counter(rows).values()) == {100}
    order = ("level", "reverb", "noise", "band_limit")
    assert all(list(row) == sorted(row, key=order.index) for row in rows)


def test_the_ssi_chain_has_a_telephone_or_a_resampler(planned: Planned) -> None:
    """A quarter of the rows pass GSM, three tenths a resampler, none both."""
    rows = [[one.name for one in row] for row in _operations("ssi", planned, 1500)]  # type: ignore[attr-defined]
    telephone = [row for row in rows if "gsm" in row]
    resampler = [row for row in rows if "alias" in row or "resample" in row]
    assert len(telephone) / 1500 == pytest.approx(0.25, abs=0.04)
    assert len(resampler) / 1500 == pytest.approx(0.30, abs=0.04)
    assert not any(row in resampler for row in telephone)


def test_the_noise_of_dm_is_not_band_limited(planned: Planned) -> None:
    """y = h(x * r) + n: in the mixed rows nothing happens after the noise, so it is heard above any cutoff."""
    plan, _ = planned("dm")
    met = 0
    for row in _rows(plan):
        kinds = [operation.kind for operation in row.operations]
        if "noise" in kinds and "band_limit" in kinds:
            met += 1
            assert kinds.index("reverb") < kinds.index("band_limit") if "reverb" in kinds else True
            assert kinds[-1] == "noise"
    assert met
