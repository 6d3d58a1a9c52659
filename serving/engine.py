"""A version as a callable: whole files of any length, sample rate and channel count, in bounded memory; and streams.

Each channel is enhanced on its own, at the network's sample rate. What lies above half that rate in the input (8 kHz
for a network at 16 kHz) is lost: the answer has the input's sample rate and length, not its bandwidth. No gain is
applied but the network's own; what it lets overshoot is clipped at full scale.

Long input passes the network in blocks or, where it is causal, with its state: see `training/blocks.py`.
"""

from threading import Lock

import numpy as np

from serving.streaming import Stream
from simulation.audio import Waveform, resample
from simulation.errors import BadAudio, BadSetting, CheckpointIncompatible
from training.blocks import enhance_any_length
from training.checkpoint import load_version
from training.models.base import Enhancer

SHORTEST_S = 1.0
"""Shorter input is filled up with silence, which is cut off again: no network is asked about a single sample."""

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
LOUDEST = 1000.0
"""Peak above which samples are on another scale than full scale 1, and networks overflow."""


class Engine:
    """One network, ready to enhance. Several threads may call it at once.

    One block at a time passes the network, so that memory does not grow with the number of callers, and a short file
    gets its turn between two blocks of a long one. Streams wait for each other only, not for files.
    """

    def __init__(self, model: Enhancer) -> None:
        self.model = model.eval()
        self._turn = Lock()
        self._turn_of_streams = Lock()

    @classmethod
    def load(cls, address: str) -> "Engine":
        """The version in this folder, its weights checked against its own digest (`CheckpointIncompatible`)."""
        return cls(load_version(address))

    @property
    def sample_rate(self) -> int:
        """Hz at which the network works."""
        return self.model.sample_rate

    def enhance(self, samples: Waveform, sample_rate: int) -> Waveform:
        """`[samples, channels]` at any sample rate -> the same shape at the same rate, finite and within [-1, 1].

        Raises `BadAudio` for a sample rate or a level that no audio has, `CheckpointIncompatible` if the network gives
        NaN.
        """
        check_rate(sample_rate)
        check_level(samples)
        enhanced = np.empty_like(samples)
        for channel in range(samples.shape[1]):
            enhanced[:, channel] = self._channel(samples[:, channel], sample_rate)
        return enhanced

    def stream(self, sample_rate: int, channels: int = 1) -> Stream:
        """A stream of its own through the network; `BadSetting` where the network is not causal."""
        check_rate(sample_rate)
        if not self.model.causal:
            raise BadSetting(
                f"This {self.model.config.kind} network needs the whole recording: it is not causal, and cannot stream."
                " Send the recording to POST /v1/enhance, or serve a causal version."
            )
        return Stream(self.model, sample_rate, channels, self._turn_of_streams, round(SHORTEST_S * sample_rate))

    def _channel(self, samples: Waveform, sample_rate: int) -> Waveform:
        filled = _of_length(samples, max(len(samples), round(SHORTEST_S * sample_rate)))
        at_model_rate = resample(filled, sample_rate, self.sample_rate)
        enhanced = enhance_any_length(self.model, at_model_rate, self._turn)
        if not np.isfinite(enhanced).all():
            raise CheckpointIncompatible(
                f"This {self.model.config.kind} network answers with NaN or infinity. Expected finite samples;"
                " serve another version: unmuffle rollback"
            )
        back = resample(enhanced, self.sample_rate, sample_rate)
        return np.clip(_of_length(back, len(samples)), -1.0, 1.0)


def check_rate(sample_rate: int) -> None:
    """Raise `BadAudio` for a sample rate that no recording has."""
    if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
        raise BadAudio(
            f"The sample rate is {sample_rate} Hz; expected between {LOWEST_RATE_HZ} and {HIGHEST_RATE_HZ} Hz."
        )


def check_level(samples: Waveform) -> None:
    """Raise `BadAudio` for samples on another scale than full scale 1."""
    peak = np.abs(samples).max(initial=0.0)
    if peak > LOUDEST:
        raise BadAudio(
            f"The samples reach {peak:.4g}; expected a waveform within [-1, 1]. Divide it by its full scale."
        )


def _of_length(samples: Waveform, length: int) -> Waveform:
    """Cut, or filled up with silence, at the end."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))
