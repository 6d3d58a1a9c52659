"""A file of any length, enhanced from disk to disk: neither its bytes nor its waveform are in memory as a whole."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from serving.engine import Engine
from serving.options import Options, engine_for, mixed
from serving.wire import Refused
from simulation import audio
from simulation.audio import Waveform
from simulation.errors import BadAudio

CHUNK_S = 10.0
"""Read at a time."""


def enhance_file(
    engine: Engine, options: Options, source: Path, target: Path, progress: Callable[[float], None]
) -> tuple[float, int]:
    """Write `source` enhanced to `target`, as 16-bit FLAC; seconds and channels of it.

    `progress` is told the seconds that are done, and may raise to stop. Raises `BadAudio` for a file that is none, or
    is damaged further in; `target` is then to be thrown away.
    """
    check_options(engine, options)
    try:
        with soundfile.SoundFile(source) as file:
            _check(file)
            written, channels = 0, 1 if options.downmix else file.channels
            if channels > 8:
                raise Refused(422, "bad_option", f"FLAC holds up to 8 channels; found {channels}. Ask for a downmix.")
            with soundfile.SoundFile(target, "w", file.samplerate, channels, "PCM_16", format="FLAC") as output:
                for piece in enhanced_chunks(
                    engine, options, _chunks(file, options.downmix), file.samplerate, channels
                ):
                    output.write(np.rint(audio.quantise(piece, 16) * 2.0**15).astype(np.int16))
                    written += len(piece)
                    progress(written / file.samplerate)
            return file.frames / file.samplerate, channels
    except soundfile.LibsndfileError as error:
        raise BadAudio(
            f"The file cannot be read as audio, or written as FLAC ({error.error_string}). Expected {audio.READABLE}."
        ) from None


def check_options(engine: Engine, options: Options) -> None:
    """`Refused` where this network cannot do it to a file of any length."""
    if options.contrast:
        raise Refused(422, "bad_option", "Contrast stretching needs the recording as a whole; leave contrast out.")
    engine_for(engine, options)


def enhanced_chunks(
    engine: Engine, options: Options, chunks: Iterable[Waveform], sample_rate: int, channels: int
) -> Iterator[Waveform]:
    """`[samples, channels]` in pieces -> as many samples, with as much of the input as the options ask for."""
    heard: deque[Waveform] = deque()

    def remembered() -> Iterator[Waveform]:
        for chunk in chunks:
            if options.dry > 0:
                heard.append(chunk)
            yield chunk

    for piece in engine_for(engine, options).enhance_chunks(remembered(), sample_rate, channels):
        yield mixed(piece, _first(heard, len(piece)), options) if options.dry > 0 else piece


def _first(heard: "deque[Waveform]", samples: int) -> Waveform:
    """Take so many samples out of the front of what was heard."""
    taken = []
    while samples > 0:
        chunk = heard.popleft()
        taken.append(chunk[:samples])
        if len(chunk) > samples:
            heard.appendleft(chunk[samples:])
        samples -= len(taken[-1])
    return np.concatenate(taken) if taken else np.zeros((0, 1), np.float32)


def _check(file: soundfile.SoundFile) -> None:
    if file.frames == 0 or file.frames > audio.LONGEST_SAMPLES:
        raise BadAudio("The file holds no samples, or does not say how many. Expected a finished recording.")


def _chunks(file: soundfile.SoundFile, downmix: bool) -> Iterator[Waveform]:
    left = file.frames
    while left > 0:
        chunk = file.read(min(left, round(CHUNK_S * file.samplerate)), dtype="float32", always_2d=True)
        audio.check(chunk, "The file, further in,")
        left -= len(chunk)
        yield chunk.mean(axis=1, keepdims=True, dtype=np.float32) if downmix else chunk
