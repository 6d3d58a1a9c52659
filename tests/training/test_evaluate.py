"""Evaluation: from versions and a corpus to scores, a scorecard and its table."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import ray
import soundfile
import torch
from rich.console import Console

from simulation import storage
from simulation.cluster import ClusterInfo
from simulation.degradations import AnyDegradation
from simulation.degradations.band_limit import BandLimit
from simulation.degradations.base import Mixture
from simulation.degradations.codec import Codec
from simulation.errors import BadAudio, BadSetting, NotThere, SampleRateMismatch, UnknownName
from simulation.manifest import Entry, Measured, Row, Span
from training.baselines import spectral_subtraction, unprocessed
from training.checkpoint import save_version
from training.evaluate import evaluate
from training.metrics import METRICS, STANDARD
from training.models import Enhancer, GruMask, ModelConfig
from training.pairs import Pairs, labels_of
from training.score_table import table
from training.scorecard import LABELS, Scorecard, summarise
from training.scoring import score_mixture, system_at

RATE = 16_000
SPEAKERS, TAKES = 4, 3


def voice(seconds: float, pitch_hz: float, sample_rate: int = RATE) -> np.ndarray:
    """A pulsing harmonic tone that metrics take for speech."""
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    tone = sum(np.sin(2 * np.pi * k * pitch_hz * t) / k for k in range(1, 20))
    return np.asarray(0.2 * tone * np.sin(2 * np.pi * 3 * t) ** 2, dtype=np.float32)


def noisy_of(clean: np.ndarray, seed: int) -> np.ndarray:
    """The same with white noise."""
    return np.asarray(clean + 0.03 * np.random.default_rng(seed).standard_normal(len(clean)), dtype=np.float32)


def write(path: Path, samples: np.ndarray, sample_rate: int = RATE) -> None:
    """A WAV file, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")


def write_pair(folder: Path, name: str, clean: np.ndarray, noisy: np.ndarray, sample_rate: int = RATE) -> None:
    """One pair."""
    write(folder / "clean" / name, clean, sample_rate)
    write(folder / "noisy" / name, noisy, sample_rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of four speakers; one more has a silent clean, which nothing can be scored against."""
    root = tmp_path_factory.mktemp("pairs")
    for speaker in range(SPEAKERS):
        for take in range(TAKES):
            clean = voice(1.2, 110 + 20 * speaker)
            write_pair(root, f"speaker{speaker}/{take}.wav", clean, noisy_of(clean, 10 * speaker + take))
    write_pair(root, "speaker0/silent.wav", np.zeros(RATE), noisy_of(np.zeros(RATE), 1))
    return root


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a small untrained version."""
    address = storage.normal(str(tmp_path_factory.mktemp("version")))
    torch.manual_seed(0)
    save_version(GruMask.Config().build(), address, {"plan_digest": "a" * 64})
    return address


@pytest.fixture(scope="module")
def finished(
    ray_cluster: ClusterInfo, folder: Path, version: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scorecard, str]:
    """One evaluation, with its address."""
    out = storage.normal(str(tmp_path_factory.mktemp("out")))
    return evaluate({"gru_mask/1": version}, Pairs.open(str(folder)), out, workers=2), out


def scores_at(out: str) -> pd.DataFrame:
    """The table of scores as anybody would read it."""
    return pd.read_parquet(io.BytesIO(storage.read(storage.join(out, "scores.parquet"))))


# ---- the whole evaluation -------------------------------------------------------------------------------------------


def test_an_evaluation_leaves_scorecard_scores_and_page(finished: tuple[Scorecard, str]) -> None:
    """Four objects at the address, and the scorecard reads back as what was returned."""
    scorecard, out = finished
    names = {stored.address.removeprefix(out + "/") for stored in storage.listing(out)}
    assert names == {"scorecard.json", "scores.parquet", "timing.json", "report.html"}
    assert Scorecard.parse(storage.read(storage.join(out, "scorecard.json")), "scorecard.json") == scorecard


def test_every_scorecard_carries_the_baselines(finished: tuple[Scorecard, str], version: str) -> None:
    """The unprocessed input, spectral subtraction and contrast stretching are rows although nobody asked for them."""
    scorecard, out = finished
    baselines = ["unprocessed", "spectral_subtraction", "contrast_stretching"]
    assert [system.name for system in scorecard.systems] == [*baselines, "gru_mask/1"]
    assert [system.weights_sha256 is None for system in scorecard.systems] == [True, True, True, False]
    assert scorecard.systems[3].address == version
    assert set(scores_at(out)["system"]) == {system.name for system in scorecard.systems}


def test_a_scorecard_says_whether_a_system_learnt_from_its_corpus(finished: tuple[Scorecard, str]) -> None:
    """Pairs are another corpus than the one of the version's plan: zero-shot. A baseline learnt from none."""
    scorecard, out = finished
    assert {system.name: system.corpus for system in scorecard.systems} == {
        "unprocessed": None,
        "spectral_subtraction": None,
        "contrast_stretching": None,
        "gru_mask/1": "another corpus",
    }
    assert "beside this one: another corpus" in storage.read(storage.join(out, "report.html")).decode()


def test_the_table_of_scores_has_the_promised_columns(finished: tuple[Scorecard, str]) -> None:
    """One line a system and row, with labels, length, every metric, and the reasons of failures."""
    scorecard, out = finished
    scores = scores_at(out)
    assert list(scores.columns) == [*LABELS, *STANDARD, "failed"]
    assert len(scores) == 4 * scorecard.rows
    assert set(scores["speaker"]) == {f"speaker{k}" for k in range(SPEAKERS)}
    assert scores["seconds"].between(0.9, 1.3).all() and scores["snr_db"].isna().all()


def test_a_failure_is_counted_and_is_in_no_mean(finished: tuple[Scorecard, str], folder: Path) -> None:
    """The row with a silent clean is a failure of every system and metric; means are over the other rows alone."""
    scorecard, out = finished
    scores = scores_at(out)
    silent = scores[scores["row"] == "speaker0/silent.wav"]
    assert silent[list(STANDARD)].isna().all().all()
    assert all(set(json.loads(text).values()) == {"clean is silent"} for text in silent["failed"])
    score = scorecard.score("unprocessed", "overall", "pesq")
    assert score.failed == 1 and score.mean is not None and score.mean.n == SPEAKERS * TAKES
    pairs = Pairs.open(str(folder))
    mixtures = [pairs.read(k) for k, entry in enumerate(pairs.entries) if "silent" not in entry.id]
    by_hand = np.mean([METRICS["pesq"].score(m.clean, m.noisy, RATE) for m in mixtures])
    assert score.mean.mean == pytest.approx(by_hand)


def test_results_do_not_depend_on_the_number_of_workers(
    finished: tuple[Scorecard, str], folder: Path, version: str, tmp_path: Path
) -> None:
    """One worker leaves the same bytes as two."""
    out = storage.normal(str(tmp_path / "one"))
    evaluate({"gru_mask/1": version}, Pairs.open(str(folder)), out, workers=1)
    for name in ("scores.parquet", "scorecard.json", "report.html"):
        assert storage.read(storage.join(out, name)) == storage.read(storage.join(finished[1], name)), name


def test_the_scorecard_is_written_last(
    ray_cluster: ClusterInfo, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sees scorecard.json finds the rest; an older one is gone while the rest is replaced."""
    out, written = storage.normal(str(tmp_path)), []
    replace = storage.replace
    stale = storage.join(out, "scorecard.json")
    replace(stale, b"{}")

    def watched(address: str, data: bytes) -> None:
        written.append((address.rpartition("/")[2], storage.exists(stale)))
        replace(address, data)

    monkeypatch.setattr(storage, "replace", watched)
    evaluate({}, Pairs.open(str(folder)), out, metrics=["si_sdr"])
    assert written[-1] == ("scorecard.json", False)
    assert {name for name, _ in written} == {"scores.parquet", "timing.json", "report.html", "scorecard.json"}
    assert not any(stale_there for _, stale_there in written)


def test_progress_counts_rows_times_systems(ray_cluster: ClusterInfo, folder: Path, tmp_path: Path) -> None:
    """The callback rises to the end and says what the end is."""
    heard: list[tuple[int, int]] = []
    evaluate({}, Pairs.open(str(folder)), str(tmp_path), metrics=["si_sdr"], progress=lambda *it: heard.append(it))
    total = 3 * (SPEAKERS * TAKES + 1)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[-1] == (total, total)


def test_an_error_on_a_worker_comes_as_itself(ray_cluster: ClusterInfo, folder: Path, tmp_path: Path) -> None:
    """A file that vanished while scoring is answered by one paragraph, without Ray's traceback around it."""
    write_pair(tmp_path / "p", "a.wav", voice(1.0, 120), voice(1.0, 120))
    pairs = Pairs.open(str(tmp_path / "p"))
    (tmp_path / "p" / "clean" / "a.wav").unlink()
    with pytest.raises(NotThere) as caught:
        evaluate({}, pairs, str(tmp_path / "out"), metrics=["si_sdr"])
    assert "Traceback" not in str(caught.value)
    assert not (tmp_path / "out" / "scorecard.json").exists()


@pytest.mark.parametrize(
    ("systems", "options", "error", "text"),
    [
        ({}, {"metrics": ["pesk"]}, UnknownName, "Did you mean 'pesq'"),
        ({}, {"champion": "dm/1"}, UnknownName, "no system named 'dm/1'"),
        ({"unprocessed": "file:///nowhere"}, {}, BadSetting, "name of a baseline|as a baseline is"),
        ({"dm/1": "file:///nowhere"}, {}, NotThere, "no model at"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, systems: dict[str, str], options: dict[str, object], error: type, text: str
) -> None:
    """Unknown names and absent versions are answered at once, and leave nothing behind."""
    with pytest.raises(error, match=text):
        evaluate(systems, Pairs.open(str(folder)), str(tmp_path / "out"), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def timing_at(out: str) -> dict[str, dict[str, float]]:
    """What each metric took."""
    return {each["metric"]: each for each in json.loads(storage.read(storage.join(out, "timing.json")))}


def test_a_second_scoring_of_an_unchanged_set_does_no_metric_work(
    finished: tuple[Scorecard, str], folder: Path, version: str, tmp_path: Path
) -> None:
    """With a cache only failures are tried again; the results are the same bytes as without one."""
    cache, outs = str(tmp_path / "cache"), [storage.normal(str(tmp_path / name)) for name in ("first", "second")]
    for out in outs:
        evaluate({"gru_mask/1": version}, Pairs.open(str(folder)), out, cache=storage.normal(cache))
    first, second = (timing_at(out) for out in outs)
    failures = 4  # the pair with a silent clean, in every system
    for name in STANDARD:
        assert (first[name]["scorings"], first[name]["computed"]) == (4 * (SPEAKERS * TAKES + 1),) * 2
        assert second[name]["computed"] == failures and 0 < second[name]["total_s"] < first[name]["total_s"]
    for name in ("scores.parquet", "scorecard.json", "report.html"):
        assert {storage.read(storage.join(out, name)) for out in outs} == {
            storage.read(storage.join(finished[1], name))
        }


def test_a_scorecard_without_a_recurrent_mask_says_so(
    finished: tuple[Scorecard, str], ray_cluster: ClusterInfo, folder: Path, tmp_path: Path
) -> None:
    """Every scorecard should have that row; where no version was given, page and table say how to get one."""
    assert finished[0].absent == ()
    card = evaluate({}, Pairs.open(str(folder)), str(tmp_path / "out"), metrics=["si_sdr"])
    assert len(card.absent) == 1 and "unmuffle train gru_smoke" in card.absent[0]
    assert "gru_smoke" in printed(card)
    assert "gru_smoke" in (tmp_path / "out" / "report.html").read_text()


# ---- sampling seeds -------------------------------------------------------------------------------------------------


class Dice(Enhancer):
    """Adds noise that is drawn anew for every call."""

    stochastic = True

    def __init__(self) -> None:
        super().__init__(ModelConfig(kind="dice"))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """[batch, samples]."""
        return noisy + 0.02 * torch.randn_like(noisy)


def test_a_stochastic_system_is_scored_with_several_seeds_and_counts_once(
    ray_cluster: ClusterInfo, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three outputs a row, each its own; the scorecard has their mean, names the seeds, and counts each row once."""
    here = {"file:///dice": Dice()}
    monkeypatch.setattr("training.evaluate.load_version", here.__getitem__)
    monkeypatch.setattr(
        "training.evaluate.version_record", lambda where: SimpleNamespace(weights_sha256="a" * 64, facts={})
    )
    monkeypatch.setattr("training.scoring._loaded", here.__getitem__)
    monkeypatch.setattr(
        "training.evaluate._run",  # a class of this test is not known to other processes
        lambda task, calls, workers: enumerate(task(ray.get(call[0]), *call[1:]) for call in calls),
    )
    cards = []
    for name in ("first", "second"):
        torch.manual_seed(len(cards))  # what was drawn before does not matter
        cards.append(
            evaluate({"dice/1": "file:///dice"}, Pairs.open(str(folder)), str(tmp_path / name), metrics=["si_sdr"])
        )
    scores = scores_at(storage.normal(str(tmp_path / "first")))
    dice = scores[scores["system"] == "dice/1"].dropna(subset="si_sdr")
    assert sorted(set(dice["seed"])) == [0, 1, 2] and set(scores["seed"][scores["system"] == "unprocessed"]) == {0}
    assert dice.groupby("row")["si_sdr"].nunique().eq(3).all()
    assert dice[dice["seed"] == 0]["si_sdr"].nunique() == SPEAKERS * TAKES
    (mean,) = (card.score("dice/1", "overall", "si_sdr").mean for card in cards[:1])
    assert mean is not None and mean.n == SPEAKERS * TAKES and mean.mean == pytest.approx(dice["si_sdr"].mean())
    assert [system.seeds for system in cards[0].systems] == [(0,), (0,), (0,), (0, 1, 2)]
    assert cards[0] == cards[1]


# ---- one row --------------------------------------------------------------------------------------------------------


def test_clean_and_enhanced_reach_the_metrics_in_order() -> None:
    """What is scored is (clean, enhanced): PESQ and STOI would differ the other way round."""
    clean = voice(2.0, 130)
    mixture = Mixture(clean, noisy_of(clean, 0), RATE)
    scored = score_mixture(mixture, unprocessed, ["pesq", "stoi"])
    for name in ("pesq", "stoi"):
        assert scored[name] == METRICS[name].score(clean, mixture.noisy, RATE)
    assert scored["stoi"] != METRICS["stoi"].score(mixture.noisy, clean, RATE)
    assert (scored["seconds"], scored["failed"]) == (2.0, "{}")
    assert scored["level_db"] == pytest.approx(10 * np.log10(np.mean(mixture.noisy.astype(float) ** 2)), abs=1e-4)


def test_a_system_that_gives_silence_or_nan_fails_by_name() -> None:
    """It gets no 0 and no -1: every metric is None with its reason."""
    clean = voice(1.0, 130)
    mixture = Mixture(clean, noisy_of(clean, 0), RATE)
    broken: list[tuple[Callable[[np.ndarray, int], np.ndarray], str]] = [
        (lambda noisy, rate: np.zeros_like(noisy), "enhanced is silent"),
        (lambda noisy, rate: np.full_like(noisy, np.nan), "enhanced holds NaN or infinity"),
    ]
    for system, reason in broken:
        scored = score_mixture(mixture, system, STANDARD)
        assert all(scored[name] is None for name in STANDARD)
        assert json.loads(scored["failed"]) == dict.fromkeys(STANDARD, reason)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_a_version_gives_back_the_rate_and_length_it_got(version: str, sample_rate: int) -> None:
    """A 16 kHz model is run at its own rate, and the metrics see audio of the corpus's rate and length."""
    noisy = noisy_of(voice(0.5, 120, sample_rate), 0)[:-7]
    enhanced = system_at(version)(noisy, sample_rate)
    assert enhanced.shape == noisy.shape and np.isfinite(enhanced).all()


def test_a_baselines_name_stands_for_it() -> None:
    """No address is needed for what was not learnt."""
    assert system_at("unprocessed") is unprocessed
    assert system_at("spectral_subtraction") is spectral_subtraction


# ---- pairs ----------------------------------------------------------------------------------------------------------


def test_pairs_know_speaker_and_digest_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    """Sub-folders are speakers; the digest follows the content, not the address."""
    for name in ("one", "two"):
        for speaker in ("anna", "ben"):
            clean = voice(0.5, 100 if speaker == "anna" else 150)
            write_pair(tmp_path / name, f"{speaker}/x.wav", clean, noisy_of(clean, 0))
    one, two = Pairs.open(str(tmp_path / "one")), Pairs.open(str(tmp_path / "two"))
    assert [entry.speaker for entry in one.entries] == ["anna", "ben"]
    assert one.digest == two.digest
    write(tmp_path / "two" / "noisy" / "ben" / "x.wav", voice(0.5, 200))
    assert Pairs.open(str(tmp_path / "two")).digest != one.digest


@pytest.mark.parametrize(
    ("clean", "noisy", "text"),
    [
        ([], [], "No audio lies in clean/ and noisy/"),
        (["a.wav"], [], "No audio lies in noisy/"),
        (["a.wav"], ["b.wav"], "No file name .* is in both .* clean/a.wav and noisy/b.wav"),
    ],
)
def test_a_folder_without_pairs_is_answered(tmp_path: Path, clean: list[str], noisy: list[str], text: str) -> None:
    """A missing folder, a missing side and names that do not match say what was found and expected."""
    for side, names in (("clean", clean), ("noisy", noisy)):
        for name in names:
            write(tmp_path / side / name, voice(0.5, 100))
    with pytest.raises(NotThere, match=text):
        Pairs.open(str(tmp_path))


def test_pairs_of_different_length_are_refused_by_name(tmp_path: Path) -> None:
    """More than one frame of difference means that they are not aligned."""
    write_pair(tmp_path, "a.wav", voice(1.0, 100), voice(1.1, 100))
    with pytest.raises(BadAudio, match=r"clean/a\.wav has 16000 samples and noisy/a\.wav has 17600"):
        Pairs.open(str(tmp_path))


def test_a_frame_more_is_trimmed(tmp_path: Path) -> None:
    """What a codec adds at the end is cut off."""
    clean = voice(1.0, 100)
    write_pair(tmp_path, "a.wav", clean, np.concatenate([clean, clean[:200]]))
    mixture = Pairs.open(str(tmp_path)).read(0)
    assert len(mixture.clean) == len(mixture.noisy) == RATE


def test_pairs_of_different_rates_are_refused_by_name(tmp_path: Path) -> None:
    """Nothing is resampled behind anybody's back."""
    write(tmp_path / "clean" / "a.wav", voice(1.0, 100))
    write(tmp_path / "noisy" / "a.wav", voice(1.0, 100, 8_000), 8_000)
    with pytest.raises(SampleRateMismatch, match=r"clean/a\.wav has 16000 Hz and noisy/a\.wav has 8000 Hz"):
        Pairs.open(str(tmp_path))


def test_unreadable_and_partnerless_files_are_set_aside_and_counted(ray_cluster: ClusterInfo, tmp_path: Path) -> None:
    """A text file named .wav, NaN and a file without a partner do not stop the rest, and stand in the scorecard."""
    clean = voice(1.0, 120)
    for name in ("good.wav", "text.wav", "nan.wav"):
        write_pair(tmp_path / "p", name, clean, noisy_of(clean, 0))
    (tmp_path / "p" / "noisy" / "text.wav").write_text("not audio")
    write(tmp_path / "p" / "noisy" / "nan.wav", np.full(RATE, np.nan))
    write(tmp_path / "p" / "clean" / "alone.wav", clean)
    pairs = Pairs.open(str(tmp_path / "p"))
    assert [entry.id for entry in pairs.entries] == ["good.wav"]
    assert {item.address for item in pairs.quarantined} == {"clean/alone.wav", "text.wav", "nan.wav"}
    scorecard = evaluate({}, pairs, str(tmp_path / "out"), metrics=["si_sdr"])
    assert (scorecard.rows, scorecard.quarantined) == (1, pairs.quarantined)
    assert "3 set aside" in printed(scorecard)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    """If all pairs are set aside there is nothing to score."""
    write_pair(tmp_path, "a.wav", voice(1.0, 100), np.zeros(0))
    with pytest.raises(BadAudio, match="None of the 1 pairs"):
        Pairs.open(str(tmp_path))


def test_stereo_counts_by_its_first_channel(tmp_path: Path) -> None:
    """A stereo file at 44.1 kHz is read at its own rate."""
    left = voice(0.5, 100, 44_100)
    write_pair(tmp_path, "a.wav", np.stack([left, 0 * left], 1), np.stack([left, 0 * left], 1), 44_100)
    mixture = Pairs.open(str(tmp_path)).read(0)
    assert mixture.sample_rate == 44_100 and np.array_equal(mixture.clean, left)


class Split:
    """One simulated row, of which only the labels are asked for."""

    address, digest = "file:///c", "d"

    def __init__(self, operations: tuple[AnyDegradation, ...], **row: str | None) -> None:
        drawn = Row(index=0, id="test-0", split="test", case="noise", speech="s", operations=operations, **row)  # type: ignore[arg-type]
        measured = Measured(samples=RATE, gain=1.0, peak=0.5, snr_db=3.5, rt60_s=0.4, cutoff_hz=3400.0)
        self.entries = [Entry(row=drawn, measured=measured, clean=Span(offset=0, size=1), noisy=Span(offset=1, size=1))]

    def read(self, index: int) -> Mixture:
        raise NotImplementedError


def test_labels_of_a_simulated_row_are_what_was_drawn_and_measured() -> None:
    """Case, speaker, noise, room and what was done come from the row, the SNR from the measurement."""
    band_limits = (BandLimit(cutoff_hz=3400.0), BandLimit(label="again", cutoff_hz=3500.0))
    (labels,) = labels_of(Split(band_limits, speaker="anna", noise="rain", room="hall"))
    assert labels.model_dump() == {
        "id": "test-0", "case": "noise", "snr_db": 3.5, "speaker": "anna", "noise": "rain", "room": "hall",
        "rt60_s": 0.4, "cutoff_hz": 3400.0, "speaker_group": None, "source": None, "degradations": "band_limit",
        "codec": None,
    }  # fmt: skip


def test_a_row_of_the_sample_corpus_knows_age_source_and_codec() -> None:
    """The last codec that the speech went through, the age of who speaks, and where the recording is from."""
    codecs = (Codec(format="gsm"), Codec(label="again", format="opus"), BandLimit(cutoff_hz=3400.0))
    (labels,) = labels_of(Split(codecs, speaker="so762_0003", noise=None, room=None))
    assert (labels.codec, labels.speaker_group, labels.source) == ("opus", "child", "speechocean762")
    assert labels.degradations == "codec+band_limit"


# ---- the scorecard --------------------------------------------------------------------------------------------------


def made_up(gains: dict[str, float], metric: str = "si_sdr") -> pd.DataFrame:
    """Scores of 48 rows in two cases; each system gains a constant and a little scatter over the unprocessed input."""
    rng = np.random.default_rng(0)
    base = rng.normal(5, 3, 48)
    lines = []
    for system, gain in {"unprocessed": 0.0, **gains}.items():
        for row in range(48):
            snr_db = None if row % 2 else -4.0 + row / 2
            lines.append(
                {
                    "row": f"row{row}", "system": system, "case": "reverb" if row % 2 else "noise", "snr_db": snr_db,
                    "speaker": f"s{row % 6}", "noise": None if row % 2 else f"n{row % 8}", "room": None, "seconds": 1.0,
                    metric: base[row] + gain + (0.1 * rng.normal() if gain else 0.0), "failed": "{}",
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def score_of(scores: pd.DataFrame, system: str, part: str, metric: str = "si_sdr", champion: str | None = None):  # type: ignore[no-untyped-def]
    """One cell of a summary."""
    _, cells = summarise(scores, [metric], champion, seed=0)
    return next(cell for cell in cells if (cell.system, cell.slice) == (system, part))


def test_slices_are_cases_and_buckets_of_snr() -> None:
    """Overall first, then the cases, then the SNR buckets that have rows; rows without an SNR are in no bucket."""
    slices, _ = summarise(made_up({"dm": 1.0}), ["si_sdr"], None, seed=0)
    assert [(part.name, part.rows) for part in slices] == [
        ("overall", 48), ("noise", 24), ("reverb", 24),
        ("SNR below 0 dB", 4), ("SNR 0 to 5 dB", 5), ("SNR 5 to 10 dB", 5), ("SNR from 10 dB", 10),
        ("length below 2 s", 48),
    ]  # fmt: skip


def test_a_case_named_overall_keeps_its_own_slice() -> None:
    """A scenario may call a case as it likes."""
    scores = made_up({"dm": 1.0}).replace({"case": {"noise": "overall"}})
    slices, _ = summarise(scores, ["si_sdr"], None, seed=0)
    assert [part.name for part in slices[:3]] == ["overall", "overall (case)", "reverb"]


def test_a_gain_is_paired_and_its_interval_is_narrow() -> None:
    """The scatter between rows cancels: a gain of 1 dB is seen although the rows vary by 3 dB."""
    cell = score_of(made_up({"dm": 1.0}), "dm", "overall")
    assert cell.gain.mean == pytest.approx(1.0, abs=0.05) and cell.gain.low > 0.8
    assert cell.mean.high - cell.mean.low > 5 * (cell.gain.high - cell.gain.low)
    assert not cell.worse


def test_intervals_allow_for_rooms_that_utterances_share() -> None:
    """Gains that differ from room to room are surer by no more than the number of rooms: as in the gate."""
    scores = made_up({"dm": 1.0})
    room = scores["row"].str.removeprefix("row").astype(int) // 8 % 3
    scores.loc[scores["system"] == "dm", "si_sdr"] += room[scores["system"] == "dm"]
    alone = score_of(scores, "dm", "reverb").gain
    shared = score_of(scores.assign(room="room" + room.astype(str)), "dm", "reverb").gain
    assert shared.clusters == (*alone.clusters, 3)
    assert shared.high - shared.low > 2 * (alone.high - alone.low)


def test_worse_is_flagged_where_the_interval_lies_below_zero() -> None:
    """A system that harms is flagged, one that does nothing is not."""
    scores = made_up({"harm": -0.5, "same": 0.0})
    assert score_of(scores, "harm", "overall").worse
    assert not score_of(scores, "same", "overall").worse
    assert not score_of(scores, "unprocessed", "overall").worse


def test_lower_is_better_turns_the_sign_of_the_gain() -> None:
    """A smaller log-spectral distance is a gain: positive is better for every metric."""
    cell = score_of(made_up({"dm": -0.5}, "lsd"), "dm", "overall", "lsd")
    assert cell.gain.mean == pytest.approx(0.5, abs=0.05) and not cell.worse


def test_gains_over_the_champion_are_paired_too() -> None:
    """With a champion named, every other system is also compared with it."""
    scores = made_up({"old": 1.0, "new": 1.4})
    cell = score_of(scores, "new", "overall", champion="old")
    assert cell.gain_over_champion.mean == pytest.approx(0.4, abs=0.05)
    assert score_of(scores, "old", "overall", champion="old").gain_over_champion is None


def test_a_pair_with_one_failure_is_in_neither_difference() -> None:
    """A row that one system failed on counts as failed, and is left out of the paired difference."""
    scores = made_up({"dm": 1.0})
    scores.loc[(scores["system"] == "dm") & (scores["row"] == "row0"), "si_sdr"] = np.nan
    cell = score_of(scores, "dm", "overall")
    assert (cell.failed, cell.mean.n, cell.gain.n) == (1, 47, 47)
    assert score_of(scores, "unprocessed", "overall").failed == 0


def test_an_unknown_cell_is_answered_with_the_known_ones(finished: tuple[Scorecard, str]) -> None:
    """A slice that does not exist is no KeyError."""
    with pytest.raises(UnknownName, match="unprocessed / overall / si_sdr"):
        finished[0].score("unprocessed", "overal", "si_sdr")


def test_the_headline_has_overall_means_and_gains(finished: tuple[Scorecard, str]) -> None:
    """What MLflow gets: finite numbers by system and metric."""
    headline = finished[0].headline()
    assert {"gru_mask/1/si_sdr", "gru_mask/1/si_sdr_gain", "unprocessed/pesq"} <= set(headline)
    assert all(np.isfinite(value) for value in headline.values())
    assert "unprocessed/pesq_gain" not in headline


# ---- the table ------------------------------------------------------------------------------------------------------


def printed(scorecard: Scorecard) -> str:
    """The table as text of 100 columns."""
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(table(scorecard))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_gains_failures_and_where_a_system_does_worse(finished: tuple[Scorecard, str]) -> None:
    """Means, gains with intervals, failed rows in words, and a mark where a whole interval lies below 0."""
    scorecard = finished[0]
    text = printed(scorecard)
    assert "spectral_subtraction" in text and "±" in text and "✗1" in text
    worse = scorecard.model_copy(
        update={
            "scores": tuple(score.model_copy(update={"worse": score.gain is not None}) for score in scorecard.scores)
        }
    )
    marks = sum(part.kind in ("overall", "case") for part in scorecard.slices) * 3 * 3
    assert printed(worse).count("▼") == marks + 1  # and one in the legend
