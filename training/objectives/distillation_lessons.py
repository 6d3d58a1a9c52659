"""Lessons: what teachers say of every row of a corpus, whole, kept for any number of students.

They lie in a derived corpus (`training.derived`). Which lessons are meant follows from the corpus, the weights of the
teachers and what is asked of them, so they cannot be mixed up; a second student of the same teachers finds them there,
and no teacher is even loaded. Pieces are cut out of them at whole frames.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from simulation.errors import BadSetting
from training.blocks import enhance_any_length
from training.checkpoint import load_version, version_record
from training.derivation import Derivation
from training.models.base import Enhancer
from training.objectives.distillation import ENHANCED, FEATURE, Distillation

KIND = "lessons"
VERSION = 1
"""Raised by hand whenever the same teachers would say something else."""
HOPS = "hops"
"""Name of the tensor that says how many samples a frame of each feature stands for."""
LISTEN_S = 1.0
"""Seconds by which two silences differ, which tells the rate of a feature's frames."""


class Lessons:
    """The teachers of a distillation, as the maker (`training.beside`) of what stands beside each row.

    Outputs are kept in single precision, features in half.
    """

    stored = True

    def __init__(self, settings: Distillation.Config) -> None:
        self.settings = settings
        self.asked = 0
        """Mixtures that the teachers were asked for."""
        self._loaded: tuple[Distillation, list[Enhancer], list[int]] | None = None

    @classmethod
    def of(cls, settings: Distillation.Config) -> "Lessons | None":
        """None where teachers are asked while training."""
        return cls(settings) if settings.lessons == "kept" else None

    def derivation(self, corpus: str) -> Derivation:
        """Which lessons these are over the corpus with this digest; of the teachers, only their records are read."""
        records = [version_record(address) for address in self.settings.teachers]
        asked = {"layers": [theirs for _, theirs in self.settings.layers], "bands": self.settings.bands}
        made_by = {
            "teachers": [[record.weights_sha256, record.model.model_dump(mode="json")] for record in records],
            "features": asked if self.settings.features else None,
            "version": VERSION,
        }
        return Derivation(kind=KIND, corpus=corpus, made_by=made_by)

    def __call__(self, mixture: Any) -> dict[str, Tensor]:
        """What the teachers say of a whole mixture. Raises what `load_version` and `Distillation` raise."""
        if self._loaded is None:
            self._loaded = self._load()
        distillation, teachers, hops = self._loaded
        self.asked += 1
        noisy = np.asarray(mixture.noisy, np.float32)
        if not self.settings.features:
            outputs = [torch.from_numpy(enhance_any_length(teacher, noisy)) for teacher in teachers]
            return {ENHANCED: torch.stack(outputs).mean(0), HOPS: torch.tensor([], dtype=torch.int32)}
        said = distillation.asked(teachers[0], torch.from_numpy(noisy)[None])
        features = {named(place): each[0].half() for place, each in enumerate(said.features)}
        return {ENHANCED: said.enhanced[0].float(), **features, HOPS: torch.tensor(hops, dtype=torch.int32)}

    def cut(self, whole: dict[str, Tensor], start: int, samples: int) -> dict[str, Tensor]:
        """Output [samples] and features [channels, frames(, bins)] of a piece; zeros behind the end of the mixture."""
        found = {ENHANCED: _cut(whole[ENHANCED], 0, start, samples)}
        for place, hop in enumerate(whole[HOPS].tolist()):
            found[named(place)] = _cut(whole[named(place)], 1, round(start / hop), samples // hop + 1)
        return found

    def grid(self, whole: dict[str, Tensor]) -> int:
        """Samples at whose multiples every feature has a frame."""
        return math.lcm(1, *whole[HOPS].tolist())

    def megabytes_per_hour(self) -> float:
        """In 10^6 bytes, measured on silence where there are features, for which the teachers are loaded."""
        rate = version_record(self.settings.teacher).model.sample_rate
        size = 4.0 * rate
        if self.settings.features:
            self._loaded = self._loaded or self._load()
            distillation, teachers, _ = self._loaded
            said = distillation.asked(teachers[0], torch.zeros(1, round(LISTEN_S * rate)))
            size += sum(2.0 * each.numel() for each in said.features) / LISTEN_S
        return 3600 * size / 1e6

    def _load(self) -> tuple[Distillation, list[Enhancer], list[int]]:
        distillation = self.settings.build()
        teachers = [load_version(address).requires_grad_(False) for address in self.settings.teachers]
        if len({teacher.sample_rate for teacher in teachers}) > 1:
            raise BadSetting("The teachers have different sample rates. Name teachers of one rate, the student's.")
        if not self.settings.features:
            return distillation, teachers, []
        rate = teachers[0].sample_rate
        few, more = (
            distillation.asked(teachers[0], torch.zeros(1, round(seconds * rate))).features
            for seconds in (LISTEN_S, 2 * LISTEN_S)
        )
        frames = [two.shape[2] - one.shape[2] for one, two in zip(few, more, strict=True)]
        return distillation, teachers, [round(LISTEN_S * rate / each) for each in frames]

    def __getstate__(self) -> dict[str, Any]:
        """Without the teachers, which every process loads for itself."""
        return vars(self) | {"_loaded": None}


def named(place: int) -> str:
    """The tensor of a feature."""
    return f"{FEATURE}{place:02d}"


def _cut(tensor: Tensor, axis: int, start: int, count: int) -> Tensor:
    """So many along an axis, zeros behind the end; in single precision."""
    start = min(start, tensor.shape[axis])
    found = tensor.narrow(axis, start, min(count, tensor.shape[axis] - start)).float()
    missing = count - found.shape[axis]
    return functional.pad(found, (0, 0) * (tensor.ndim - 1 - axis) + (0, missing)) if missing else found
