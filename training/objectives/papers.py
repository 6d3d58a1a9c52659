"""What the papers minimise: their terms and weights, as objectives."""

from typing import Literal

from training.objectives.adversarial import Adversarial
from training.objectives.metric_judge import MetricJudge
from training.objectives.period_judge import PeriodJudge
from training.objectives.spectral import Spectral

Task = Literal["phase_retrieval", "denoising", "dereverberation", "bandwidth_extension", "universal"]

BRANCH_SHARE = 0.5
"""Of the magnitude term's weight, for each of DM's branches, so that neither starves; reconstructed."""


def mp_senet(edition: Literal["2023", "2024"] = "2024") -> Adversarial.Config:
    """MP-SENet: 0.9 magnitude, 0.3 phase, 0.1 complex, 0.2 time, 0.05 metric; in 2024 also 0.1 consistency.

    Source: arXiv 2305.13686 and 2308.08926; the weights of 2024 as in the authors' code.
    """
    consistency = 0.1 if edition == "2024" else 0.0
    return Adversarial.Config(
        spectral=Spectral.Config(edition=edition, consistency=consistency), judges=(MetricJudge.Config(),)
    )


def renet(task: Task) -> Adversarial.Config:
    """RENet, by task. Source: arXiv 2602.08556 and the trainers in its authors' repository.

    - denoising: as MP-SENet of 2024.
    - universal: the same, and 0.05 (feature matching + persuasion) of a multi-period discriminator with hinge losses.
    - phase_retrieval: 20 000 WOPD + feature matching + persuasion, and nothing else.
    - dereverberation, bandwidth_extension: no trainer of their own was published; they are cases of the universal one,
      whose objective they get here.
    """
    if task == "phase_retrieval":
        wopd = Spectral.Config(magnitude=0, phase=0, complex=0, consistency=0, time=0, omnidirectional=2e4)
        return Adversarial.Config(spectral=wopd, judges=(PeriodJudge.Config(weight=1.0),))
    if task == "denoising":
        return mp_senet("2024")
    return Adversarial.Config(spectral=Spectral.Config(), judges=(MetricJudge.Config(), PeriodJudge.Config()))


def dm(omega: float | None = None, branches: bool = True, phase: bool = False) -> Adversarial.Config:
    """DM: the terms of its line, 0.9 magnitude, 0.1 complex, 0.2 time, 0.05 metric, and supervision of both branches.

    No loss of DM's is published in what could be read: weights are those of CMGAN and MP-SENet. Each branch's magnitude
    term weighs half of the main one. With `omega` that weight goes to the branches as omega and 1 - omega of the whole:
    the other reading of the paper's fusion weight, as one of losses. `branches=False` is for a network with one branch,
    `phase` adds the phase term (0.3) for the one that estimates the phase.
    """
    spectral = Spectral.Config(phase=0.3 if phase else 0.0, consistency=0.0)
    shares = (BRANCH_SHARE, BRANCH_SHARE) if omega is None else (omega, 1 - omega)
    weights = {name: share * spectral.magnitude for name, share in zip(("masked", "mapped"), shares, strict=True)}
    return Adversarial.Config(
        spectral=spectral.model_copy(update={"branches": weights if branches else {}}), judges=(MetricJudge.Config(),)
    )
