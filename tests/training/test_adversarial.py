"""Objectives with judges: what each side minimises, when, and that it depends on nothing else."""

import io
import threading
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from simulation.errors import BadSetting
from training.models import MpSenet
from training.models.base import Enhancer, ModelConfig
from training.objectives import Adversarial, Losses, Spectral
from training.objectives.metric_judge import MetricJudge
from training.objectives.period_judge import PeriodJudge

TINY = MetricJudge.Config(channels=4, dropout=0.0), PeriodJudge.Config(channels=(4, 6), periods=(2, 3))


class ScoresAtHand:
    """In the place of PESQ's processes: a score made from the pair itself, at once or after a while."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.asked = 0

    def ask(self, clean: torch.Tensor, enhanced: torch.Tensor) -> "Future[float]":
        """PESQ falls with the distance here; silence has none."""
        self.asked += 1
        answer: Future[float] = Future()
        score = 1 + 3.5 / (1 + (clean - enhanced).square().mean().item()) if enhanced.any() else float("nan")
        threading.Timer(self.delay_s, answer.set_result, [score]).start()
        return answer

    def wait(self, score: "Future[float]") -> float:
        """The score."""
        return score.result()


class Halved(Enhancer):
    """Half of its input, times a weight that learns."""

    def __init__(self, sample_rate: int = 16000) -> None:
        super().__init__(ModelConfig(kind="halved", sample_rate=sample_rate))
        self.gain = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Scaled."""
        return self.gain * noisy


def objective(scores: Any = None, **changes: Any) -> Adversarial:
    """Both judges, tiny."""
    torch.manual_seed(0)
    built = Adversarial.Config.model_validate({"judges": TINY} | changes).build()
    if "metric" in built.judges:
        built.judges["metric"].scores = scores or ScoresAtHand()
    return built


@pytest.fixture
def clean() -> torch.Tensor:
    """[3, 4000]."""
    return 0.1 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noisy(clean: torch.Tensor) -> torch.Tensor:
    """The same with white noise."""
    return clean + 0.05 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(1))


def step(judged: Adversarial, model: Enhancer, number: int, noisy: torch.Tensor, clean: torch.Tensor) -> list[Losses]:
    """Both phases of a step."""
    judged.step_begins(number)
    found = [judged.losses(model, noisy, clean, phase) for phase in judged.phases]
    judged.step_ends()
    return found


def test_the_judges_learn_first_and_from_what_was_made_before(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """With a delay of two steps nothing is fake in the first two; the third step judges what the first one made."""
    judged, model = objective(delay_steps=2), Halved()
    assert judged.phases == ("judge", "model")
    for number in range(2):
        judging, _ = step(judged, model, number, noisy, clean)
        assert judging.parts["metric_fake"].abs().max() == judging.parts["periods_fake"].abs().max() == 0
        assert judging.parts["pesq"].isnan().all() and not judging.parts["pesq_failed"].any()
    judged.step_begins(2)
    judging = judged.losses(model, 0 * noisy, 0 * clean, "judge")
    gain = noisy.square().mean(-1, keepdim=True).add(1e-10).rsqrt()
    distance = ((0.5 * noisy - clean) * gain).square().mean(-1)
    assert torch.allclose(judging.parts["pesq"], 1 + 3.5 / (1 + distance), rtol=1e-5)


def test_the_metric_judge_minimises_its_distance_to_the_score(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """(D(m, m) - 1)^2 + (D(m, m') - (PESQ - 1) / 3.5)^2; the model 0.05 (D(m, m') - 1)^2 beside the spectral terms."""
    judged, model = objective(judges=TINY[:1]), Halved()
    step(judged, model, 0, noisy, clean)
    judged.eval()  # spectral norms stand still
    judged.step_begins(1)
    judging, modelling = (judged.losses(model, noisy, clean, phase) for phase in judged.phases)
    compared = judged.spectral.compare(model, noisy, clean)
    wanted, found = compared.wanted.magnitude, compared.analysed.magnitude
    judge = judged.judges["metric"].discriminator
    assert torch.allclose(judging.parts["metric_real"], (judge(wanted, wanted) - 1).square())
    target = (judging.parts["pesq"] - 1) / 3.5
    assert torch.allclose(judging.parts["metric_fake"], (judge(wanted, found) - target).square())
    assert torch.allclose(judging.total, judging.parts["metric_real"] + judging.parts["metric_fake"])
    metric = (judge(wanted, found) - 1).square()
    assert torch.allclose(modelling.total, judged.spectral.judge(compared).total + 0.05 * metric)


def test_the_period_judge_is_weighed_as_in_renet(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Real and fake for the judge; 0.05 (persuasion + feature matching) for the model."""
    judged, model = objective(judges=TINY[1:]), Halved()
    step(judged, model, 0, noisy, clean)
    judging, modelling = step(judged, model, 1, noisy, clean)
    assert torch.allclose(judging.total, judging.parts["periods_real"] + judging.parts["periods_fake"])
    spectral = judged.spectral.losses(model, noisy, clean).total
    wanted = spectral + 0.05 * (modelling.parts["periods_persuasion"] + modelling.parts["periods_feature"])
    assert torch.allclose(modelling.total, wanted)


def test_losses_are_those_of_each_item(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """In both phases an item costs alone what it costs among others, so that workers may take uneven shares."""
    together, model = objective().eval(), Halved()

    def both(pick: slice) -> list[Losses]:
        together.waiting.begin(0)
        together.waiting.put(clean[pick], 0.5 * noisy[pick])
        together.waiting.end()
        together.step_begins(1)
        return [together.losses(model, noisy[pick], clean[pick], phase) for phase in together.phases]

    whole = both(slice(None))
    for item in range(3):
        for alone, among in zip(both(slice(item, item + 1)), whole, strict=True):
            assert alone.total.shape == (1,)
            for name, part in alone.parts.items():
                assert torch.allclose(part, among.parts[name][item], rtol=1e-4, atol=1e-6), name


def test_nothing_depends_on_how_long_a_score_takes(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Scores that come at once and scores that come late give the same losses, bit for bit."""
    runs = []
    for delay_s in (0.0, 0.2):
        judged, model = objective(ScoresAtHand(delay_s)), Halved()
        runs.append([losses.total for number in range(3) for losses in step(judged, model, number, noisy, clean)])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


class NoScoresYet(ScoresAtHand):
    """Nothing may be waited for."""

    def ask(self, clean: torch.Tensor, enhanced: torch.Tensor) -> "Future[float]":
        """A score that is not there."""
        self.asked += 1
        answer: Future[float] = Future()
        answer.result = lambda timeout=None: pytest.fail("waited for PESQ")  # type: ignore[method-assign,assignment]
        return answer


def test_nobody_waits_for_a_score_before_the_delay_is_over(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """With a delay of three steps, three steps are over before the first score is needed; it is asked for at once."""
    scores = NoScoresYet()
    judged, model = objective(scores, judges=TINY[:1], delay_steps=3), Halved()
    for number in range(3):
        step(judged, model, number, noisy, clean)
        assert scores.asked == 3 * (number + 1)
    judged.step_begins(3)
    with pytest.raises(pytest.fail.Exception, match="waited for PESQ"):
        judged.losses(model, noisy, clean, "judge")


def test_items_without_a_score_are_left_out_and_counted(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """A silent item costs the judge nothing but its clean side, and gives no gradient that is not a number."""
    judged, model = objective(judges=TINY[:1]), Halved()
    noisy[1] = 0
    step(judged, model, 0, noisy, clean)
    judging, modelling = step(judged, model, 1, noisy, clean)
    assert judging.parts["pesq_failed"].tolist() == [0, 1, 0]
    assert judging.parts["metric_fake"][1] == 0 and judging.parts["metric_fake"][0] > 0
    (judging.total.sum() + modelling.total.sum()).backward()
    for name, parameter in [*judged.named_parameters(), *model.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_judges_learn(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Given the same speech a few times, both halve what they get wrong about it and about a faint copy."""
    judged, model = objective(), Halved()
    torch.nn.init.constant_(model.gain, 0.1)
    optimiser = torch.optim.AdamW(judged.parameters(), 2e-2)
    record = []
    for number in range(26):
        judging, _ = step(judged, model, number, noisy, clean)
        optimiser.zero_grad()
        judging.total.sum().backward()
        optimiser.step()
        record.append(judging.parts)

    def wrong(parts: dict[str, torch.Tensor], judge: str) -> float:
        return (parts[f"{judge}_real"] + parts[f"{judge}_fake"]).mean().item()

    for judge in ("metric", "periods"):
        assert wrong(record[-1], judge) < 0.5 * wrong(record[1], judge), judge


def test_validation_asks_for_no_score_and_puts_nothing_aside(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """In evaluation mode the objective stays as it is."""
    scores = ScoresAtHand()
    judged = objective(scores).eval()
    before = {name: value.clone() for name, value in judged.state_dict().items() if torch.is_tensor(value)}
    judged.step_begins(0)
    judged.losses(Halved(), noisy, clean)
    judged.step_ends()
    assert not judged.waiting.steps and scores.asked == 0
    assert all(torch.equal(value, before[name]) for name, value in judged.state_dict().items() if name in before)


def test_what_waits_goes_through_a_checkpoint(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """After resuming, scores are asked for anew, and both phases go on bit for bit."""
    model = Halved()
    undisturbed, stopped, other = objective(), objective(), objective()
    for judged in (undisturbed, stopped):
        step(judged, model, 0, noisy, clean)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    runs = [step(judged, model, 1, clean, noisy) for judged in (undisturbed, other)]
    for wanted, found in zip(*runs, strict=True):
        assert torch.equal(wanted.total, found.total)
    assert runs[1][0].parts["metric_fake"].min() > 0


def test_under_autocast_losses_are_in_single_precision(clean: torch.Tensor, noisy: torch.Tensor) -> None:
    """Networks may compute in 16 bits; distances, scores and the metric judge do not."""
    model = MpSenet.Config(channels=4, heads=2, blocks=1, dense_depth=2).build()
    exact, rough = objective(), objective()
    runs = []
    for judged, enabled in ((exact, False), (rough, True)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            step(judged, model, 0, noisy, clean)
            runs.append(step(judged, model, 1, noisy, clean))
    for wanted, found in zip(*runs, strict=True):
        assert all(part.dtype == torch.float32 for part in (found.total, *found.parts.values()))
        assert torch.allclose(wanted.total, found.total, rtol=0.05)
    assert torch.equal(runs[0][0].parts["metric_real"], runs[1][0].parts["metric_real"])


def test_pesq_asks_for_its_sample_rate(clean: torch.Tensor) -> None:
    """The answer says what to do; without the metric judge any rate will do."""
    with pytest.raises(BadSetting, match="defined at 16000 Hz; the model has 48000 Hz"):
        objective().losses(Halved(48000), clean, clean)
    objective(judges=TINY[1:]).losses(Halved(48000), clean, clean)


@pytest.mark.parametrize("judges", [(), (TINY[0], TINY[0])])
def test_each_judge_sits_once(judges: tuple[Any, ...]) -> None:
    """None at all, or one kind twice, is refused."""
    with pytest.raises(ValidationError, match="expected at least one, each kind once"):
        Adversarial.Config(judges=judges)


def test_settings_survive_json() -> None:
    """Judges and terms come back as they were."""
    config = Adversarial.Config(judges=TINY, spectral=Spectral.Config(branches={"masked": 0.45}), delay_steps=3)
    assert Adversarial.Config.model_validate_json(config.model_dump_json()) == config
