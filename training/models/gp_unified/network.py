"""GP-Unified: one encoder, a generative and a predictive decoder, and a sampler that fuses what they say."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from simulation.errors import BadSetting
from training.models.base import Enhancer, ModelConfig
from training.models.gp_unified.ncsnpp import Decoder, Encoder, Shape, Size
from training.models.gp_unified.samplers import LARGEST_SEED, Noise, Outputs, Sampling, noise_like, prior, sampled
from training.models.gp_unified.sde import Ouve, State, Time
from training.models.layers import without_autocast
from training.spectral import Stft

SILENCE = 1e-30
"""Peak below which a waveform is left as it is instead of being brought to 1."""


class Conditions(NamedTuple):
    """A waveform as the network sees it, with what it takes to go back."""

    spectrum: Complex[Tensor, "batch bins frames"]
    """Compressed, at a peak of one, filled with zero frames to a multiple of the network's stride."""
    peak: Float[Tensor, "batch 1"]
    frames: int
    """Those that are not filling."""


class GpUnified(Enhancer):
    """Diffusion from noisy to clean speech in the compressed complex spectrum (arXiv 2305.10734, ICASSP 2024).

    The network is NCSN++ (`ncsnpp.py`) of [state, noisy], 4 real channels. Encoder, bottleneck and time embedding are
    shared; the generative decoder estimates the score of the state, the predictive one the clean spectrum itself. The
    paper's systems, by the settings here::

        SGMSE+         predictive_decoder=False                65,590,822 parameters, published 65.6 M
        GP-SGMSE+      sampling.mode="generative"
        GP-Unified     sampling.mode="unified" (the default)  106,782,796 parameters, published 106 M
        its predictive decoder alone, in one call              sampling.mode="predictive"

    Both figures count the 128 frozen frequencies of the time embedding, which are a buffer here. The last three share
    a checkpoint: fusion has no part in training.

    The paper states no constants of transform, diffusion and sampler: they are those of SGMSE+'s code, which it builds
    on. Deviations: the predictive head does not divide by t and flips no sign (`predictive_over_time` makes both heads
    alike); noise is drawn item by item, so that neither batch nor device changes a result; the predictive decoder runs
    only where its answer is used. The predictive mode, which the paper evaluates only behind the sampler, asks once, at
    the sampler's first state.
    """

    class Config(Size, ModelConfig):
        """Settings of network, transform, diffusion and sampler."""

        kind: Literal["gp_unified"] = "gp_unified"
        fft_size: int = 510
        """STFT window, in samples (32 ms at 16 kHz)."""
        hop_size: int = 128
        """STFT hop, in samples (8 ms at 16 kHz)."""
        compression: float = 0.5
        """Exponent of the magnitude."""
        scale: float = 0.15
        """Factor on the compressed spectrum: brings it to the size of the diffusion's noise."""
        predictive_decoder: bool = True
        predictive_over_time: bool = False
        """True: the predictive head divides by t and flips the sign, as the score's does."""
        predictive_output: Literal["spectrum", "mask"] = "spectrum"
        """What the predictive head says. spectrum: the clean one itself, as in the paper. mask (ours): the complex
        factor on the noisy spectrum, less one; so a fresh network leaves its input as it is, and a level need not be
        learnt, which little training suffices for."""
        sde: Ouve = Ouve()
        sampling: Sampling = Sampling()

        @property
        def shape(self) -> Shape:
            """The part of these settings that NCSN++ is built from."""
            return Shape(bins=self.fft_size // 2 + 1, **self.model_dump(include=set(Size.model_fields)))

        @model_validator(mode="after")
        def _fits(self) -> "GpUnified.Config":
            if self.shape.bins % self.shape.stride:
                raise ValueError(
                    f"fft_size {self.fft_size} gives {self.shape.bins} bins, which must be a multiple of "
                    f"{self.shape.stride}, as there are {len(self.multipliers)} multipliers"
                )
            if problem := self.impossible(self.sampling):
                raise ValueError(problem)
            return self

        def impossible(self, sampling: Sampling) -> str:
            """Why this network cannot be asked in such a way; "" where it can."""
            if sampling.mode == "generative" or self.predictive_decoder:
                return ""
            return (
                f"the mode {sampling.mode!r} needs a predictive decoder, and this network has none "
                "(predictive_decoder is false); use the mode 'generative'"
            )

        def build(self) -> "GpUnified":
            """The network, with fresh weights."""
            return GpUnified(self)

    stochastic = True
    compiled_methods = ("outputs",)
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stochastic = config.sampling.stochastic
        self.stft = Stft(config.fft_size, config.hop_size)
        self.encoder = Encoder(config.shape)
        self.generative = Decoder(config.shape, over_time=True)
        over_time = config.predictive_over_time
        self.predictive = Decoder(config.shape, over_time) if config.predictive_decoder else None

    def forward(self, noisy: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
        """One draw for each item, with the settings' sampling. All have one seed: the settings', or a drawn one."""
        seed = self.config.sampling.seed
        seed = int(torch.randint(LARGEST_SEED, ())) if seed is None else seed
        return self.enhanced(noisy, [seed] * len(noisy), self.config.sampling)

    def enhanced(
        self, noisy: Float[Tensor, "batch samples"], seeds: Sequence[object], sampling: Sampling | None = None
    ) -> Float[Tensor, "batch samples"]:
        """One draw for each item: a function of the item, its seed and the sampling.

        Raises BadSetting for a seed that is no integer, and for a mode that needs a decoder that is not there.
        """
        sampling = sampling or self.config.sampling
        if problem := self.config.impossible(sampling):
            raise BadSetting(f"Cannot sample so: {problem}.")
        heard = self.conditions(noisy)
        noise = noise_like(heard.spectrum, seeds)
        if sampling.mode == "predictive":
            latest = heard.spectrum.real.new_ones(len(noisy))
            state = self.beginning(heard.spectrum, noise, sampling)
            clean = self.outputs(state, heard.spectrum, latest, generate=False, predict=True).clean
            assert clean is not None
        else:
            clean = sampled(
                lambda state, time, predict: self.outputs(state, heard.spectrum, time, predict=predict),
                heard.spectrum,
                self.config.sde,
                sampling,
                noise,
            )
        return self.waveform(heard._replace(spectrum=clean), noisy.shape[-1])

    def beginning(self, noisy: State, noise: Noise, sampling: Sampling | None = None) -> State:
        """The state that the predictive mode's one call is about, at time 1."""
        sampling = sampling or self.config.sampling
        return prior(self.config.sde, noisy, noise) if sampling.predictive_noise else noisy

    def choose(self, options: Mapping[str, object]) -> None:
        """Fields of `Sampling`; BadSetting where one is none, or needs a decoder that is not there."""
        sampling = Sampling.parse({**self.config.sampling.model_dump(), **options}, "The sampling asked for")
        if problem := self.config.impossible(sampling):
            raise BadSetting(f"Cannot sample so: {problem}.")
        self.config = self.config.model_copy(update={"sampling": sampling})
        self.stochastic = sampling.stochastic

    def outputs(self, state: State, noisy: State, time: Time, *, generate: bool = True, predict: bool) -> Outputs:
        """Score and predicted clean spectrum, [batch, bins, frames] each; None for what is not wanted."""
        parts = torch.cat([torch.view_as_real(state), torch.view_as_real(noisy)], dim=-1)
        encoded = self.encoder(parts.permute(0, 3, 1, 2), time)
        score = -_complex(self.generative(encoded, time)) if generate else None
        if not predict or self.predictive is None:
            return Outputs(score, None)
        clean = _complex(self.predictive(encoded, time))
        clean = -clean if self.config.predictive_over_time else clean
        return Outputs(score, noisy * (1 + clean) if self.config.predictive_output == "mask" else clean)

    def conditions(self, noisy: Float[Tensor, "batch samples"]) -> Conditions:
        """The noisy waveform, brought to a peak of one, as a compressed spectrum."""
        peak = noisy.abs().amax(-1, keepdim=True)
        spectrum = self.compressed(noisy / peak.clamp(min=SILENCE))
        return Conditions(self._filled(spectrum), peak, spectrum.shape[-1])

    def wanted(self, clean: Float[Tensor, "batch samples"], heard: Conditions) -> State:
        """The clean waveform of what was heard as a spectrum of the same kind: over the same peak, filled alike."""
        return self._filled(self.compressed(clean / heard.peak.clamp(min=SILENCE)))

    def _filled(self, spectrum: Complex[Tensor, "batch bins frames"]) -> Complex[Tensor, "batch bins filled"]:
        return functional.pad(spectrum, (0, -spectrum.shape[-1] % self.config.shape.stride))

    def compressed(self, waveform: Float[Tensor, "batch samples"]) -> Complex[Tensor, "batch bins frames"]:
        """scale |c|^compression e^(i angle(c)) of the STFT c, in single precision at least; 0 where c is 0."""
        with without_autocast(waveform):
            spectrum = self.stft(waveform)
            level = spectrum.abs()
            return spectrum * (self.config.scale * level.clamp(min=SILENCE) ** (self.config.compression - 1))

    def waveform(self, heard: Conditions, samples: int) -> Float[Tensor, "batch samples"]:
        """The way back: expanded, cut to its frames and samples, at the peak it came with."""
        with without_autocast(heard.peak):
            spectrum = heard.spectrum[..., : heard.frames] / self.config.scale
            expanded = spectrum * spectrum.abs() ** (1 / self.config.compression - 1)
            return self.stft.inverse(expanded, samples) * heard.peak


def _complex(parts: Float[Tensor, "batch 2 bins frames"]) -> Complex[Tensor, "batch bins frames"]:
    if parts.dtype != torch.float64:
        parts = parts.float()
    return torch.complex(parts[:, 0], parts[:, 1])
