from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.engine import Engine
from serving.enhance import enhance_files
from simulation.errors import BadSetting
from training.registry import Version


@pytest.fixture(scope="module")
def engine(versions: tuple[Version, Version]) -> Engine:
    """A tiny network."""
    return Engine.load(versions[0].address)


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A folder with two good files, one of them in a folder below, and one that is text."""
    folder = tmp_path / "noisy"
    write(folder / "one.wav", 16_000, channels=1)
    write(folder / "below" / "two.flac", 44_100, channels=2)
    (folder / "text.wav").write_text("This is no audio.")
    (folder / "notes.txt").write_text("Not even named like audio.")
    return folder


def write(path: Path, sample_rate: int, channels: int, subtype: str | None = None) -> None:
    """An audio file of 0.3 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(0, 0.1, (sample_rate * 3 // 10, channels))
    soundfile.write(path, samples, sample_rate, subtype=subtype)


def tree(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_one_bad_file_does_not_stop_the_others(noisy: Path, tmp_path: Path, engine: Engine) -> None:
    """Good files are written, the bad one is named with its reason, the exit code is 2, nothing else lies about."""
    result = enhance_files([noisy], tmp_path / "out", engine)
    assert tree(tmp_path / "out") == {"one.wav", "below/two.flac"}
    assert list(result.failed) == [noisy / "text.wav"] and "text of 17 bytes" in result.failed[noisy / "text.wav"]
    assert result.exit_code == 2


def test_every_file_that_failed_is_named(tmp_path: Path, engine: Engine) -> None:
    """Once, also where the engine, which knows no names, refuses it."""
    write(tmp_path / "slow.wav", 500, channels=1)
    (tmp_path / "text.wav").write_text("This is no audio.")
    summary, slow, text = str(enhance_files([tmp_path], tmp_path / "out", engine)).splitlines()
    assert summary == "0 enhanced, 2 failed"
    assert slow.startswith(f"{tmp_path}/slow.wav: The sample rate is 500 Hz")
    assert text.startswith(f"{tmp_path}/text.wav") and text.count("text.wav") == 1


def test_good_files_alone_exit_with_zero(noisy: Path, tmp_path: Path, engine: Engine) -> None:
    """Nothing failed, and progress reached the end."""
    steps: list[tuple[int, int]] = []
    result = enhance_files([noisy / "one.wav"], tmp_path / "out", engine, progress=lambda *step: steps.append(step))
    assert result.exit_code == 0 and result.done == [tmp_path / "out" / "one.wav"]
    assert steps == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("name", "sample_rate", "channels", "subtype"),
    [
        ("a.wav", 8_000, 1, "PCM_24"),
        ("a.wav", 48_000, 2, "FLOAT"),
        ("a.flac", 44_100, 2, "PCM_16"),
        ("a.ogg", 16_000, 1, "VORBIS"),
        ("a.mp3", 44_100, 2, None),
        ("a.aiff", 22_050, 3, None),
        ("a.wav", 8_000, 1, "GSM610"),
    ],
)
def test_output_has_the_format_of_the_input(
    tmp_path: Path, engine: Engine, name: str, sample_rate: int, channels: int, subtype: str | None
) -> None:
    """Name, format, encoding, sample rate, channels and length are those of the input."""
    source = tmp_path / "in" / name
    write(source, sample_rate, channels, subtype)
    enhance_files([source], tmp_path / "out", engine)
    before, after = soundfile.info(source), soundfile.info(tmp_path / "out" / name)
    for field in ("format", "subtype", "samplerate", "channels", "frames"):
        assert getattr(after, field) == getattr(before, field), field


def test_a_format_that_cannot_be_written_becomes_wav(tmp_path: Path, engine: Engine) -> None:
    """MPEG layer II (here 20 frames of silence) can only be read; the length is kept all the same."""
    source = tmp_path / "a.mp2"
    source.write_bytes((b"\xff\xfd\x80\xc0" + bytes(413)) * 20)
    result = enhance_files([source], tmp_path / "out", engine)
    assert result.done == [tmp_path / "out" / "a.wav"]
    assert soundfile.info(result.done[0]).frames == soundfile.info(source).frames > 0


def test_what_is_written_is_what_the_engine_gives(tmp_path: Path, engine: Engine) -> None:
    """The output is the enhanced input, not the input."""
    write(tmp_path / "in" / "a.wav", 16_000, 1, "FLOAT")
    noisy, _ = soundfile.read(tmp_path / "in" / "a.wav", dtype="float32", always_2d=True)
    enhance_files([tmp_path / "in"], tmp_path / "out", engine)
    enhanced, _ = soundfile.read(tmp_path / "out" / "a.wav", dtype="float32", always_2d=True)
    np.testing.assert_allclose(enhanced, engine.enhance(noisy, 16_000), atol=1e-6)
    assert np.abs(enhanced - noisy).max() > 0.01


def test_an_input_is_never_overwritten(noisy: Path, engine: Engine) -> None:
    """Enhancing a file into its own folder fails; so does a folder into itself; every byte stays."""
    before = {path: path.read_bytes() for path in noisy.rglob("*") if path.is_file()}
    assert "is an input" in enhance_files([noisy / "one.wav"], noisy, engine).failed[noisy / "one.wav"]
    with pytest.raises(BadSetting, match="does not count"):
        enhance_files([noisy], noisy, engine)
    assert {path: path.read_bytes() for path in noisy.rglob("*") if path.is_file()} == before


def test_two_inputs_of_one_name_do_not_overwrite_each_other(tmp_path: Path, engine: Engine) -> None:
    """The second one is refused, by name."""
    write(tmp_path / "a" / "x.wav", 16_000, 1)
    write(tmp_path / "b" / "x.wav", 8_000, 1)
    result = enhance_files([tmp_path / "a", tmp_path / "b"], tmp_path / "out", engine)
    assert list(result.failed) == [tmp_path / "b" / "x.wav"]
    assert soundfile.info(tmp_path / "out" / "x.wav").samplerate == 16_000


def test_outputs_below_an_input_folder_are_not_enhanced_again(noisy: Path, engine: Engine) -> None:
    """Running twice with --out inside the input folder gives the same files."""
    for _ in range(2):
        enhance_files([noisy], noisy / "out", engine)
    assert tree(noisy / "out") == {"one.wav", "below/two.flac"}


def test_an_input_that_does_not_exist_is_counted_as_failed(tmp_path: Path, engine: Engine) -> None:
    """A misspelt name is reported like a bad file."""
    result = enhance_files([tmp_path / "no.wav"], tmp_path / "out", engine)
    assert result.exit_code == 2 and not (tmp_path / "out").exists()


def test_a_folder_without_audio_is_refused(tmp_path: Path, engine: Engine) -> None:
    """There is nothing to do, and the message says what was looked for."""
    with pytest.raises(BadSetting, match=r"\.flac"):
        enhance_files([tmp_path], tmp_path / "out", engine)
