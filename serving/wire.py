"""Audio over HTTP: the body of a request as a waveform, a waveform as the body of an answer; bounded on the way in.

Nothing in a request is taken as a path, an address or a pickle: a body is audio or it is refused.
"""

import asyncio
import io
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import numpy as np
import soundfile
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.engine import SHORTEST_S
from serving.messages import ErrorCode, Limits
from simulation import audio
from simulation.audio import Waveform
from simulation.errors import BadAudio, NotThere, UnmuffleError

FIELD = "file"
"""Name of the part of a multipart body that holds the audio."""
SLOWEST_BYTES_S = 1000.0
"""Of a body, beside the patience with its beginning: a byte now and then must not hold a place for ever."""


class Refused(UnmuffleError):
    """A request that is answered with 4xx, its one paragraph and its code."""

    def __init__(self, status: int, code: ErrorCode, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Upload:
    """The audio bytes of a request, not yet decoded."""

    data: bytes
    name: str
    """For messages only."""


async def upload(request: Request, limits: Limits, hold: Callable[[float], None]) -> Upload:
    """The raw body, or the part named `file` of a multipart body. Raises `Refused` when it is empty or too large.

    `hold` is told of every MB as it comes, and may refuse it.
    """
    body = await _body(request, limits, hold)
    found = Upload(body, "The body")
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        found = await _part(request, body)
    if not found.data:
        raise Refused(400, "empty_body", f"{found.name} is empty. Expected the bytes of {audio.READABLE}.")
    return found


async def _body(request: Request, limits: Limits, hold: Callable[[float], None]) -> bytes:
    """All of the body, or `Refused` as soon as it is known to be too large, or too slow."""
    allowed = limits.max_body_mb * 1e6
    declared = request.headers.get("content-length", "")
    received, began = bytearray(), time.monotonic()
    if declared.isdecimal() and int(declared) > allowed:
        raise _too_large(int(declared), limits)
    chunks = aiter(request.stream())
    while True:
        try:
            left_s = began + limits.upload_idle_s + len(received) / SLOWEST_BYTES_S - time.monotonic()
            async with asyncio.timeout(min(left_s, limits.upload_idle_s)):
                chunk = await anext(chunks, None)
        except TimeoutError:
            found = f"{len(received)} bytes came in {time.monotonic() - began:.0f} s."
            raise Refused(
                408, "too_slow", f"{found} Expected the rest, and no pause of {limits.upload_idle_s:g} s."
            ) from None
        if chunk is None:
            return bytes(received)
        hold(len(chunk) / 1e6)
        received += chunk
        if len(received) > allowed:
            raise _too_large(len(received), limits)


def _too_large(size: int, limits: Limits) -> Refused:
    return Refused(
        413,
        "too_large",
        f"The body has {size / 1e6:.1f} MB or more; this service takes up to {limits.max_body_mb:g} MB. Put the"
        " file into the store, and name its address to POST /v1/jobs; or use: unmuffle enhance FILE --out FOLDER",
    )


async def _part(request: Request, body: bytes) -> Upload:
    """The part named `file`."""

    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, once()).parse()
    except MultiPartException as error:
        raise Refused(400, "bad_multipart", f"The multipart body cannot be read: {error.message}") from None
    try:
        part = form.get(FIELD)
        if not isinstance(part, UploadFile):
            found = ", ".join(repr(name) for name in form) or "no parts"
            expected = f"the audio in a file part named {FIELD!r} (curl -F {FIELD}=@speech.wav)"
            raise Refused(400, "bad_multipart", f"Expected {expected}; found {found}.")
        return Upload(await part.read(), f"The part {FIELD!r}")
    finally:
        await form.close()


def waveforms_mb(upload: Upload, limits: Limits) -> float:
    """What a request holds beside its body while it is under way: its waveform, and that enhanced, in MB.

    Raises `Refused` for too much audio.
    """
    return 3 * _check_length(upload, limits)


def decode(upload: Upload) -> tuple[Waveform, int]:
    """Samples `[samples, channels]` and sample rate. Raises `BadAudio` for what is no audio."""
    return audio.read(upload.data, upload.name)


def _check_length(upload: Upload, limits: Limits) -> float:
    """MB of the waveform, by its header, before anything is decoded; what has none is left to the decoder to refuse."""
    try:
        header = soundfile.info(io.BytesIO(upload.data))
    except soundfile.LibsndfileError:
        return 0.0
    if header.frames > audio.LONGEST_SAMPLES:
        return 0.0
    seconds = header.channels * max(header.frames / header.samplerate, SHORTEST_S)
    decoded_mb = 4 * header.channels * header.frames / 1e6
    if seconds > limits.max_seconds or decoded_mb > limits.max_decoded_mb:
        raise Refused(
            413,
            "too_long",
            f"{upload.name} holds {header.frames / header.samplerate:.1f} s of {header.channels} channels,"
            f" {decoded_mb:.1f} MB decoded; this service takes up to {limits.max_seconds:g} s (all channels together)"
            f" and {limits.max_decoded_mb:g} MB. Put the file into the store, and name its address to POST /v1/jobs; or"
            " use: unmuffle enhance FILE --out FOLDER",
        )
    return decoded_mb


FORMATS: dict[str, tuple[str, str, str]] = {
    "wav": ("audio/wav", "WAV", "PCM_16"),
    "flac": ("audio/flac", "FLAC", "PCM_16"),
    "ogg": ("audio/ogg", "OGG", "VORBIS"),
}
"""By extension: media type, and what libsndfile calls it."""
OGG_BLOCK = 1 << 16
"""Samples that are given to the Vorbis encoder at once: libsndfile 1.2 overflows its stack on long ones."""


def format_for(extension: str, accept: str) -> str:
    """The extension that is asked for, else the first one that the `Accept` header names, else wav."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    found = [name for media in named for name, (media_type, *_) in FORMATS.items() if media == media_type]
    return extension or (found[0] if found else "wav")


def encode_as(samples: Waveform, sample_rate: int, format: str) -> tuple[bytes, str]:
    """The body of an answer in one of `FORMATS`, and its media type."""
    if format != "ogg":
        return encode(samples, sample_rate, flac=format == "flac")
    media_type, container, subtype = FORMATS[format]
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(file, "w", sample_rate, samples.shape[1], subtype, format=container) as output:
            for start in range(0, len(samples), OGG_BLOCK):
                output.write(samples[start : start + OGG_BLOCK])
    except soundfile.LibsndfileError as error:
        shape = f"{samples.shape[1]} channels at {sample_rate} Hz"
        refused = f"Ogg cannot hold {shape} ({error.error_string}). Ask for it with Accept: audio/wav"
        raise Refused(406, "not_encodable", refused) from None
    return file.getvalue(), media_type


def encode(samples: Waveform, sample_rate: int, flac: bool) -> tuple[bytes, str]:
    """The body of an answer and its media type: 16-bit WAV or FLAC, of `[samples, channels]`."""
    if not flac:
        return _wav(samples, sample_rate), "audio/wav"
    try:
        return audio.encode_flac(samples, sample_rate), "audio/flac"
    except soundfile.LibsndfileError:
        raise Refused(
            406,
            "not_encodable",
            f"FLAC holds up to 8 channels, and not every sample rate; the answer has {samples.shape[1]} channels at"
            f" {sample_rate} Hz. Ask for it with Accept: audio/wav",
        ) from None


def _wav(samples: Waveform, sample_rate: int) -> bytes:
    file = io.BytesIO()
    integers = np.rint(audio.quantise(samples, 16) * 2.0**15).astype(np.int16)
    soundfile.write(file, integers, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def status_of(error: UnmuffleError) -> tuple[int, ErrorCode]:
    """HTTP status and code of an error that a request met."""
    if isinstance(error, Refused):
        return error.status, error.code
    if isinstance(error, BadAudio):
        return 422, "bad_audio"
    if isinstance(error, NotThere):
        return 404, "not_there"
    return 500, "internal_error"
