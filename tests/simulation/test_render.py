import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import audio, levels, sources
from simulation.degradations import AddNoise, Reverberate
from simulation.degradations.base import Mixture
from simulation.draw import Plan, draw
from simulation.errors import BadAudio, BadSetting, ManifestMismatch
from simulation.manifest import Row
from simulation.render import CEILING, RENDER_VERSION, Library, _Kept, common_gain, render
from simulation.scenario import Case, Scenario
from simulation.schema import Range, canonical_json
from simulation.sources import Recording, SourceManifest

Tiny = Callable[..., Scenario]
Synthetic = Callable[[Scenario], tuple[Plan, Library]]

GOLDEN = {
    1: "6bf824789f88618c02df15919f04759936a3752a76ba85735a9ebe961e9db9cc",
}
"""Digest of what each render version draws and renders; what a row leaves at its default does not count. When this test
fails although rendering was meant to change, raise RENDER_VERSION and add a line here: corpora under the old number
then keep their address and their bytes."""


def test_output_does_not_change_without_a_new_render_version(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """Rows and quantised samples of every case, of measured and simulated rooms, hash to the stored digest."""
    plan, library = synthetic(tiny_scenario())
    rows = [draw(plan, "train", index) for index in range(16)]
    assert {"train1", "room/train/0000"} < {row.room for row in rows}
    digest = hashlib.sha256()
    for row in rows:
        mixture, _ = render(row, plan.scenario, library)
        digest.update(canonical_json(row.model_dump(mode="json", exclude_defaults=True)))
        for side in (mixture.clean, mixture.noisy):
            digest.update((side * 32768).astype("<i2").tobytes())
    assert digest.hexdigest() == GOLDEN[RENDER_VERSION]


def test_a_row_that_went_through_json_renders_bit_equal(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """What a manifest stores is all that rendering needs; another library, another order, equal samples."""
    plan, library = synthetic(tiny_scenario())
    rows = [draw(plan, "valid", index) for index in range(8)]
    first = [render(row, plan.scenario, library) for row in rows]
    again = [render(Row.model_validate_json(row.canonical()), *_again(plan, synthetic)) for row in reversed(rows)]
    for (mixture, measured), (other, measured_again) in zip(first, reversed(again), strict=True):
        assert np.array_equal(mixture.noisy, other.noisy) and np.array_equal(mixture.clean, other.clean)
        assert measured == measured_again


def _again(plan: Plan, synthetic: Synthetic) -> tuple[Scenario, Library]:
    return plan.scenario, synthetic(plan.scenario)[1]


def test_rendering_reads_no_global_randomness(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """The states of `random` and of NumPy's global generator neither matter nor move."""
    plan, library = synthetic(tiny_scenario())
    rows, rendered = [draw(plan, "test", index) for index in range(4)], []
    for seed in (3, 4):
        random.seed(seed)
        np.random.seed(seed)
        before = random.getstate(), np.random.get_state()[1].tobytes()
        rendered.append([render(row, plan.scenario, library)[0].noisy.tobytes() for row in rows])
        assert before == (random.getstate(), np.random.get_state()[1].tobytes())
    assert rendered[0] == rendered[1]


# ---- gain and quantiser ----------------------------------------------------------------------------------------------


@given(clean_peak=st.floats(1e-4, 30.0), noisy_peak=st.floats(1e-4, 30.0))
@settings(max_examples=100, deadline=None)
def test_the_common_gain_brings_the_larger_peak_to_the_ceiling(clean_peak: float, noisy_peak: float) -> None:
    """A pure function of the pair: 1 where nothing is too loud, else just below 0.99 over the larger peak."""
    clean, noisy = (np.array([0.0, -peak, peak / 2], np.float32) for peak in (clean_peak, noisy_peak))
    gain, peak = common_gain(Mixture(clean, noisy, 8000)), float(np.float32(max(clean_peak, noisy_peak)))
    assert gain * peak <= CEILING * (1 + 1e-6) or gain == 1.0
    assert gain == 1.0 if peak <= CEILING else gain == pytest.approx(CEILING / peak, abs=1.1e-5)


def test_no_peak_passes_the_ceiling_and_the_gain_is_common(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """Loud noise scales clean and noisy alike: noisy less clean is still the noise at its SNR."""
    loud = (Case(name="loud", degradations=(AddNoise(snr_db=Range(low=-30.0, high=-25.0)),)),)
    plan, library = synthetic(tiny_scenario(cases=loud))
    for index in range(6):
        row = draw(plan, "train", index)
        mixture, measured = render(row, plan.scenario, library)
        assert measured.gain < 0.6
        assert measured.peak == pytest.approx(np.abs(mixture.noisy).max(), abs=1e-6)
        assert measured.peak <= CEILING and np.abs(mixture.clean).max() <= CEILING
        speech = library.samples(row.speech)
        assert np.abs(mixture.clean - measured.gain * speech).max() <= 0.5 / 32768 + 1e-6
        snr_db = levels.measured_snr_db(mixture.clean, mixture.noisy - mixture.clean, 8000)
        assert snr_db == pytest.approx(row.operations[0].snr_db, abs=0.1)  # type: ignore[union-attr]


@pytest.mark.parametrize("bit_depth", [16, 24])
def test_rendered_samples_are_what_flac_gives_back(tiny_scenario: Tiny, synthetic: Synthetic, bit_depth: int) -> None:
    """Encoding and decoding changes no sample, so a shard and a virtual corpus feed equal numbers."""
    plan, library = synthetic(tiny_scenario(bit_depth=bit_depth))
    for index in range(4):
        mixture, _ = render(draw(plan, "train", index), plan.scenario, library)
        for side in (mixture.clean, mixture.noisy):
            decoded, sample_rate = audio.read(audio.encode_flac(side, 8000, bit_depth), "x")
            assert sample_rate == 8000 and np.array_equal(audio.mono(decoded), side)


def test_measured_values_are_recorded(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """Each case records what it has, near what was asked, and None for the rest."""
    plan, library = synthetic(tiny_scenario())
    for index in range(8):
        row = draw(plan, "train", index)
        mixture, measured = render(row, plan.scenario, library)
        has = {operation.kind: operation for operation in row.operations}
        assert measured.samples == len(mixture.clean) == len(mixture.noisy)
        assert (measured.snr_db is not None) == ("noise" in has)
        assert (measured.drr_db is not None) == (measured.rt60_s is not None) == ("reverb" in has)
        assert (measured.cutoff_hz is not None) == ("band_limit" in has)
        if "noise" in has:
            assert measured.snr_db == pytest.approx(has["noise"].snr_db, abs=0.1)
        if "reverb" in has:
            assert measured.rt60_s is not None and 0.08 < measured.rt60_s < 0.35


def test_noise_added_after_the_band_limit_is_full_band(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """In `all`, the energy above the cutoff is the noise's own: the order of operations is the scenario's."""
    plan, library = synthetic(tiny_scenario())
    row = next(row for index in range(8) if (row := draw(plan, "train", index)).case == "all")
    mixture, measured = render(row, plan.scenario, library)
    without = row.model_copy(update={"operations": row.operations[:-1]})
    quiet, quiet_measured = render(without, plan.scenario, library)
    assert measured.gain == quiet_measured.gain == 1.0 and measured.cutoff_hz is not None
    added = mixture.noisy - quiet.noisy
    high = np.fft.rfftfreq(len(added), 1 / 8000) > 1.5 * measured.cutoff_hz
    energy, of_noise = (np.sum(np.abs(np.fft.rfft(side)[high]) ** 2) for side in (mixture.noisy, added))
    assert energy == pytest.approx(of_noise, rel=0.01)


# ---- the library -----------------------------------------------------------------------------------------------------


def test_the_library_loads_once_and_hands_out_read_only_samples(material: object, tiny_scenario: Tiny) -> None:
    """A second request reads no file; nobody can change what others get."""
    manifest = sources.scan(material.speech, material.noise, material.rirs, sample_rate=8000)  # type: ignore[attr-defined]
    library = Library(manifest, tiny_scenario(), 0)
    recording = manifest.recordings[0].id
    first = library.samples(recording)
    assert library.samples(recording) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1.0


def test_the_library_forgets_what_was_not_used_for_longest() -> None:
    """It keeps to its limit in bytes, and keeps the last value even if that alone is too large."""
    made: list[str] = []

    def make(key: str) -> np.ndarray:
        made.append(key)
        return np.zeros(10, np.float32)

    kept: _Kept[np.ndarray] = _Kept(limit_bytes=80)
    for key in "abacab":
        kept.get(key, make)
    assert made == ["a", "b", "c", "b"]
    tight: _Kept[np.ndarray] = _Kept(limit_bytes=1)
    assert tight.get("a", make) is tight.get("a", make)


def test_a_reason_names_the_recording_and_no_address(tmp_path: Path, tiny_scenario: Tiny) -> None:
    """A recording that cannot be read is bad audio by id: a shard with that reason is equal wherever sources lie."""
    (tmp_path / "broken.wav").write_bytes(b"no audio at all")
    manifest = SourceManifest(recordings=(_recording(tmp_path, b"no audio at all"),))
    with pytest.raises(BadAudio, match="speech/broken") as caught:
        Library(manifest, tiny_scenario(), 0).samples("speech/broken")
    assert str(tmp_path) not in str(caught.value)


def test_changed_sources_are_refused(tmp_path: Path, tiny_scenario: Tiny) -> None:
    """A file that is not the one that was scanned stops the build: it is no bad row, it is another corpus."""
    (tmp_path / "broken.wav").write_bytes(b"something else")
    manifest = SourceManifest(recordings=(_recording(tmp_path, b"no audio at all"),))
    with pytest.raises(ManifestMismatch):
        Library(manifest, tiny_scenario(), 0).samples("speech/broken")


def _recording(folder: Path, data: bytes) -> Recording:
    return Recording(
        id="speech/broken",
        kind="speech",
        address=f"file://{folder}/broken.wav",
        group="someone",
        split="train",
        samples=10,
        sample_rate=8000,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def test_a_simulated_room_needs_a_bank(tiny_scenario: Tiny, synthetic: Synthetic) -> None:
    """A row that names a room of a scenario without rooms says so."""
    plan, _ = synthetic(tiny_scenario())
    row = draw(plan, "train", 1)
    room = row.model_copy(update={"operations": (Reverberate(rir="room/train/0000/0"),)})
    bare = plan.scenario.model_copy(update={"rooms": None})
    with pytest.raises(BadSetting, match="has no rooms"):
        render(room, bare, synthetic(bare)[1])


def test_a_mixture_cannot_be_changed_by_name() -> None:
    """Mixtures are frozen: a degradation makes a new one."""
    mixture = Mixture(np.zeros(3, np.float32), np.zeros(3, np.float32), 8000)
    with pytest.raises(AttributeError):
        mixture.clean = mixture.noisy  # type: ignore[misc]
    assert replace(mixture, measured={"snr_db": 1.0}).measured == {"snr_db": 1.0}
