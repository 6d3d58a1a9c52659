"""Diffusion: learn the score of noisy states of the clean spectrum, and to predict it, on one encoder."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from simulation.errors import BadSetting
from training.models.base import Enhancer
from training.models.gp_unified.network import GpUnified
from training.models.gp_unified.sde import half_energy, perturbed, score_loss, unit_noise
from training.objectives.base import MODEL, Losses, Objective, ObjectiveConfig
from training.objectives.regression import si_sdr_db


class Diffusion(Objective):
    """Half the score loss and half the predictive one (arXiv 2305.10734, Eqs. 9 to 11).

    Each item draws a time uniformly from [0.03, 1] and complex noise of unit variance, from torch's generator::

        score       half the sum over bins of |sigma(t) s + z|^2
        predictive  half the sum over bins of |prediction - clean|^2, in the compressed spectrum
        score_ratio the score loss over half the number of bins, the expected loss of a score of zero: for the record

    The paper calls both equally important; as sums they are not balanced in gradients (a fresh network's score loss is
    far larger), and only the shared encoder feels their ratio. Clean and noisy are divided by the noisy peak and
    transformed in fp32 without gradients. Fusion has no part in it: GP-SGMSE+ and GP-Unified share what is learnt.
    """

    class Config(ObjectiveConfig):
        """Weights of both losses."""

        kind: Literal["diffusion"] = "diffusion"
        score: float = 0.5
        predictive: float = 0.5
        """Of no effect where the network has no predictive decoder."""
        si_sdr: float = Field(default=0.0, ge=0)
        """What each dB of SI-SDR of the predicted waveform takes off the loss (ours, for short trainings: it weighs
        what is loud, where the compressed spectrum weighs all alike). 0: as in the paper."""
        one_call: float = Field(default=0.0, ge=0, lt=1)
        """Share of a batch, its first items, that is asked what the predictive mode asks in its one call: at time 1 and
        at the state which that begins with. There, only the prediction is learnt from (ours). 0: as in the paper."""

        def build(self) -> "Diffusion":
            """The objective."""
            return Diffusion(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def losses(
        self,
        model: Enhancer,
        noisy: Float[Tensor, "batch samples"],
        clean: Float[Tensor, "batch samples"],
        phase: str = MODEL,
    ) -> Losses:
        """See the class; BadSetting for a network that is no diffusion model."""
        if not isinstance(model, GpUnified):
            raise BadSetting(f"The objective diffusion trains gp_unified, and the model is {model.config.kind}.")
        sde = model.config.sde
        with torch.no_grad():
            heard = model.conditions(noisy)
            wanted = model.wanted(clean, heard)
            time = sde.earliest + (1 - sde.earliest) * torch.rand(len(noisy), device=noisy.device, dtype=noisy.dtype)
            noise = unit_noise(wanted)
            state = perturbed(sde, wanted, heard.spectrum, time, noise)
            calls = int(self.config.one_call * len(noisy))
            time[:calls] = 1.0
            state[:calls] = model.beginning(heard.spectrum[:calls], lambda: noise[:calls])
        score, predicted = model.outputs(state, heard.spectrum, time, predict=True)
        assert score is not None
        kept = slice(0, heard.frames)
        learnt = (torch.arange(len(noisy), device=noisy.device) >= calls) * len(noisy) / (len(noisy) - calls)
        parts = {"score": learnt * score_loss(sde, score[..., kept], time, noise[..., kept])}
        total = self.config.score * parts["score"]
        if predicted is not None:
            parts["predictive"] = half_energy((predicted - wanted)[..., kept])
            total = total + self.config.predictive * parts["predictive"]
            if self.config.si_sdr > 0:
                enhanced = model.waveform(heard._replace(spectrum=predicted), noisy.shape[-1])
                parts["si_sdr_db"] = si_sdr_db(enhanced, clean)
                total = total - self.config.si_sdr * parts["si_sdr_db"]
        zero_score = 0.5 * noise[0, :, kept].numel()
        return Losses(total, parts | {"score_ratio": parts["score"].detach() / zero_score})
