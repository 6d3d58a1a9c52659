"""What every network is: waveform in, waveform of the same length out.

Serving, metrics and objectives rely on nothing else. How a network learns is an objective's business.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from simulation.errors import BadSetting
from simulation.schema import Schema


class ModelConfig(Schema):
    """Settings of a network; its `kind` names it in recipes and in `config.json`."""

    kind: str
    sample_rate: int = 16000
    """Hz, of everything that goes in and comes out."""

    def build(self) -> "Enhancer":
        """The network, with fresh weights drawn from torch's generator."""
        raise NotImplementedError


class Polar(NamedTuple):
    """A spectrum as a network estimates it, for a waveform brought to a mean power of one."""

    magnitude: Float[Tensor, "batch bins frames"]
    """Compressed, at least zero."""
    phase: Float[Tensor, "batch bins frames"]
    """In (-pi, pi]."""


Streamer: TypeAlias = Callable[[Any, Tensor], tuple[Any, Tensor]]
"""What `Enhancer.stream` is: state and chunk in, state and what is ready out."""


class Estimate(NamedTuple):
    """What an objective may supervise."""

    enhanced: Float[Tensor, "batch samples"]
    branches: dict[str, Float[Tensor, "batch samples"]]
    """Whole estimates of the same clean waveform by parts of the network, by name; most have none."""
    polar: Polar | None = None
    """The network's own spectrum, which need not be that of any waveform; None where it estimates no phase."""
    features: tuple[Tensor, ...] = ()
    """[batch, ...], what layers along the way made of it, for a student to learn; most networks show none."""
    health: Mapping[str, Tensor] = MappingProxyType({})
    """[batch], figures that tell whether the network can still learn, for the record; most have none."""


class Enhancer(nn.Module):
    """A network that enhances speech."""

    causal: bool = False
    """True: output sample n depends on no input later than sample n + latency_samples."""

    latency_samples: int = 0
    """Samples of the future a causal network waits for; 0 and without meaning for the others, which need it all."""

    stochastic: bool = False
    """True: `forward` draws from torch's generator, so that the same input has many outputs; an evaluation then scores
    several of them."""

    beside: Mapping[str, Tensor] = MappingProxyType({})
    """What a corpus holds beside the waveforms of this batch, [batch, ...] by name; see `training.beside`."""

    compiled_methods: tuple[str, ...] = ("estimate",)
    """What `compile` compiles: the methods in which objectives spend their time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.config.sample_rate

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """Enhanced waveforms; any length above zero."""
        raise NotImplementedError

    def estimate(self, noisy: Float[Tensor, "batch samples"]) -> Estimate:
        """The enhanced waveform together with what the parts of the network made of it."""
        return Estimate(self(noisy), {})

    def stream(
        self, state: Any | None, chunk: Float[Tensor, "batch chunk"]
    ) -> tuple[Any, Float[Tensor, "batch ready"]]:
        """Feed a chunk; get the state to pass with the next one, and all output samples that are ready.

        The first call takes None as its state. Joined outputs equal `forward` for any cutting into chunks; feeding
        `latency_samples` zeros brings out the end. Only causal networks can.
        """
        raise NotImplementedError(f"{type(self).__name__} is not causal; it needs the whole utterance")

    def streamer(self) -> Streamer:
        """`stream` of these weights as they stand now, in the form that costs least for one small chunk at a time.

        A state is used up by a call; one call at a time.
        """
        return self.stream

    def choose(self, options: Mapping[str, object]) -> None:
        """Settings of how the network is asked that need no other weights, by name; BadSetting where it has none."""
        if options:
            raise BadSetting(
                f"A network of kind {self.config.kind} has nothing to choose; found {', '.join(options)}. Leave it out."
            )

    def learning_rate_scales(self) -> dict[str, float]:
        """For fine-tuning: factors on the learning rate by prefix of a parameter's name; 0 freezes.

        The longest prefix that fits counts; without one the factor is 1.
        """
        return {}

    def remarks(self) -> tuple[str, ...]:
        """What a reader of its scores should know of this network and its weights, a sentence each; most have none."""
        return ()

    def pictures(self, noisy: Float[Tensor, "batch samples"]) -> dict[str, bytes]:
        """PNG by name: what is to be seen inside the network while it hears this; most show nothing."""
        return {}

    @contextmanager
    def told(self, beside: Mapping[str, Tensor]) -> Iterator[None]:
        """Within, the network finds these in `beside`."""
        self.beside = dict(beside)
        try:
            yield
        finally:
            self.beside = {}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, but for `compiled_methods`. Names in the state stay as they are; copies are not compiled."""
        for name in self.compiled_methods:
            vars(self)[name] = torch.compile(getattr(self, name), *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled: it belongs to this object's weights."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in self.compiled_methods}
