"""Rows on which a system has little or nothing to do: clean and nearly clean input, silence, music, a minute at once.

They are made from the rows of a corpus, and count in no slice but their own (`training.slices.HARMLESS`). A system that
does well on average and mutes, colours or breaks these is one that people switch off.
"""

from dataclasses import dataclass, field

import numpy as np

from simulation.degradations.base import Mixture
from simulation.levels import from_db
from training.baselines import spectral_subtraction
from training.music import music
from training.pairs import Labels, Readable, labels_of
from training.slices import HARMLESS

HIGH_SNR_DB = 30.0
"""Mean power of the clean over that of the white noise that is added: a quiet room."""
LONG_S = 60.0
CASES = ("clean", "high_snr", "silence", "music", "enhanced", "long_60s")
"""What they are called, after `HARMLESS`.

clean      the clean as it is
high_snr   the clean with faint white noise
silence    zeros
music      our own (`training.music`), as it is. A system for speech may take it for noise: the slice shows what becomes
           of it, and no policy of ours limits that.
enhanced   what spectral subtraction made of the noisy: input that another system has been at. The same for every
           system, so that they can be compared; a second pass of a system through itself would not be.
long_60s   noisy rows one after another, for a minute. There is one such row, whatever the count: it costs as twenty.
"""


@dataclass(frozen=True)
class WithHarmless:
    """A corpus and, after its own rows, `count` rows of each case (one minute); the same rows every time."""

    corpus: Readable
    count: int
    entries: list[Labels] = field(init=False)
    """The corpus's own labels, then those of the added rows."""

    def __post_init__(self) -> None:
        """Label what is added."""
        own = labels_of(self.corpus)
        added = [self._labels(own, case, number) for case, number in self._added]
        object.__setattr__(self, "entries", [*own, *added])

    @property
    def _added(self) -> list[tuple[str, int]]:
        """Case and number of each row that is added."""
        return [(case, number) for case in CASES for number in range(1 if case == "long_60s" else self.count)]

    def _labels(self, own: list[Labels], case: str, number: int) -> Labels:
        """Who speaks is known, but for music, and for a minute, which has several speakers."""
        speaker = None if case in ("music", "long_60s") else own[self._source(number)].speaker
        name = HARMLESS + case
        return Labels(id=f"{name}-{number}", case=name, snr_db=None, speaker=speaker, noise=None, room=None)

    @property
    def address(self) -> str:
        """The corpus's."""
        return self.corpus.address

    @property
    def digest(self) -> str:
        """The corpus's own: what is added follows from it."""
        return self.corpus.digest

    def read(self, index: int) -> Mixture:
        """One row, of the corpus or made from it."""
        size = len(self.corpus.entries)
        if index < size:
            return self.corpus.read(index)
        case, number = self._added[index - size]
        if case == "long_60s":
            return self._long(self._source(number))
        return _made(case, number, self.corpus.read(self._source(number)))

    def _source(self, number: int) -> int:
        """Rows of the corpus, evenly spaced."""
        return number * len(self.corpus.entries) // self.count

    def _long(self, start: int) -> Mixture:
        """Rows of one sample rate in order, round and round from one of them, until there is a minute."""
        first = self.corpus.read(start)
        parts, samples, index = [first], len(first.clean), start
        while samples < LONG_S * first.sample_rate:
            index = (index + 1) % len(self.corpus.entries)
            following = self.corpus.read(index)
            if following.sample_rate == first.sample_rate:
                parts.append(following)
                samples += len(following.clean)
        size = int(LONG_S * first.sample_rate)
        clean, noisy = (np.concatenate([getattr(part, side) for part in parts])[:size] for side in ("clean", "noisy"))
        return Mixture(clean, noisy, first.sample_rate)


def _made(case: str, number: int, source: Mixture) -> Mixture:
    """A row of a case from one of the corpus."""
    rate = source.sample_rate
    if case == "music":
        return Mixture(music(number, rate), music(number, rate), rate)
    if case == "enhanced":
        return Mixture(source.clean, spectral_subtraction(source.noisy, rate), rate)
    clean = np.zeros_like(source.clean) if case == "silence" else source.clean
    noise = _white(clean, number) if case == "high_snr" else 0.0
    return Mixture(clean, (clean + noise).astype(clean.dtype), rate)


def _white(clean: np.ndarray, seed: int) -> np.ndarray:
    """White noise `HIGH_SNR_DB` below a waveform."""
    noise = np.random.default_rng(seed).standard_normal(len(clean))
    return np.asarray(noise * np.sqrt(np.mean(np.square(clean, dtype=np.float64)) / from_db(HIGH_SNR_DB)))
