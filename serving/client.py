"""A client of the service: recordings, and streams that survive a lost connection.

with Client("http://127.0.0.1:8000") as client:
    wav = client.enhance(Path("noisy.wav").read_bytes())
    for enhanced in client.stream(microphone, sample_rate=16_000):
        loudspeaker(enhanced)
"""

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import httpx
import numpy as np
import soundfile
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from serving.messages import StreamAck, StreamEnd, StreamEnded, StreamResume, StreamStart, StreamStarted
from serving.stream_session import decoded, encoded
from simulation import audio
from simulation.audio import Waveform
from simulation.errors import UnmuffleError

ANSWER_S = 300.0
"""How long the service may take for an answer."""
JOB_POLL_S = 0.5
FETCH_BYTES = 1 << 24
"""Of a result in one request."""
ATTEMPTS = 6
"""At taking a stream up again; the pauses between them double, from a tenth of a second."""
RECONNECTS = 2
"""Of one request, whose connection broke."""
RECONNECT_PAUSE_S = 0.2

Lost = (ConnectionClosed, InvalidHandshake, OSError, EOFError)
"""What a connection that failed raises."""


class ServiceRefused(UnmuffleError):
    """The service refused, in its own words; `code` is one of `serving.messages.ErrorCode`."""

    def __init__(self, message: str, code: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class ServiceUnreachable(UnmuffleError):
    """Nobody answers there."""


class Client:
    """One service. Close it, or use it in a `with`."""

    def __init__(self, address: str, key: str = "") -> None:
        """`address` as `unmuffle serve` prints it; `key` where the service asks for one."""
        self._address, self._key = address.rstrip("/"), key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.last_stream: StreamEnded | None = None
        """What the service said at the end of the latest stream: chunks, and those that came late."""
        self._http = httpx.Client(base_url=self._address, headers=headers, timeout=ANSWER_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def enhance(self, recording: bytes, accept: str = "audio/wav", **options: Any) -> bytes:
        """The bytes of an audio file -> those of the enhanced one, in the format that `accept` names."""
        return self.request(
            "POST", "/v1/enhance", content=recording, headers={"Accept": accept}, params=options
        ).content

    def job(
        self, address: str, progress: Callable[[float], None] = lambda done_s: None, **options: Any
    ) -> dict[str, Any]:
        """Let the service enhance a long file of its store; the finished job. Asking again finds the same job.

        `progress` is told the seconds that are done. Raises `ServiceRefused` where the job fails.
        """
        asked = {"address": address, "options": options}
        job: dict[str, Any] = self.request("POST", "/v1/jobs", json=asked).json()
        while job["state"] in ("queued", "running"):
            time.sleep(JOB_POLL_S)
            job = self.request("GET", f"/v1/jobs/{job['id']}").json()
            progress(job["done_s"])
        if job["state"] != "done":
            raise ServiceRefused(job["error"] or f"The job is {job['state']}.", "job_failed")
        return job

    def fetch(self, job: dict[str, Any], target: Path) -> None:
        """A finished job's file to disk, in ranges; what lies at `target` is replaced when the last one has come.

        Until then the file is `target` with the job's id and `.part` behind it, where a call that was cut off goes on.
        """
        part = target.with_name(f"{target.name}.{job['id']}.part")
        with part.open("ab") as file:
            if file.tell() > job["result_bytes"]:
                file.truncate(0)
                file.seek(0)
            while file.tell() < job["result_bytes"]:
                ranged = {"Range": f"bytes={file.tell()}-{file.tell() + FETCH_BYTES - 1}"}
                file.write(self.request("GET", f"/v1/jobs/{job['id']}/result", headers=ranged).content)
        part.replace(target)

    def models(self) -> dict[str, Any]:
        """What is loaded, and the limits: `GET /v1/models`."""
        answer: dict[str, Any] = self.request("GET", "/v1/models").json()
        return answer

    def request(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Any route; raises `ServiceRefused` for an answer of 4xx or 5xx, `ServiceUnreachable` for none."""
        response = self._answer(method, path, parts)
        if response.status_code >= 400:
            raise _refused(response)
        return response

    def _answer(self, method: str, path: str, parts: dict[str, Any]) -> httpx.Response:
        """Where a connection breaks, the same is asked again over another one: no route does anything twice."""
        left = RECONNECTS
        while True:
            try:
                return self._http.request(method, path, **parts)
            except httpx.HTTPError as error:
                if not left or not isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
                    raise ServiceUnreachable(
                        f"No answer from {self._address} ({error}). Is it running? unmuffle serve"
                    ) from None
            left -= 1
            time.sleep(RECONNECT_PAUSE_S)

    def stream(
        self,
        chunks: Iterable[Waveform],
        sample_rate: int,
        channels: int = 1,
        encoding: Literal["s16le", "f32le"] = "f32le",
    ) -> Iterator[Waveform]:
        """`[samples]` or `[samples, channels]` as they come -> `[samples, channels]` as they are ready.

        All together equal the enhanced whole. A connection that is lost is made again, and the stream goes on where it
        was; `ServiceRefused` with the code unknown_session where the service knows it no more. Needs a causal version.
        """
        start = StreamStart(sample_rate=sample_rate, channels=channels, encoding=encoding)
        address = "ws" + self._address.removeprefix("http") + "/v1/stream"
        with _Line(address, self._key, start) as line:
            for chunk in chunks:
                yield from line.say(encoded(np.reshape(chunk, (-1, channels)), encoding))
            yield from line.finish()
            self.last_stream = line.ended


class Remote:
    """A service in the place of an engine: `serving.enhance.enhance_files` takes either. Answers have 16 bits."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def enhance(self, samples: Waveform, sample_rate: int) -> Waveform:
        """`[samples, channels]` -> the same shape."""
        file = io.BytesIO()
        soundfile.write(file, samples, sample_rate, format="WAV", subtype="FLOAT")
        return audio.read(self._client.enhance(file.getvalue()), "The answer of the service")[0]


class _Line:
    """A stream over as many connections as it takes. Input is kept until the output that it became has arrived."""

    def __init__(self, address: str, key: str, start: StreamStart) -> None:
        self._address, self._start = address, start
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._frame_bytes = start.channels * (2 if start.encoding == "s16le" else 4)
        self._socket: ClientConnection | None = None
        self._started: StreamStarted | None = None
        self._kept = bytearray()
        self._kept_from = 0
        self._sent = self._received = self._acknowledged = 0
        """Samples of each channel."""
        self._ending = self._said_end = False
        self.ended: StreamEnded | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._socket is not None:
            self._socket.close()

    def say(self, pcm: bytes) -> Iterator[Waveform]:
        """Send a chunk; give what has arrived. Waits while more is on its way than the service lets be."""
        self._kept += pcm
        window = self._started.window // 2 if self._started else self._start.sample_rate
        yield from self._advance(lambda: self._in_hand() <= window)

    def finish(self) -> Iterator[Waveform]:
        """Send the end; give the rest."""
        self._ending = True
        yield from self._advance(lambda: self.ended is not None)

    def _in_hand(self) -> int:
        """Samples that were said and have not come back."""
        return self._kept_from + len(self._kept) // self._frame_bytes - self._received

    def _advance(self, reached: Any) -> Iterator[Waveform]:
        attempts = 0
        while True:
            try:
                socket = self._socket or self._connected()
                self._send(socket)
                while True:
                    arrived = self._arrived(socket, wait=not reached())
                    if arrived is None:
                        return
                    attempts = 0
                    if len(arrived):
                        yield arrived
                    self._send(socket)
            except Lost as error:
                self._socket, self._said_end = None, False
                if self.ended is not None:
                    return
                attempts += 1
                if attempts > ATTEMPTS:
                    raise ServiceUnreachable(
                        f"The stream was lost, and {self._address} cannot be reached ({error})."
                    ) from None
                time.sleep(0.1 * 2 ** (attempts - 1))

    def _connected(self) -> ClientConnection:
        socket = connect(self._address, additional_headers=self._headers, proxy=None, max_size=None, compression=None)
        known = self._started
        first = StreamResume(session=known.session, received=self._received) if known else self._start
        socket.send(first.model_dump_json())
        self._started = StreamStarted.parse(_text(socket.recv(ANSWER_S)), "The answer of the service")
        self._acknowledged, self._sent, self._socket = self._received, self._started.position, socket
        return socket

    def _send(self, socket: ClientConnection) -> None:
        """What was said and not sent, as far as the window reaches; now and then, how much has arrived."""
        assert self._started is not None
        if self._received - self._acknowledged > self._started.window // 8:
            self._acknowledged = self._received
            socket.send(StreamAck(received=self._received).model_dump_json())
        room = self._received + self._started.window // 2 - self._sent
        waiting = self._kept[(self._sent - self._kept_from) * self._frame_bytes :]
        now = bytes(waiting[: max(0, room) * self._frame_bytes])
        if now:
            self._sent += len(now) // self._frame_bytes
            socket.send(now)
        if self._ending and not self._said_end and len(now) == len(waiting):
            self._said_end = True
            socket.send(StreamEnd().model_dump_json())

    def _arrived(self, socket: ClientConnection, wait: bool) -> Waveform | None:
        """The next output, empty where another message came; None where nothing is there and nothing is waited for."""
        if self.ended is not None:
            return None
        try:
            message = socket.recv(ANSWER_S if wait else 0)
        except TimeoutError:
            if wait:
                raise ServiceUnreachable(f"{self._address} has said nothing for {ANSWER_S:g} s.") from None
            return None
        if isinstance(message, str):
            self.ended = StreamEnded.parse(_text(message), "The answer of the service")
            return np.zeros((0, self._start.channels), np.float32)
        return self._heard(decoded(message, self._start.encoding, self._start.channels))

    def _heard(self, samples: Waveform) -> Waveform:
        self._received += len(samples)
        done = min(self._received, self._sent) - self._kept_from
        del self._kept[: done * self._frame_bytes]
        self._kept_from += done
        return samples


def _text(message: str | bytes) -> str:
    """A text message that is no error."""
    if isinstance(message, bytes):
        raise ServiceRefused("The service answered with PCM; expected a text message.", "bad_message")
    said = json.loads(message)
    if said.get("type") == "error":
        raise ServiceRefused(said["error"], said["code"])
    return message


def _refused(response: httpx.Response) -> ServiceRefused:
    try:
        said = response.json()
        return ServiceRefused(said["error"], said["code"], response.status_code)
    except (ValueError, KeyError, TypeError):
        text = " ".join(response.text[:300].split()) or "nothing"
        return ServiceRefused(f"Status {response.status_code}: {text}", "http_error", response.status_code)
