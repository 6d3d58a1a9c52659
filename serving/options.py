"""What a request may ask for besides the file: how much is suppressed, how thoroughly, which channels.

Each is a query parameter of `POST /v1/enhance` and a field of a job. What the network that answers cannot do is
refused, never left out in silence.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from serving.contrasted import stretched
from serving.engine import Engine
from serving.wire import Refused
from simulation.audio import Waveform
from simulation.schema import Schema
from training.models.gp_unified.samplers import LARGEST_SEED, Mode

TIERS = ("full", "fast", "predictive")
SAMPLING = ("mode", "steps", "corrector_steps", "first_fusion", "last_fusion", "seed")
"""Options that are fields of a diffusion network's `Sampling`."""
IDLE: dict[Mode, tuple[str, ...]] = {
    "predictive": ("steps", "corrector_steps", "first_fusion", "last_fusion"),
    "generative": ("first_fusion", "last_fusion"),
    "unified": (),
}
"""Those that a mode makes nothing of."""
FASTEST_STEPS = 5
"""Of the tier `fast`."""


class Options(Schema):
    """One request's wishes."""

    wet: float = Field(default=1.0, ge=0, le=1)
    """Share of the enhanced sound; the rest is the input as it came, aligned sample by sample."""
    max_suppression_db: float | None = Field(default=None, ge=0, le=120)
    """Nothing of the input is lowered by more than this; None: as the network sees fit."""
    contrast: bool = False
    """Whether the answer passes perceptual contrast stretching (PCS)."""
    downmix: bool = False
    """Whether the channels are averaged before, and the answer has one."""
    tier: Literal["full", "fast", "predictive"] = "full"
    """Of a diffusion network: as it was registered; in few steps; its predictive decoder alone, in one call."""
    mode: Mode | None = None
    """Of a diffusion network, in place of the tier's, as are all that follow: generative, unified or predictive."""
    steps: int | None = Field(default=None, ge=1, le=200)
    """How many; the predictive mode takes none."""
    corrector_steps: int | None = Field(default=None, ge=0, le=10)
    """Corrector's steps in each."""
    first_fusion: float | None = Field(default=None, ge=0, le=1)
    """Weight of the generative state after the first step of the unified mode (alpha); 1: no fusion there."""
    last_fusion: float | None = Field(default=None, ge=0, le=1)
    """Weight of the generative result after its last step (beta); 1: no fusion there."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Of the noise: equal requests with equal seeds have equal answers."""

    @property
    def plain(self) -> bool:
        """Whether nothing is asked for, so that a candidate may be compared on this request."""
        return self == Options()

    @property
    def dry(self) -> float:
        """Share of the input in the answer. What is mixed in at -20 dB holds all suppression to 20 dB (at most)."""
        floor = 0.0 if self.max_suppression_db is None else 10 ** (-self.max_suppression_db / 20)
        return max(1.0 - self.wet, floor)


def enhanced(engine: Engine, options: Options, samples: Waveform, sample_rate: int) -> Waveform:
    """`[samples, channels]` -> the same shape, or `[samples, 1]` of a downmix. `Refused` for what cannot be done."""
    if options.downmix:
        samples = samples.mean(axis=1, keepdims=True, dtype=np.float32)
    answer = engine_for(engine, options).enhance(samples, sample_rate)
    if options.contrast:
        answer = stretched(answer, sample_rate)
    return mixed(answer, samples, options)


def mixed(answer: Waveform, samples: Waveform, options: Options) -> Waveform:
    """The answer with as much of the input as was asked for."""
    if options.dry == 0:
        return answer
    return np.clip((1 - options.dry) * answer + options.dry * samples, -1.0, 1.0).astype(np.float32)


def tiers(engine: Engine) -> tuple[str, ...]:
    """Those that the network can be asked for; none where it is no diffusion network."""

    def possible(tier: str) -> bool:
        try:
            engine_for(engine, Options.parse({"tier": tier}, "tier"))
        except Refused:
            return False
        return True

    if getattr(engine.model.config, "sampling", None) is None:
        return ()
    return tuple(tier for tier in TIERS if possible(tier))


def engine_for(engine: Engine, options: Options) -> Engine:
    """The engine itself, or the same weights asked in another way."""
    asked: dict[str, object] = {name: value for name in SAMPLING if (value := getattr(options, name)) is not None}
    if options.tier == "full" and not asked:
        return engine
    sampling = getattr(engine.model.config, "sampling", None)
    if sampling is None:
        raise Refused(
            422,
            "bad_option",
            f"The network that answers ({engine.model.config.kind}) has no tiers and takes no steps: it is no diffusion"
            f" network. Leave tier and {', '.join(asked) or 'the like'} out.",
        )
    if options.tier == "predictive" and options.mode not in (None, "predictive"):
        raise Refused(422, "bad_option", f"tier=predictive is not mode={options.mode}. Leave one of them out.")
    if options.tier == "fast":
        asked = {"steps": FASTEST_STEPS} | asked
    if options.tier == "predictive":
        asked = asked | {"mode": "predictive"}
    wanted = sampling.model_copy(update=asked)
    if idle := [name for name in IDLE[wanted.mode] if name in asked]:
        raise Refused(
            422, "bad_option", f"The mode {wanted.mode} makes nothing of {', '.join(idle)}. Ask for mode=unified too."
        )
    if problem := engine.model.config.impossible(wanted):  # type: ignore[attr-defined]
        raise Refused(422, "bad_option", f"{problem}. Leave tier and mode out.")
    return engine.sampled_by(wanted)
