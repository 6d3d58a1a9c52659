"""What a training run is. Where it runs (workers, devices, bucket) is no part of it."""

from typing import Literal

from pydantic import Field, model_validator

from simulation.schema import OneOf, Range, Schema
from training.models import AnyModel
from training.objectives import AnyObjective, Regression
from training.registry import DEFAULT_USE, known_use


class KeepBest(Schema):
    """Which checkpoints are kept beside the last ones."""

    metric: str = "valid/si_sdr_gain_db"
    """A figure on the valid split, as the history names it."""
    higher_is_better: bool = True
    count: int = Field(default=1, gt=0)
    """How many are kept."""
    release: bool = False
    """Whether the version takes the best one's weights; False: those of the last step."""


class Recipe(Schema):
    """A complete, frozen description of a run; a variant is `recipe.model_copy(update={...})`."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    use: str = DEFAULT_USE
    """The registered model that its versions belong to."""
    network: str = Field(pattern=r"^[a-z0-9_]+$")
    """The tag that versions of this network share, as in `dm/3`."""
    model: AnyModel
    begins_with: str | None = None
    """Address of a version whose weights the network takes over before the first step: of the same network, or of a
    part of it. None: all weights are fresh; "": to be filled in before a run starts."""
    objective: AnyObjective = Regression.Config()

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    """Items of a step over all workers together: results and learning rate do not follow the number of workers."""
    segment_s: float | None = Field(gt=0)
    """Length of the piece of an utterance that is learnt from; None, with `bucketing`: the whole of it."""
    bucketing: bool = False
    """Whether the utterances of a step are of like lengths, and cut to the shortest of them where that is below a
    segment. False: shorter utterances are filled with zeros, which count in the losses as silence does."""

    learning_rate: float = Field(gt=0)
    """The highest one of the network: reached after the warm-up, then the schedule takes it down."""
    judge_learning_rate: float | None = Field(default=None, gt=0)
    """The highest one of everything else that learns (discriminators); None: the same."""
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    """After the warm-up: half a cosine down to zero at the last step, by `decay` every `decay_steps`, or as it is."""
    decay: float = Field(default=0.99, gt=0, le=1)
    """What an exponential schedule leaves of the learning rate after `decay_steps`."""
    decay_steps: int = Field(default=1000, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.01
    clip_norm: float = Field(default=5.0, gt=0)
    """Longest gradient of a phase; a longer one is shortened to it."""
    accumulate: int = Field(default=1, gt=0)
    """Pieces that a worker cuts its share of a step into, one after the other, so that each needs less memory."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """An exponential moving average of the network's weights is validated and released: each step it keeps this much
    of itself. None: the weights themselves."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of activations under autocast; weights, spectra and losses stay fp32."""
    compile: bool = False
    """Whether torch.compile rewrites the network."""
    channels_last: bool = False
    """Whether weights of 2-d convolutions lie in memory as tensor cores like them."""
    deterministic: bool = False
    """Whether operations without a deterministic form are refused, and cuDNN may not choose by timing."""

    log_every: int = Field(default=10, gt=0)
    """Steps between two rows of the history."""
    validate_every: int = Field(gt=0)
    """Steps between two looks at the valid split."""
    validation_items: int = Field(default=32, gt=0)
    """How many mixtures of the valid split that takes, the first ones."""
    checkpoint_every: int = Field(gt=0)
    """Steps between two checkpoints; the last step always makes one."""
    keep_best: KeepBest | None = None
    """Which checkpoints are kept beside the last ones; None: no others."""
    seed: int = Field(default=0, ge=0)
    search: dict[str, Range | OneOf] = Field(default={}, exclude=True)
    """Fields that `unmuffle tune` varies, by their names with dots, and what it draws them from. Training does not look
    at it, so it is left out of what identifies a run."""

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if self.segment_s is None and not self.bucketing:
            raise ValueError("without segment_s, utterances are learnt from as a whole; that needs bucketing")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be fewer than steps {self.steps}")
        if (wanted := known_use(self.use).sample_rate) != self.model.sample_rate:
            raise ValueError(f"the use {self.use} is for {wanted} Hz, the model has {self.model.sample_rate} Hz")
        return self

    @property
    def segment_samples(self) -> int | None:
        """The segment at the model's sample rate; None: as long as utterances are."""
        return None if self.segment_s is None else round(self.segment_s * self.model.sample_rate)
