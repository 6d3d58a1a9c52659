"""What `unmuffle enhance` runs: files in, files out, without a server.

An output has the name, format, sample rate, length and channels of its input. Where that format cannot be
written, or not so that all of this holds (MPEG layer II, some ADPCM), the output has the ending .wav. A file is read
whole.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import soundfile

from serving import wire
from simulation import audio, storage
from simulation.audio import AUDIO_SUFFIXES, Waveform
from simulation.errors import BadSetting, UnmuffleError


class Enhances(Protocol):
    """An `Engine`, or a service somewhere else."""

    def enhance(self, samples: Waveform, sample_rate: int) -> Waveform:
        """`[samples, channels]` -> the same shape."""


@dataclass(frozen=True)
class Task:
    """One file to enhance."""

    source: Path
    target: Path
    """Where it goes if its format can be written."""


@dataclass
class Enhanced:
    """What became of the files."""

    done: list[Path] = field(default_factory=list)
    """Outputs."""
    failed: dict[Path, str] = field(default_factory=dict)
    """Inputs, and why there is no output for them; each reason names its input."""

    def __str__(self) -> str:
        """One line, and one for each file that failed."""
        return "\n".join([f"{len(self.done)} enhanced, {len(self.failed)} failed", *self.failed.values()])

    @property
    def exit_code(self) -> int:
        """Of the command: 2 if any file failed."""
        return 2 if self.failed else 0


def enhance_files(
    inputs: Sequence[str | Path],
    out: str | Path,
    engine: Enhances,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Enhanced:
    """Enhance files, and the audio files below folders, into `out`; what is wrong with one does not stop the others.

    Each output appears whole or not at all, and never in the place of an input. `progress` is told how many files are
    done, of how many. Raises `BadSetting` when there is nothing to enhance.
    """
    folder = Path(out).expanduser().absolute()
    tasks = list(_tasks(inputs, folder))
    if not tasks:
        raise BadSetting(
            f"There is no audio file to enhance in {', '.join(map(str, inputs)) or 'nothing'}. Expected files, or"
            f" folders with files that end in one of {' '.join(AUDIO_SUFFIXES)}; what lies in {folder} does not count."
        )
    sources = {task.source.resolve() for task in tasks}
    result = Enhanced()
    for number, task in enumerate(tasks):
        progress(number, len(tasks))
        try:
            result.done.append(_enhance_file(task, engine, taken=sources.union(result.done)))
        except (UnmuffleError, MemoryError) as error:  # a file may be longer, or say that it is, than memory is large
            reason, name = str(error), str(task.source)
            result.failed[task.source] = (
                reason if name in reason else f"{name}: {reason}"
            )  # not every layer knows names
    progress(len(tasks), len(tasks))
    return result


def _tasks(inputs: Sequence[str | Path], out: Path) -> Iterator[Task]:
    """Files as they are named; those of a folder keep their place below it. What lies in `out` is no input."""
    for named in inputs:
        path = Path(named).expanduser().absolute()
        if not path.is_dir():
            yield Task(path, out / path.name)
            continue
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix.lower() in AUDIO_SUFFIXES and not file.is_relative_to(out):
                yield Task(file, out / file.relative_to(path))


def _enhance_file(task: Task, engine: Enhances, taken: set[Path]) -> Path:
    data = storage.read(storage.normal(str(task.source)))
    samples, sample_rate = audio.read(data, str(task.source))
    enhanced = engine.enhance(samples, sample_rate)
    header = soundfile.info(io.BytesIO(data))
    target, encoded = task.target, _encoded(enhanced, sample_rate, header.format, header.subtype)
    if encoded is None:
        target, encoded = task.target.with_suffix(".wav"), wire.encode(enhanced, sample_rate, flac=False)[0]
    if target.resolve() in taken:
        raise BadSetting(
            f"{task.source} was not written: its place {target} is an input, or the output of another input."
            " Give another --out, or rename one of them."
        )
    storage.replace(storage.normal(str(target)), encoded)
    return target.resolve()


def _encoded(samples: Waveform, sample_rate: int, format: str, subtype: str) -> bytes | None:
    """A file of this format; None where it cannot be written, or does not keep rate, length and channels."""
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, sample_rate, format=format, subtype=subtype)
        written = soundfile.info(io.BytesIO(file.getvalue()))
    except (soundfile.LibsndfileError, ValueError):
        return None
    kept = (written.frames, written.channels, written.samplerate) == (*samples.shape, sample_rate)
    return file.getvalue() if kept else None
