"""Anyone's pairs: a folder or bucket prefix that holds `clean/` and `noisy/` with equal file names.

Nothing is resampled on reading: each pair keeps its own rate, every system brings it to its rate and back, and every
metric states the rate it is defined at. The two files of one pair must have the same rate.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

import numpy as np

from simulation import audio, storage
from simulation.corpora.sample import speaker_corpora, speaker_groups
from simulation.degradations.base import Mixture
from simulation.errors import BadAudio, NotThere, SampleRateMismatch
from simulation.manifest import Rendered
from simulation.schema import Schema, canonical_json
from simulation.sources import Quarantined
from simulation.virtual import VirtualCorpus

MOST_TRIM_S = 0.032
"""Clean and noisy may differ by one analysis frame in length, as codecs and STFTs leave behind; no more."""


class Labels(Schema):
    """What one row of an evaluation is counted under; None where it is not known."""

    id: str
    case: str
    """The slice."""
    snr_db: float | None
    speaker: str | None
    noise: str | None
    """The noise recording."""
    room: str | None
    rt60_s: float | None = None
    """Of the impulse response."""
    cutoff_hz: float | None = None
    """Of the band limit."""
    speaker_group: str | None = None
    """Such as `adult` or `child`."""
    source: str | None = None
    """Source corpus of the speech."""
    degradations: str | None = None
    """Kinds of what was done to it, in order, with + between them."""
    codec: str | None = None
    """The last one it went through."""


@runtime_checkable
class Readable(Protocol):
    """What an evaluation reads: a split of a simulated corpus (`simulation.corpus.Corpus`), or `Pairs`."""

    @property
    def address(self) -> str:
        """Where it lies."""

    @property
    def digest(self) -> str:
        """What it holds."""

    @property
    def entries(self) -> "Sequence[Labels] | Sequence[Rendered]":
        """One element a row."""

    def read(self, index: int) -> Mixture:
        """The audio of one row."""


@dataclass(frozen=True)
class Pairs:
    """Checked pairs: what is listed here could be read when it was opened."""

    address: str
    entries: list[Labels]
    quarantined: tuple[Quarantined, ...]
    """Files that are not audio, or have no partner."""
    hashes: tuple[str, ...] = field(repr=False)
    """sha256 of both files of each entry."""

    @classmethod
    def open(cls, folder: str) -> "Pairs":
        """Read and check every pair below `folder`.

        An unreadable or partnerless file is quarantined. Raises `NotThere` where there are no pairs, `BadAudio` where
        the two lengths differ by more than a frame, `SampleRateMismatch` where the two rates differ.
        """
        address = storage.normal(folder)
        clean, noisy = _names(address, "clean"), _names(address, "noisy")
        common = sorted(clean & noisy)
        if not common:
            raise NotThere(_no_pairs(address, clean, noisy))
        entries, hashes = [], []
        quarantined = [_partnerless(name, name in clean) for name in sorted(clean ^ noisy)]
        for name in common:
            try:
                pair = _decode(address, name)
            except BadAudio as error:
                quarantined.append(Quarantined(address=name, reason=str(error)))
                continue
            _aligned(pair, name)
            entries.append(_labels(name))
            hashes.append(pair.sha256)
        if not entries:
            raise BadAudio(f"None of the {len(common)} pairs below {address} can be read: {quarantined[-1].reason}")
        return cls(address, entries, tuple(quarantined), tuple(hashes))

    @cached_property
    def digest(self) -> str:
        """sha256 over the names and contents of the usable pairs, in order; where they lie does not matter."""
        return hashlib.sha256(
            canonical_json([[e.id, h] for e, h in zip(self.entries, self.hashes, strict=True)])
        ).hexdigest()

    @property
    def name(self) -> str:
        """The folder's own name."""
        return PurePosixPath(self.address).name

    def __len__(self) -> int:
        """Number of usable pairs."""
        return len(self.entries)

    def read(self, index: int) -> Mixture:
        """One pair, trimmed to the common length."""
        name = self.entries[index].id
        return _aligned(_decode(self.address, name), name)


def labels_of(corpus: Readable) -> list[Labels]:
    """The labels of every row, in order."""
    return [entry if isinstance(entry, Labels) else _labels_of_entry(entry) for entry in corpus.entries]


def set_aside(corpus: Readable) -> tuple[Quarantined, ...]:
    """What could not be read or rendered, with its reason: it is counted, and not scored."""
    if isinstance(corpus, Pairs):
        return corpus.quarantined
    if isinstance(corpus, VirtualCorpus):
        return tuple(Quarantined(address=row.id, reason=row.reason) for row in corpus.quarantined)
    rows = (row for shard in getattr(corpus, "shards", ()) for row in shard.quarantined)
    return tuple(Quarantined(address=row.id, reason=row.reason) for row in rows)


def _labels_of_entry(entry: Rendered) -> Labels:
    """What a simulated row is counted under."""
    row, measured = entry.row, entry.measured
    codecs = [str(getattr(each, "format", None)) for each in row.operations if each.kind == "codec"]
    return Labels(
        id=row.id,
        case=row.case,
        snr_db=measured.snr_db,
        speaker=row.speaker,
        noise=row.noise,
        room=row.room,
        rt60_s=measured.rt60_s,
        cutoff_hz=measured.cutoff_hz,
        speaker_group=speaker_groups().get(row.speaker),
        source=speaker_corpora().get(row.speaker),
        degradations="+".join(dict.fromkeys(operation.kind for operation in row.operations)),
        codec=codecs[-1] if codecs else None,
    )


def _names(address: str, side: str) -> set[str]:
    """Audio file names below one side, sub-folders included."""
    root = storage.join(address, side)
    names = {stored.address.removeprefix(root).strip("/") for stored in storage.listing(root)}
    return {name for name in names if PurePosixPath(name).suffix.lower() in audio.AUDIO_SUFFIXES}


def _no_pairs(address: str, clean: set[str], noisy: set[str]) -> str:
    """The message for a folder without pairs."""
    expected = "Expected a folder with clean/ and noisy/ that hold audio files of equal names"
    if not clean and not noisy:
        return f"No audio lies in clean/ and noisy/ below {address}. {expected}; name it with --pairs FOLDER."
    if not clean or not noisy:
        side = "noisy" if clean else "clean"
        return f"No audio lies in {side}/ below {address}. {expected}."
    example = f"for instance clean/{min(clean)} and noisy/{min(noisy)}"
    counts = f"clean/ ({len(clean)} files) and noisy/ ({len(noisy)} files)"
    return f"No file name below {address} is in both {counts}, {example}. {expected}."


def _partnerless(name: str, in_clean: bool) -> Quarantined:
    """A file that stands on one side only."""
    here, there = ("clean", "noisy") if in_clean else ("noisy", "clean")
    return Quarantined(address=f"{here}/{name}", reason=f"there is no {there}/{name}")


@dataclass(frozen=True)
class _Decoded:
    """Two files as they came; of several channels, the first."""

    clean: np.ndarray
    noisy: np.ndarray
    rates: tuple[int, int]
    sha256: str
    """Of both files' sha256."""


def _decode(address: str, name: str) -> _Decoded:
    """Read both files of a pair; `BadAudio` where one of them cannot be."""
    data = [storage.read(storage.join(address, side, name)) for side in ("clean", "noisy")]
    clean, clean_rate = audio.read(data[0], f"clean/{name}")
    noisy, noisy_rate = audio.read(data[1], f"noisy/{name}")
    sha256 = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in data)).hexdigest()
    return _Decoded(audio.mono(clean), audio.mono(noisy), (clean_rate, noisy_rate), sha256)


def _aligned(pair: _Decoded, name: str) -> Mixture:
    """Both sides cut to the shorter of the two, if rates and lengths say that they belong together."""
    if pair.rates[0] != pair.rates[1]:
        raise SampleRateMismatch(
            f"clean/{name} has {pair.rates[0]} Hz and noisy/{name} has {pair.rates[1]} Hz. Expected one rate for both; "
            "resample one of them."
        )
    if abs(len(pair.clean) - len(pair.noisy)) > MOST_TRIM_S * pair.rates[0]:
        raise BadAudio(
            f"clean/{name} has {len(pair.clean)} samples and noisy/{name} has {len(pair.noisy)}. Expected equal "
            f"lengths (up to {MOST_TRIM_S * 1000:.0f} ms is trimmed): the two must be aligned sample by sample."
        )
    size = min(len(pair.clean), len(pair.noisy))
    return Mixture(pair.clean[:size], pair.noisy[:size], pair.rates[0])


def _labels(name: str) -> Labels:
    """What can be known of a pair: the sub-folder, if there is one, is taken for the speaker."""
    folder = PurePosixPath(name).parent
    speaker = None if str(folder) == "." else str(folder)
    return Labels(id=name, case="pairs", snr_db=None, speaker=speaker, noise=None, room=None)
