"""A self-supervised (SSL) speech model as features: its layers weighed, gated, and brought to the frames of a spectrum.

The model is transformers' WavLM or Data2Vec-audio, imported only where a network is built on one. Weights of a release
come through `training.models.bsp_mpnet.pretrained`; what is built here has random ones.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn
from torch.nn import functional

from simulation.schema import Schema

# Shape letters in this file: N layers, B batch, S frames of the SSL model, T frames of the spectrum, D features.

STRIDE, FIELD = 320, 400
"""Of the convolutions that every one of these models begins with: samples from frame to frame, and under a frame."""
FIXED = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0, "num_adapter_layers": 0}
"""Settings of pre-training that features do without: nothing is masked and no layer left out."""
VARIANCE_FLOOR = 1e-7


class Ssl(Schema):
    """Which SSL model."""

    kind: Literal["wavlm", "data2vec", "absent"] = "wavlm"
    """absent: zeros in its place, at equal size of all around it. The ablation without SSL, and how that is counted."""
    width: int = Field(default=768, gt=0)
    layers: int = Field(default=12, gt=0)
    weighed: tuple[int, ...] | None = None
    """Which of the layers are weighed, counted from the first; None: all."""
    architecture: dict[str, JsonValue] = Field(default_factory=dict)
    """Further settings of transformers' configuration of the kind, as its `config.json` has them."""
    normalise: bool = False
    """Whether it wants audio of zero mean and unit variance, as its `preprocessor_config.json` says (large ones do)."""
    source: str | None = None
    """Whose weights training begins with: a folder, an address of the store, or a name on the hub; None: random."""
    sha256: str | None = None
    """What the file of these weights must have; None: any, and the version's facts say which it had."""
    licence: str = "unknown"
    """Of these weights."""

    @model_validator(mode="after")
    def _weighs_layers_that_are_there(self) -> "Ssl":
        if self.weighed is not None and (not self.weighed or not set(self.weighed) <= set(range(self.outputs))):
            raise ValueError(f"weighed {list(self.weighed)} must name some of the layers 0 to {self.outputs - 1}")
        return self

    @property
    def outputs(self) -> int:
        """How many layers may be weighed: their outputs, and of WavLM also what goes into the first one."""
        return self.layers if self.kind == "data2vec" else self.layers + 1

    @property
    def features(self) -> int:
        """How many layers are weighed."""
        return self.outputs if self.weighed is None else len(self.weighed)

    def build(self) -> nn.Module:
        """The model, with random weights."""
        if self.kind == "absent":
            return Absent(self)
        import transformers

        kinds = {
            "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
            "data2vec": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel),
        }
        settings, model = kinds[self.kind]
        size = {"hidden_size": self.width, "num_hidden_layers": self.layers}
        return SslModel(model(settings(**{**self.architecture, **size, **FIXED})), self)


class SslModel(nn.Module):
    """The outputs of all layers of transformers' model."""

    def __init__(self, network: Any, config: Ssl) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "layers batch ssl_frames features"]:
        """Of a waveform as it is, of any length; less than one frame is filled with zeros.

        The last one is the model's own output: large models normalise it, which `hidden_states` leaves out.
        """
        if self.config.normalise:
            noisy = (noisy - noisy.mean(-1, True)) / (noisy.var(-1, keepdim=True, correction=0) + VARIANCE_FLOOR).sqrt()
        filled = functional.pad(noisy, (0, max(0, FIELD - noisy.shape[-1])))
        found = self.network(filled, output_hidden_states=True)
        layers = [*found.hidden_states[:-1], found.last_hidden_state][-self.config.outputs :]
        return torch.stack([layers[each] for each in self.config.weighed or range(len(layers))])


class Absent(nn.Module):
    """Zeros of the shape that a model would give."""

    def __init__(self, config: Ssl) -> None:
        super().__init__()
        self.config = config

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "layers batch ssl_frames features"]:
        """Zeros."""
        frames = max(0, noisy.shape[-1] - FIELD) // STRIDE + 1
        return noisy.new_zeros(self.config.features, len(noisy), frames, self.config.width)


class Separation(nn.Module):
    """The features of one path: each layer normalised and weighed (equation 3), then each value gated (4, 5).

    F = sum of softmax(w)_i LayerNorm_i(z_i), then sigmoid(linear(F)) F. Weights start equal. Each path has layer
    normalisations of its own, which the paper leaves open.
    """

    def __init__(self, config: Ssl, learnt: bool) -> None:
        """`learnt` False: the weights stay equal."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.features))
        weights = torch.ones(config.features)
        self.weights = nn.Parameter(weights) if learnt else nn.Buffer(weights)
        self.gate = nn.Linear(config.width, config.width)

    @property
    def shares(self) -> Float[Tensor, " layers"]:
        """What each layer counts; they sum up to 1."""
        return self.weights.softmax(0)

    def forward(
        self, layers_NBSD: Float[Tensor, "layers batch ssl_frames features"]
    ) -> Float[Tensor, "batch ssl_frames features"]:
        """One sequence out of all layers'."""
        weighed = [share * norm(z) for share, norm, z in zip(self.shares, self.norms, layers_NBSD, strict=True)]
        mixed_BSD = torch.stack(weighed).sum(0)
        return self.gate(mixed_BSD).sigmoid() * mixed_BSD


def aligned(
    features_BSD: Float[Tensor, "batch ssl_frames features"],
    frames: int,
    hop_size: int,
    start_B: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch frames features"]:
    """Features where the frames of a spectrum are centred, `hop_size` samples apart; linear between two.

    Frame s of the SSL model lies around sample 320 s + 199.5; the spectrum begins at sample `start` (None: 0).
    Repeating frames is right for hops of 160 only.
    """
    batch, last = len(features_BSD), features_BSD.shape[1] - 1
    start_B = torch.zeros(batch, dtype=torch.long, device=features_BSD.device) if start_B is None else start_B
    at_BT = start_B[:, None] + torch.arange(frames, device=features_BSD.device) * hop_size
    at_BT = ((at_BT.double() - (FIELD - 1) / 2) / STRIDE).clamp(0, last)
    before_BT = at_BT.long()
    share_BT1 = (at_BT - before_BT).to(features_BSD)[..., None]
    before_BTD, after_BTD = (
        features_BSD.gather(1, place_BT[..., None].expand(-1, -1, features_BSD.shape[2]))
        for place_BT in (before_BT, (before_BT + 1).clamp(max=last))
    )
    return torch.lerp(before_BTD, after_BTD, share_BT1.expand_as(before_BTD))
