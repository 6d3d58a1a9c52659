"""What a person should look at before anything is trained on a corpus, each in one sentence with its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from simulation.card.facts import QuantityFacts
from simulation.card.table import NAMED
from simulation.scenario import Scenario
from simulation.sources import Recording, SourceManifest

CLEAN_SNR_DB = 20.0
"""Speech below this estimated SNR is not clean: a model that learns from it learns to leave noise alone."""

FULL_BAND_SHARE = 0.7
"""Speech whose effective bandwidth is below this share of half the corpus's rate is not full-band."""

LOUD_SPEAKER_SHARE = 0.2
"""A speaker with more of the training hours than this is heard too often."""

DECAY_OFF_SHARE = 0.5
"""A simulated room whose measured reverberation time is further than this from what was asked is named."""

EXAMPLES = 3


@dataclass(frozen=True)
class Quality:
    """Scores of source recordings by a metric of the layer above, such as DNSMOS."""

    name: str
    least: float
    """Below it, a recording that is used as clean speech is not clean enough."""
    scores: Mapping[str, float]
    """By recording id; those without a score were not judged."""


def alarms(
    manifest: SourceManifest,
    frame: pd.DataFrame,
    scenario: Scenario,
    measured: Sequence[QuantityFacts],
    quality: Sequence[Quality],
) -> tuple[str, ...]:
    """Every alarm, sources first; none where all is as it should be."""
    speech = [one for one in manifest.recordings if one.kind == "speech"]
    found = [
        *_not_clean(speech),
        *_not_full_band(speech, scenario.sample_rate),
        *(alarm for scores in quality for alarm in _poor(speech, scores)),
        *_narrow(manifest, scenario.sample_rate),
        *_unlicensed(manifest),
        *_set_aside(manifest),
        *_not_as_asked(measured),
        *_rooms(frame),
        *_heard_too_often(frame),
    ]
    return tuple(found)


def _not_clean(speech: Sequence[Recording]) -> Iterator[str]:
    judged = {one.id: one.probe.snr_db for one in speech if one.probe is not None and one.probe.snr_db is not None}
    bad = {name: value for name, value in judged.items() if value < CLEAN_SNR_DB}
    if bad:
        yield (
            f"{len(bad)} of {len(judged)} clean recordings have an estimated SNR below {CLEAN_SNR_DB:.0f} dB: "
            f"{_worst(bad, '.1f', ' dB')}"
        )


def _not_full_band(speech: Sequence[Recording], sample_rate: int) -> Iterator[str]:
    least_hz = FULL_BAND_SHARE * sample_rate / 2
    judged = {one.id: one.probe.bandwidth_hz for one in speech if one.probe is not None}
    bad = {name: value for name, value in judged.items() if value < least_hz}
    if bad:
        yield (
            f"{len(bad)} of {len(judged)} clean recordings end below {least_hz / 1000:.1f} kHz, {FULL_BAND_SHARE:.0%}"
            f" of the corpus's band: {_worst(bad, '.0f', ' Hz')}"
        )


def _poor(speech: Sequence[Recording], quality: Quality) -> Iterator[str]:
    judged = {one.id: quality.scores[one.id] for one in speech if one.id in quality.scores}
    bad = {name: value for name, value in judged.items() if value < quality.least}
    if bad:
        yield (
            f"{len(bad)} of {len(judged)} clean recordings that were judged score below {quality.least:g} by"
            f" {quality.name}: {_worst(bad, '.2f', '')}"
        )


def _narrow(manifest: SourceManifest, sample_rate: int) -> Iterator[str]:
    for kind in ("speech", "noise", "rir"):
        rates = [one.sample_rate for one in manifest.recordings if one.kind == kind]
        below = [rate for rate in rates if rate < sample_rate]
        if below:
            yield (
                f"{len(below)} of {len(rates)} {kind} recordings have a lower rate than the corpus's {sample_rate} Hz"
                f" (down to {min(below)} Hz), as the scenario allows: nothing of theirs lies above their own band."
            )


def _unlicensed(manifest: SourceManifest) -> Iterator[str]:
    unstated = sum(not one.licence for one in manifest.recordings)
    if unstated:
        yield (
            f"{unstated} of {len(manifest.recordings)} recordings state no licence: name it in the column `licence` of"
            " a manifest."
        )


def _set_aside(manifest: SourceManifest) -> Iterator[str]:
    if manifest.quarantined:
        total = len(manifest.recordings) + len(manifest.quarantined)
        yield f"{len(manifest.quarantined)} of {total} source files were set aside; the reasons stand below."


def _not_as_asked(measured: Sequence[QuantityFacts]) -> Iterator[str]:
    within = {quantity.name: quantity.within for quantity in NAMED}
    for quantity in measured:
        limit = within.get(quantity.name)
        if quantity.comparison and limit is not None and quantity.comparison.largest > limit:
            yield (
                f"{quantity.title} came out up to {quantity.comparison.largest:g} {quantity.unit} from what was asked;"
                f" at most {limit:g} is expected."
            )


def _rooms(frame: pd.DataFrame) -> Iterator[str]:
    asked, measured = frame["asked_rt60_s"], frame["rt60_s"]
    off = ((measured - asked).abs() > DECAY_OFF_SHARE * asked).sum()
    if off:
        yield (
            f"In {off} of {asked.notna().sum()} rows with a simulated room the reverberation time came out more than"
            f" {DECAY_OFF_SHARE:.0%} from what was asked."
        )
    reverberant = frame["drr_db"].notna()
    unmeasured = int((reverberant & measured.isna()).sum())
    if unmeasured:
        yield (
            f"The reverberation time of {unmeasured} of {reverberant.sum()} reverberant rows cannot be measured: noise"
            " in the response hides its decay."
        )


def _heard_too_often(frame: pd.DataFrame) -> Iterator[str]:
    train = frame[frame["split"] == "train"].groupby("speaker")["hours"].sum()
    share = train / train.sum()
    for speaker, value in share[share > LOUD_SPEAKER_SHARE].sort_values(ascending=False).items():
        yield f"{value:.0%} of the training hours are of one speaker, {speaker}."


def _worst(values: Mapping[str, float], form: str, unit: str) -> str:
    """The lowest few by name."""
    lowest = sorted(values.items(), key=lambda item: (item[1], item[0]))
    named = ", ".join(f"{name} ({value:{form}}{unit})" for name, value in lowest[:EXAMPLES])
    return f"{named}{', …' if len(lowest) > EXAMPLES else '.'}"
