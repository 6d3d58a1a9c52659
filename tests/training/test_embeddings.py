"""Embeddings of whole rows, computed once or each time, for BSP-MPNet to learn from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simulation.errors import BadSetting
from training.batches import Batches
from training.beside import accompanied, size
from training.embeddings import Embeddings, megabytes_per_hour
from training.loop import Run, Seat, train
from training.models import BspMpnet
from training.models.bsp_mpnet.ssl import Ssl, SslModel, aligned
from training.objectives import Contrast
from training.recipe import Recipe
from training.run import maker_of

SSL = {
    "width": 8,
    "layers": 2,
    "architecture": {
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "conv_dim": [4] * 7,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
}
STEPS = 20


class Split:
    """Tones as a split of a corpus, with a digest."""

    digest = "0" * 64

    def __init__(self, tones: Any) -> None:
        self.tones = tones

    def __getattr__(self, name: str) -> Any:
        """Everything else is the tones' own."""
        return getattr(self.tones, name)


def recipe(embeddings: str = "stored", **objective: Any) -> Recipe:
    """Twenty steps of a tiny network around a tiny, random and frozen WavLM."""
    model = {"channels": (2,), "width": 8, "heads": 2, "recurrent_width": 4, "dropout": 0.0, "fine_tuning": "frozen"}
    return Recipe(
        name="tiny",
        network="tiny",
        model=BspMpnet.Config.model_validate(model | {"ssl": SSL}),
        objective=Contrast.Config.model_validate({"embeddings": embeddings} | objective),
        steps=STEPS,
        batch_size=2,
        segment_s=0.3,
        learning_rate=1e-2,
        validate_every=STEPS,
        validation_items=2,
        checkpoint_every=STEPS,
    )


def trained(of: Recipe, split: Split, store: str) -> tuple[Run, dict[str, Any]]:
    """The run after its last step, and the corpora that it read."""
    corpora = accompanied({"train": split, "valid": split}, maker_of(of), store)
    run = Run(of)
    valid = list(Batches(corpora["valid"], of).whole(of.validation_items))
    train(run, Batches(corpora["train"], of), valid, Seat(), save=lambda run: None, tell=lambda progress: None)
    return run, corpora


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many samples each waveform had that went through an SSL model."""
    lengths: list[int] = []
    forward = SslModel.forward

    def counted(self: SslModel, noisy: torch.Tensor) -> torch.Tensor:
        lengths.append(noisy.shape[-1])
        return forward(self, noisy)

    monkeypatch.setattr(SslModel, "forward", counted)
    yield lengths


def test_twenty_steps_with_stored_embeddings_are_those_with_embeddings_of_the_moment(
    tones: Any, tmp_path: Path, heard: list[int]
) -> None:
    """Weights, losses and figures agree to 1e-5 in single precision; both embed whole rows, one of them once."""
    split = Split(tones)
    stored, _ = trained(recipe("stored"), split, tmp_path.as_uri())
    assert sorted(heard) == sorted(tones.lengths)
    heard.clear()
    whole, _ = trained(recipe("whole"), split, tmp_path.as_uri())
    assert len(heard) >= 2 * STEPS and set(heard) <= set(tones.lengths.tolist())
    ours, theirs = (run.learner.state_dict() for run in (stored, whole))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
    assert all(stored.history[-1][name] == pytest.approx(value, abs=1e-5) for name, value in whole.history[-1].items())
    moved = Run(recipe("whole")).learner.state_dict()
    assert max(float((ours[name] - moved[name]).abs().max()) for name in ours) > 1e-2


def test_a_second_training_does_no_ssl_work(tones: Any, tmp_path: Path, heard: list[int]) -> None:
    """Of another recipe over the same corpus and SSL model: not in a step, and not on the valid split."""
    split = Split(tones)
    accompanied({"train": split}, maker_of(recipe()), tmp_path.as_uri())
    assert len(heard) == tones.rows
    heard.clear()
    run, _ = trained(recipe(phase=0.1), split, tmp_path.as_uri())
    assert heard == [] and run.step == STEPS and "valid/loss" in run.history[-1]


@pytest.mark.parametrize("start", [0, 100, 3700, 7900])
def test_frames_of_a_piece_are_those_of_the_whole_row(start: int) -> None:
    """At every frame of the spectrum, and with the last frame repeated where the piece goes beyond the row."""
    layers = torch.randn(24, 3, 8, generator=torch.Generator().manual_seed(0))
    piece = Embeddings.cut({"layers": layers}, start, 4000)
    found = aligned(piece["layers"][None, :, 0], 41, 100, piece["start"][None])
    whole = aligned(layers[None, :, 0], 41 + start // 100, 100)[:, start // 100 :]
    assert torch.allclose(found, whole, atol=1e-6)
    assert piece["layers"].shape == Embeddings.cut({"layers": layers}, 0, 4000)["layers"].shape


def test_embeddings_of_a_piece_are_not_those_of_its_row() -> None:
    """A frame depends on all of a recording, which is why whole rows are embedded, in both ways."""
    model = Run(recipe()).learner.model
    assert isinstance(model, BspMpnet)
    noisy = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    whole, piece = model.ssl(noisy), model.ssl(noisy[:, 3200:])
    assert not torch.allclose(whole[:, :, 10:], piece, atol=1e-3)


def test_half_precision_takes_half_and_says_nearly_the_same(tones: Any, tmp_path: Path) -> None:
    """To 1 % of the length of a row's layers, at an address of its own."""
    split, makers = Split(tones), {name: maker_of(recipe(stored_precision=name)) for name in ("fp32", "bf16")}
    sources = {
        name: accompanied({"train": split}, maker, tmp_path.as_uri())["train"].source for name, maker in makers.items()
    }
    single, half = (sources[name].row(3)["layers"] for name in ("fp32", "bf16"))
    assert half.dtype == torch.bfloat16 and half.nbytes == single.nbytes / 2
    assert float((half.float() - single).norm() / single.norm()) < 0.01
    assert sources["bf16"].address != sources["fp32"].address


def test_the_size_is_said_before_it_is_computed(tones: Any, tmp_path: Path, heard: list[int]) -> None:
    """All 13 layers of a base model take 7.2 GB an hour; half of the layers in half precision a quarter of that."""
    base = Ssl()
    assert megabytes_per_hour(base, "fp32") == pytest.approx(180_000 * 13 * 768 * 4 / 1e6)
    weighed = Ssl(weighed=tuple(range(0, 13, 2)))
    assert megabytes_per_hour(weighed, "bf16") == pytest.approx(megabytes_per_hour(base, "fp32") * 7 / 26)
    lines: list[tuple[str, int]] = []
    maker = maker_of(recipe())
    assert maker is not None
    accompanied({"train": Split(tones)}, maker, tmp_path.as_uri(), say=lambda line: lines.append((line, len(heard))))
    assert size(maker, tones) in lines[0][0] and lines[0][1] == 0
    assert lines[-1] == ("embeddings of train: 1 of 1 shards", tones.rows)


def test_chosen_layers_are_those_of_all() -> None:
    """Weighing some of the layers takes them out of the model's own list; others are refused by number."""
    torch.manual_seed(0)
    everything = Ssl.model_validate(SSL).build().eval()
    chosen = Ssl.model_validate(SSL | {"weighed": (0, 2)}).build().eval()
    chosen.load_state_dict(everything.state_dict())
    noisy = torch.randn(1, 4000)
    assert torch.equal(chosen(noisy), everything(noisy)[[0, 2]])
    with pytest.raises(ValueError, match="0 to 2"):
        Ssl.model_validate(SSL | {"weighed": (3,)})


def test_a_model_that_learns_has_no_embeddings_to_store() -> None:
    """They would be those of its beginning; the answer says what to set."""
    learning = recipe()
    learning = learning.model_copy(update={"model": learning.model.model_copy(update={"fine_tuning": "partial"})})
    with pytest.raises(BadSetting, match="fine_tuning to 'frozen'"):
        maker_of(learning)


def test_pieces_come_with_their_embeddings_from_readers(tones: Any, tmp_path: Path) -> None:
    """Each item of a batch has its own frames, in single precision, whoever reads; other corpora have none."""
    of = recipe(stored_precision="fp16")
    corpus = accompanied({"train": Split(tones)}, maker_of(of), tmp_path.as_uri())["train"]
    batches = Batches(corpus, of)
    stream = batches.stream(0)
    first = next(stream)
    stream.close()
    assert first.beside["layers"].shape == (2, 17, 3, 8) and first.beside["layers"].dtype == torch.float32
    assert np.array_equal(first.beside["layers"], batches.load(0).beside["layers"])
    assert Batches(tones, of).load(0).beside == {}
