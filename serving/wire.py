"""Audio over HTTP: the body of a request as a waveform, a waveform as the body of an answer; bounded on the way in.

Nothing in a request is taken as a path, an address or a pickle: a body is audio or it is refused.
"""

import io
from collections.abc import AsyncGenerator
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
from simulation.errors import BadAudio, UnmuffleError

FIELD = "file"
"""Name of the part of a multipart body that holds the audio."""


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


async def upload(request: Request, limits: Limits) -> Upload:
    """The raw body, or the part named `file` of a multipart body. Raises `Refused` when it is empty or too large."""
    body = await _body(request, limits)
    found = Upload(body, "The body")
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        found = await _part(request, body)
    if not found.data:
        raise Refused(400, "empty_body", f"{found.name} is empty. Expected the bytes of {audio.READABLE}.")
    return found


async def _body(request: Request, limits: Limits) -> bytes:
    """All of the body, or `Refused` as soon as it is known to be too large."""
    allowed = limits.max_body_mb * 1e6
    declared = request.headers.get("content-length", "")
    received = bytearray()
    if declared.isdecimal() and int(declared) > allowed:
        raise _too_large(int(declared), limits)
    async for chunk in request.stream():
        received += chunk
        if len(received) > allowed:
            raise _too_large(len(received), limits)
    return bytes(received)


def _too_large(size: int, limits: Limits) -> Refused:
    return Refused(
        413,
        "too_large",
        f"The body has {size / 1e6:.1f} MB or more; this service takes up to {limits.max_body_mb:g} MB. Send the file"
        " as FLAC or in parts, or use: unmuffle enhance FILE --out FOLDER",
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


def decode(upload: Upload, limits: Limits) -> tuple[Waveform, int]:
    """Samples `[samples, channels]` and sample rate. Raises `Refused` for too much audio, `BadAudio` for none."""
    _check_length(upload, limits)
    return audio.read(upload.data, upload.name)


def _check_length(upload: Upload, limits: Limits) -> None:
    """Look at the header before anything is decoded; what has no header is left to the decoder to refuse."""
    try:
        header = soundfile.info(io.BytesIO(upload.data))
    except soundfile.LibsndfileError:
        return
    if header.frames > audio.LONGEST_SAMPLES:
        return
    seconds = header.channels * max(header.frames / header.samplerate, SHORTEST_S)
    decoded_mb = 4 * header.channels * header.frames / 1e6
    if seconds > limits.max_seconds or decoded_mb > limits.max_decoded_mb:
        raise Refused(
            413,
            "too_long",
            f"{upload.name} holds {header.frames / header.samplerate:.1f} s of {header.channels} channels,"
            f" {decoded_mb:.1f} MB decoded; this service takes up to {limits.max_seconds:g} s (all channels together)"
            f" and {limits.max_decoded_mb:g} MB. Send it in parts, or use: unmuffle enhance FILE --out FOLDER",
        )


def wants_flac(accept: str) -> bool:
    """Whether an `Accept` header asks for FLAC; everything else is answered with WAV."""
    return "audio/flac" in accept.lower()


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
    return 500, "internal_error"
