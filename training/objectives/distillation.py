"""Distillation: what a student learns from teachers beside it, which are versions and stay as they are."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from simulation.errors import BadSetting
from simulation.schema import Schema
from training.checkpoint import load_version, version_record
from training.models.base import Enhancer, Estimate
from training.models.layers import at_least_single
from training.objectives.base import PerItem

SMALLEST = 1e-8
"""Added to the size of a teacher's features before it divides."""
MEETING_S = 0.25
"""Seconds of silence that student and teacher hear once, so that the shapes of their features are known."""
CUT_FRAMES = 2
"""Frames by which features may differ in length and are cut to the shorter; beyond, the student's are resampled."""

ENHANCED, FEATURE = "enhanced", "feature_"
"""Names of tensors in a corpus of lessons; a feature's goes on with its place, in two digits."""


class Distillation(nn.Module):
    """Teachers hear what the student hears; the student learns their output and the features along their way.

    Teachers are loaded from their addresses when they are first asked, in every process by itself. They are in eval
    mode, get no gradient, and belong to no state: neither the student's versions nor its checkpoints hold them. Several
    are averaged, outputs and features alike. What they say of whole mixtures may be kept (`Lessons`); then a student
    asks nobody.

    Where the channels of a feature differ, a learnt linear map leads from the student's to the teacher's; it is no part
    of the version. `Objective.meet` makes these maps.

    Source: RaD-Net 2 (arXiv 2406.07498) teaches a causal network by one that sees both sides; how is not in what could
    be read. Reconstructed: features behind every map, stack and way up of stage 1, in one weight, and the output at
    half of it. Maps between features of different widths are those of FitNets (arXiv 1412.6550).
    """

    class Config(Schema):
        """Who teaches, and what it weighs."""

        teacher: str = ""
        """Address of a version; to be filled in before a run starts."""
        others: tuple[str, ...] = ()
        """Addresses of further ones: what all of them say is averaged."""
        lessons: Literal["kept", "asked"] = "asked"
        """kept: teachers hear every mixture once, whole, and what they say is kept in the store for all students;
        asked: they hear each piece while the student learns from it."""
        features: float = Field(default=1.0, ge=0)
        output: float = Field(default=0.5, ge=0)
        layers: tuple[tuple[str, str], ...] = ()
        """Names of modules, the student's and the teacher's, whose outputs are features; none: those that the networks
        show by themselves (`Estimate.features`)."""
        bands: int | None = Field(default=None, gt=0)
        """Maps over bins are averaged to so many bands before they are compared; None: bin by bin."""
        ends_s: float = Field(default=0.0, ge=0)
        """Seconds at the end of a piece that are not compared: a teacher that sees both sides misses its future there.
        Without effect where lessons answer, which were given over whole mixtures."""

        @model_validator(mode="after")
        def _weighs_something(self) -> "Distillation.Config":
            if not self.features and not self.output:
                raise ValueError("both weights are 0: nothing would be learnt from the teacher")
            return self

        @property
        def teachers(self) -> tuple[str, ...]:
            """Addresses of all."""
            return (self.teacher, *self.others)

        def build(self) -> "Distillation":
            """Without the teachers yet."""
            return Distillation(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.maps = nn.ModuleDict()
        """By the place of a feature: what leads from the student's channels to the teacher's."""
        self._teachers: tuple[Enhancer, ...] = ()
        """In a tuple, so that torch does not take them for parts."""
        self._met = False

    # ---- whoever learns

    def meet(self, student: Enhancer) -> None:
        """Make the maps between features of different widths; once, before anything learns.

        How wide the teacher's are, its settings tell: no teacher is loaded for it.
        """
        if self._met or not self.config.features:
            return
        self._met = True
        silence = next(student.parameters()).new_zeros(1, round(MEETING_S * student.sample_rate))
        learning = student.training
        with torch.no_grad(), torch.random.fork_rng():
            teacher = version_record(self.config.teacher).model.build().eval()
            _refuse_other_rate(self.config.teacher, teacher, student)
            theirs = self._estimate(teacher.to(silence), silence, [names[1] for names in self.config.layers]).features
            ours = self.estimate(student.eval(), silence).features
        student.train(learning)
        self._refuse_other_numbers(ours, theirs)
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one.shape[1] != other.shape[1]:
                self.maps[str(place)] = nn.Conv1d(one.shape[1], other.shape[1], 1, bias=False).to(silence)

    def estimate(self, student: Enhancer, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The student's estimate, with the features that are compared."""
        return self._estimate(student, noisy, [names[0] for names in self.config.layers])

    # ---- teachers

    def lesson(
        self, beside: Mapping[str, Tensor], student: Enhancer, noisy: Float[Tensor, "batch samples"]
    ) -> Estimate:
        """What the teachers say: as it was kept, or asked now. BadSetting where lessons are missing."""
        if self.config.lessons == "asked":
            return self.asked(student, noisy)
        if ENHANCED not in beside:
            raise BadSetting(
                "The distillation learns from lessons that are kept in the store, and nothing of them came with these "
                "mixtures. Train with `unmuffle distil` or `unmuffle train`, or set `lessons` to asked."
            )
        features = tuple(beside[name] for name in sorted(beside) if name.startswith(FEATURE))
        return Estimate(beside[ENHANCED].to(noisy), {}, features=features)

    def asked(self, student: Enhancer, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The teachers' estimate, the mean of all. Raises BadSetting for one of another sample rate, and as
        `load_version`. Whatever they draw leaves the student's chance as it is."""
        if not self._teachers:
            self._teachers = tuple(load_version(each).requires_grad_(False) for each in self.config.teachers)
        names = [names[1] for names in self.config.layers]
        found = []
        with torch.no_grad(), torch.random.fork_rng():
            for address, teacher in zip(self.config.teachers, self._teachers, strict=True):
                _refuse_other_rate(address, teacher, student)
                found.append(self._estimate(teacher.to(noisy.device, noisy.dtype), noisy, names))
        return mean(found)

    def learnt(self, estimate: Estimate, samples: int, sample_rate: int) -> Estimate:
        """What of an estimate of so many samples is compared: all of it, or all but its end."""
        end = 0 if self.config.lessons == "kept" else min(round(self.config.ends_s * sample_rate), samples - 1)
        if not end:
            return estimate
        features = tuple(
            each[:, :, : each.shape[2] - round(end / samples * each.shape[2])] for each in estimate.features
        )
        branches = {name: each[:, : samples - end] for name, each in estimate.branches.items()}
        return Estimate(estimate.enhanced[:, : samples - end], branches, features=features)

    # ---- comparing

    def features(self, student: Estimate, teacher: Estimate) -> PerItem:
        """Mean over features of the mean |S - T| over the mean |T|; zero without a weight. BadSetting where they differ
        in number, or in shape without a map."""
        if not self.config.features:
            return student.enhanced.new_zeros(len(student.enhanced))
        self._refuse_other_numbers(student.features, teacher.features)
        pairs = enumerate(zip(student.features, teacher.features, strict=True))
        return torch.stack([_relative(*self._alike(place, *pair)) for place, pair in pairs]).mean(0)

    def _alike(self, place: int, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """A feature of the student in the shape of the teacher's, and that."""
        one, other = at_least_single(one), at_least_single(other).to(one.device)
        if one.shape[2:] != other.shape[2:] and one.ndim == other.ndim > 2:
            one, other = _of_one_length(one, other)
        if str(place) in self.maps:
            one = self.maps[str(place)](one.flatten(2)).unflatten(2, one.shape[2:])
        if one.shape != other.shape:
            raise BadSetting(
                f"Feature {place} of the student has the shape {tuple(one.shape[1:])}, that of its teacher at "
                f"{self.config.teacher} {tuple(other.shape[1:])}, and there is no map between them. Name layers of "
                "like shapes, or set the weight `features` of the distillation to 0 and learn from the output alone."
            )
        return one, other.to(one.dtype)

    def _refuse_other_numbers(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
        if len(ours) != len(theirs) or not ours:
            raise BadSetting(
                f"The student's features are {_told(ours)}, those of its teacher at {self.config.teacher} "
                f"{_told(theirs)}. Expected as many of each: name `layers` of both (see `named_modules` of the "
                "networks), name a teacher of the student's network, or set the weight `features` of the distillation "
                "to 0 and learn from its output alone."
            )

    def _estimate(self, network: Enhancer, noisy: Tensor, names: list[str]) -> Estimate:
        with overheard(network, names if self.config.features else []) as found:
            estimate = network.estimate(noisy)
        if not self.config.features:
            return estimate._replace(features=())
        features = [each for name in names for each in found[name]] if names else estimate.features
        return estimate._replace(features=tuple(banded(each, self.config.bands) for each in features))


@contextmanager
def overheard(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What modules of these names give while a network runs: their tensors, complex pairs among the channels.

    A module that is asked more than once is heard the last time. Raises BadSetting for a name that is not there.
    """
    parts, found, hooks = dict(network.named_modules()), dict[str, list[Tensor]](), []
    for name in names:
        if name not in parts:
            raise BadSetting(f"{type(network).__name__} has no part named {name!r}. It has {', '.join(_tops(parts))}.")

        def note(module: nn.Module, given: object, output: object, name: str = name) -> None:
            tensors = output if isinstance(output, tuple) else (output,)
            found[name] = [each.flatten(1, 2) if each.ndim == 5 else each for each in tensors if torch.is_tensor(each)]

        hooks.append(parts[name].register_forward_hook(note))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def answering(network: Enhancer, estimate: Estimate) -> Iterator[None]:
    """Within, the network answers with an estimate that it has made, so that several losses cost one pass."""
    before = vars(network).get("estimate")
    network.estimate = lambda noisy: estimate  # type: ignore[method-assign]
    try:
        yield
    finally:
        del network.estimate
        if before is not None:  # the compiled one
            network.estimate = before  # type: ignore[method-assign]


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Of outputs and features; one estimate stays as it is."""
    if len(estimates) == 1:
        return estimates[0]
    enhanced = torch.stack([each.enhanced for each in estimates]).mean(0)
    features = zip(*(each.features for each in estimates), strict=True)
    return Estimate(enhanced, {}, features=tuple(torch.stack(each).mean(0) for each in features))


def banded(feature: Tensor, bands: int | None) -> Tensor:
    """A map over bins as means over so many bands, if there are more bins than that."""
    if bands is None or feature.ndim < 4 or feature.shape[-1] <= bands:
        return feature
    return functional.adaptive_avg_pool2d(feature, (feature.shape[2], bands))


def _of_one_length(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both cut to the shorter one in frames; or the first at the rate of the other."""
    frames = min(one.shape[2], other.shape[2])
    if max(one.shape[2], other.shape[2]) - frames <= CUT_FRAMES and one.shape[3:] == other.shape[3:]:
        return one[:, :, :frames], other[:, :, :frames]
    mode = "bilinear" if one.ndim == 4 else "linear"
    return functional.interpolate(one, tuple(other.shape[2:]), mode=mode, align_corners=False), other


def _relative(student: Tensor, teacher: Tensor) -> PerItem:
    """How far apart, in sizes of the teacher's."""
    size = teacher.abs().flatten(1).mean(-1)
    return (student - teacher).abs().flatten(1).mean(-1) / (size + SMALLEST)


def _refuse_other_rate(address: str, teacher: Enhancer, student: Enhancer) -> None:
    if teacher.sample_rate != student.sample_rate:
        raise BadSetting(
            f"The teacher at {address} has {teacher.sample_rate} Hz, its student {student.sample_rate} Hz. Name a "
            "teacher of the student's rate."
        )


def _tops(parts: dict[str, nn.Module]) -> list[str]:
    return [name for name in parts if name and name.count(".") == 0]


def _told(features: Sequence[Tensor]) -> str:
    return f"{len(features)}, the first of shape {tuple(features[0].shape[1:])}" if features else "none"
