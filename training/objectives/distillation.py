"""Distillation: what a student learns from a teacher beside it, which is a version and stays as it is."""

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from simulation.errors import BadSetting
from simulation.schema import Schema
from training.checkpoint import load_version
from training.models.base import Enhancer, Estimate
from training.models.layers import at_least_single
from training.objectives.base import PerItem

SMALLEST = 1e-8
"""Added to the size of a teacher's features before it divides."""


class Distillation(nn.Module):
    """A teacher hears what the student hears; the student learns its output and the features along its way.

    The teacher is loaded from its address when it is first asked, in every process by itself. It is in eval mode, gets
    no gradient, and belongs to no state: neither the student's versions nor its checkpoints hold it.

    Source: RaD-Net 2 (arXiv 2406.07498) teaches a causal network by one that sees both sides; how is not in what could
    be read. Reconstructed: features behind every map, stack and way up of stage 1, in one weight, and the output at
    half of it; a teacher sees less of the future in the last frames of a piece, which are compared all the same.
    """

    class Config(Schema):
        """Who teaches, and what it weighs."""

        teacher: str = ""
        """Address of a version; to be filled in before a run starts."""
        features: float = Field(default=1.0, ge=0)
        output: float = Field(default=0.5, ge=0)

        @model_validator(mode="after")
        def _weighs_something(self) -> "Distillation.Config":
            if not self.features and not self.output:
                raise ValueError("both weights are 0: nothing would be learnt from the teacher")
            return self

        def build(self) -> "Distillation":
            """Without the teacher yet."""
            return Distillation(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._teacher: tuple[Enhancer, ...] = ()
        """In a tuple, so that torch does not take it for a part."""

    def asked(self, student: Enhancer, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The teacher's estimate. Raises BadSetting for a teacher of another sample rate, and as `load_version`."""
        if not self._teacher:
            self._teacher = (load_version(self.config.teacher).requires_grad_(False),)
        teacher = self._teacher[0].to(noisy.device, noisy.dtype)
        if teacher.sample_rate != student.sample_rate:
            raise BadSetting(
                f"The teacher at {self.config.teacher} has {teacher.sample_rate} Hz, its student "
                f"{student.sample_rate} Hz. Name a teacher of the student's rate."
            )
        with torch.no_grad():
            return teacher.estimate(noisy)

    def features(self, student: Estimate, teacher: Estimate) -> PerItem:
        """Mean over features of the mean |S - T| over the mean |T|; zero without a weight. BadSetting where they differ
        in number or shape."""
        if not self.config.features:
            return student.enhanced.new_zeros(len(student.enhanced))
        shapes = [[tuple(each.shape[1:]) for each in side.features] for side in (student, teacher)]
        if shapes[0] != shapes[1] or not shapes[0]:
            raise BadSetting(
                f"The student's features are {_told(shapes[0])}, those of its teacher at {self.config.teacher} "
                f"{_told(shapes[1])}. Expected equal ones: name a teacher of the student's size, or set the weight "
                "`features` of the distillation to 0 and learn from its output alone."
            )
        pairs = zip(student.features, teacher.features, strict=True)
        return torch.stack([_relative(at_least_single(one), at_least_single(other)) for one, other in pairs]).mean(0)


def _relative(student: Tensor, teacher: Tensor) -> PerItem:
    """How far apart, in sizes of the teacher's."""
    size = teacher.abs().flatten(1).mean(-1)
    return (student - teacher).abs().flatten(1).mean(-1) / (size + SMALLEST)


def _told(shapes: list[tuple[int, ...]]) -> str:
    return f"{len(shapes)}, the first of shape {shapes[0]}" if shapes else "none"
