"""Packet loss: stretches of a call that never arrived, and what the receiver played in their place."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulation.chance import generator
from simulation.degradations.base import Degradation, Mixture, Recordings, Waveform, drawn, extremes, number
from simulation.schema import Amount, OneOf, Range

FADE_S = 0.06
"""A repeated packet has died away after this long."""


class PacketLoss(Degradation):
    """Lose packets of the noisy waveform in bursts; the clean target stays as it is.

    Of all packets (the last may be shorter) exactly the drawn share is lost, to rounding. Bursts have lengths drawn
    uniformly from 1 to `longest_burst`; every burst is followed and preceded by at least one packet that arrived, so
    none overlaps another or runs off the end. Where the rate is so high that there are too few packets to keep that
    many bursts apart, bursts are joined and may be longer. No burst is cut by an end, so the first and last few packets
    are lost less often than the others.

    zero    silence
    repeat  the last packet that arrived, over and over
    fade    the same, falling linearly to silence within 60 ms (the schedule of ITU-T G.711 appendix I, without its
            search for the pitch)

    Before the first packet there is nothing to repeat: silence.

    Source: URGENT 2025 (20 ms, rate 0.05 to 0.25, bursts of 1 to 9, zeros). There bursts overlap and run off the end,
    so fewer packets are lost than drawn; here the rate in the row is what was lost.
    """

    kind: Literal["packet_loss"] = "packet_loss"

    loss_rate: Amount = Range(low=0.05, high=0.25)
    """Share of packets that are lost."""

    longest_burst: int | OneOf = 9
    """Packets lost in a row, at most."""

    packet_ms: float | OneOf = 20.0
    """Length of a packet, in ms."""

    concealment: Literal["zero", "repeat", "fade"] | OneOf = "zero"
    """What is played in place of a lost packet."""

    seed: Amount = Range(low=0.0, high=2.0**31)
    """Which packets; its whole part counts."""

    def check(self, sample_rate: int) -> None:
        """Rates are shares; a burst and a packet have some length."""
        low, high = extremes(self.loss_rate)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"loss_rate goes from {low:g} to {high:g}; it is a share of the packets, between 0 and 1")
        if min(extremes(self.longest_burst)) < 1:
            raise ValueError(f"longest_burst is {self.longest_burst}; a burst has at least one packet")
        if min(extremes(self.packet_ms)) * sample_rate < 1000:
            raise ValueError(f"packet_ms is {self.packet_ms}; a packet holds at least one sample")

    def apply(self, mixture: Mixture, recordings: Recordings) -> Mixture:
        """The noisy side loses packets; records the realised `loss_rate`."""
        size = round(number(self.packet_ms) * mixture.sample_rate / 1000)
        packets = -(-len(mixture.noisy) // size)
        bursts = lost_bursts(packets, number(self.loss_rate), drawn(self.longest_burst), int(number(self.seed)))
        noisy = mixture.noisy.copy()
        for first, count in bursts:
            gap = slice(first * size, (first + count) * size)
            heard = noisy[max(first - 1, 0) * size : first * size]
            noisy[gap] = concealed(heard, len(noisy[gap]), drawn(self.concealment), mixture.sample_rate)
        rate = float(bursts[:, 1].sum() / packets)
        return replace(mixture, noisy=noisy, measured={**mixture.measured, "loss_rate": rate})


def lost_bursts(packets: int, rate: float, longest: int, seed: int) -> NDArray[np.int64]:
    """First packet and number of packets of each burst, `[bursts, 2]`, in order of time.

    Bursts stand in different places between the packets that arrive, so at least one of these separates two of them.
    """
    rng, lost = generator("packet_loss", seed), round(rate * packets)
    arrived = packets - lost
    ends = np.cumsum(1 + (rng.random(lost) * longest).astype(np.int64))
    cuts = np.minimum(ends[: np.searchsorted(ends, lost) + 1], lost)[: arrived + 1]
    lengths = np.diff(np.concatenate([[0], cuts]))
    if len(lengths):
        lengths[-1] += lost - cuts[-1]  # too many bursts to keep apart: the last takes what is left
    places = np.sort(np.argsort(rng.random(arrived + 1))[: len(lengths)])
    return np.stack([places + np.cumsum(lengths) - lengths, lengths], axis=1)


def concealed(heard: Waveform, samples: int, how: str, sample_rate: int) -> Waveform:
    """What is played for so many lost samples after the packet that was `heard` (empty at the start)."""
    if how == "zero" or len(heard) == 0:
        return np.zeros(samples, np.float32)
    repeated = np.resize(heard, samples)
    if how == "fade":
        repeated *= np.maximum(1 - np.arange(1, samples + 1) / (FADE_S * sample_rate), 0).astype(np.float32)
    return repeated
