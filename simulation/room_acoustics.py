"""The sound of a shoebox room: image sources throughout, or image sources early and a diffuse tail after them.

Image sources are exact and need a number that grows with the cube of the reverberation time (and shrinks with the
volume: 7.6 million for 1 s in 4 x 3 x 2.5 m), and their decay comes out longer than Sabine's formula promises.
The hybrid takes every image that arrives within 50 ms of the direct sound (what the target `early` keeps), and fades
over 10 ms into noise that decays by the asked time. Its cost hardly depends on the time asked for.

Deterministic: pyroomacoustics runs on one thread, and the noise is a function of a key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from simulation.chance import generator

SPEED_OF_SOUND_M_PER_S = 343.0
"""In dry air at 20 °C, as in pyroomacoustics."""

PRE_DELAY_SAMPLES = 40
"""Half the length of pyroomacoustics' fractional delay filter (81): every response starts this late."""

IMAGES_S = 0.050
"""The diffuse tail begins to fade in so long after the direct sound."""

FADE_S = 0.010
"""And is alone after so much more."""

MATCHED_S = 0.020
"""The tail takes its level from the images of this long before the fade."""

DECAYED_DB = 75.0
"""A hybrid response lasts until the tail has decayed by so much."""

Place = NDArray[np.float64]
"""Length, width, height, in m."""


def images(size_m: Place, microphone: Place, speaker: Place, rt60_s: float, sample_rate: int) -> NDArray[np.float64]:
    """Image sources up to the order that the decay needs, with walls by the inverse of Sabine's formula."""
    import pyroomacoustics  # slow to import, and reading a scenario must be quick

    absorption, max_order = pyroomacoustics.inverse_sabine(rt60_s, size_m)
    return _image_sources(size_m, microphone, speaker, absorption, max_order, sample_rate)


def hybrid(
    size_m: Place, microphone: Place, speaker: Place, rt60_s: float, sample_rate: int, key: tuple[str | int, ...]
) -> NDArray[np.float64]:
    """Every image of the first 60 ms, cross-faded into noise whose energy falls by 60 dB in `rt60_s`.

    Walls by the inverse of Eyring's formula, whose decay the early images of a shoebox follow. The noise, keyed by
    `key`, has the level that makes its decay meet the images' energy before the fade.
    """
    travel_s = float(np.linalg.norm(speaker - microphone)) / SPEED_OF_SOUND_M_PER_S
    arrival = PRE_DELAY_SAMPLES + round(travel_s * sample_rate)
    order = _complete_order(size_m, travel_s + IMAGES_S + FADE_S)
    early = _image_sources(size_m, microphone, speaker, eyring_absorption(size_m, rt60_s), order, sample_rate)
    lasting_s = max(rt60_s * DECAYED_DB / 60, IMAGES_S + FADE_S)
    response = np.zeros(arrival + round(lasting_s * sample_rate))
    response[: len(early)] = early[: len(response)]
    return _with_tail(response, arrival, rt60_s, sample_rate, key)


def eyring_absorption(size_m: Place, rt60_s: float) -> float:
    """The walls' absorption for this decay: T = 24 ln10 V / (-c S ln(1 - a)) (Eyring 1930)."""
    return float(1 - np.exp(-24 * np.log(10) * np.prod(size_m) / (SPEED_OF_SOUND_M_PER_S * _surface(size_m) * rt60_s)))


def dead_rt60_s(size_m: Place) -> float:
    """Sabine's reverberation time of a room whose walls swallow everything; his formula cannot go below it."""
    return float(24 * np.log(10) * np.prod(size_m) / (SPEED_OF_SOUND_M_PER_S * _surface(size_m)))


def _surface(size_m: Place) -> float:
    length, width, height = size_m
    return float(2 * (length * width + length * height + width * height))


def _complete_order(size_m: Place, seconds: float) -> int:
    """The order that has every image arriving by then: of n walls' images, the nearest is n / |1 / size| away."""
    nearest_m = 1 / np.linalg.norm(1 / size_m)
    return int(np.ceil(SPEED_OF_SOUND_M_PER_S * seconds / nearest_m)) + 1


def _with_tail(
    response: NDArray[np.float64], arrival: int, rt60_s: float, sample_rate: int, key: tuple[str | int, ...]
) -> NDArray[np.float64]:
    """The response, replaced by noise from the fade on."""
    begins, fade = arrival + round(IMAGES_S * sample_rate), round(FADE_S * sample_rate)
    energy = 10 ** (-6 * np.arange(len(response)) / (rt60_s * sample_rate))
    before = slice(begins - round(MATCHED_S * sample_rate), begins)
    level = np.sqrt(np.sum(np.square(response[before])) / np.sum(energy[before]))
    noise = level * np.sqrt(energy) * ndtri(generator(*key, "tail").random(len(response)))
    progress = np.clip((np.arange(len(response)) - begins) / fade, 0, 1) * np.pi / 2
    return response * np.cos(progress) + noise * np.sin(progress)


def _image_sources(
    size_m: Place, microphone: Place, speaker: Place, absorption: float, max_order: int, sample_rate: int
) -> NDArray[np.float64]:
    import pyroomacoustics

    with _one_thread():
        room = pyroomacoustics.ShoeBox(
            size_m, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=max_order
        )
        room.add_source(speaker)
        room.add_microphone(microphone)
        room.compute_rir()
    return np.asarray(room.rir[0][0])


_constants_are_ours = Lock()


@contextmanager
def _one_thread() -> Iterator[None]:
    """pyroomacoustics on one thread: workers share the machine, and its sums keep their order, hence their last bits.

    The number is a constant of the library, so only one of our own threads at a time may rely on it.
    """
    import pyroomacoustics

    with _constants_are_ours:
        before = pyroomacoustics.constants.get("num_threads")
        pyroomacoustics.constants.set("num_threads", 1)
        try:
            yield
        finally:
            pyroomacoustics.constants.set("num_threads", before)
