import numpy as np
import pytest
import torch
from torch import Tensor, nn

from serving.engine import Engine
from simulation.audio import Waveform
from simulation.errors import BadAudio, CheckpointIncompatible
from training import blocks
from training.models import Enhancer, ModelConfig
from training.registry import Version


class Scaled(Enhancer):
    """Gives back its input, scaled; remembers the longest it was asked about."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(ModelConfig(kind="scaled"))
        self.gain = nn.Parameter(torch.tensor(gain))
        self.longest = 0

    def forward(self, noisy: Tensor) -> Tensor:
        self.longest = max(self.longest, noisy.shape[-1])
        return noisy * self.gain


def low_noise(samples: int, sample_rate: int, channels: int = 1) -> Waveform:
    """Noise below 3 kHz, which every sample rate here can hold."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(0, 0.05, (samples, channels)), axis=0)
    spectrum[np.fft.rfftfreq(samples, 1 / sample_rate) > 3000] = 0
    return np.fft.irfft(spectrum, samples, axis=0).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_network_that_changes_nothing_gives_back_its_input(sample_rate: int, channels: int) -> None:
    """Any sample rate and channel count: same shape, and the same sound below half of the network's sample rate."""
    noisy = low_noise(2 * sample_rate + 1, sample_rate, channels)
    enhanced = Engine(Scaled()).enhance(noisy, sample_rate)
    assert enhanced.shape == noisy.shape and enhanced.dtype == np.float32
    inner = slice(sample_rate // 10, -sample_rate // 10)
    assert np.abs(enhanced - noisy)[inner].max() < 1e-3


def test_channels_are_enhanced_each_on_its_own() -> None:
    """A silent channel stays silent beside a loud one, and their order is kept."""
    noisy = np.concatenate([low_noise(16_000, 16_000), np.zeros((16_000, 1), np.float32)], axis=1)
    enhanced = Engine(Scaled(0.5)).enhance(noisy, 16_000)
    np.testing.assert_allclose(enhanced, noisy * 0.5, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 80, 159])
@pytest.mark.parametrize("sample_rate", [8_000, 44_100])
def test_the_shortest_input_keeps_its_length(versions: tuple[Version, Version], samples: int, sample_rate: int) -> None:
    """A real network is asked about one sample, or a hundredth of a second."""
    noisy = np.full((samples, 1), 0.1, np.float32)
    enhanced = Engine.load(versions[0].address).enhance(noisy, sample_rate)
    assert enhanced.shape == noisy.shape and np.isfinite(enhanced).all()


def test_a_causal_network_hears_a_long_file_as_a_whole(versions: tuple[Version, Version]) -> None:
    """Its state goes from chunk to chunk: no block is to be found in the output."""
    engine, noisy = Engine.load(versions[0].address), low_noise(16_000 * 13 + 7, 16_000)
    with torch.inference_mode():
        whole = engine.model(torch.from_numpy(noisy.T.copy())).numpy().T
    np.testing.assert_allclose(engine.enhance(noisy, 16_000), whole, atol=1e-5)


def test_the_network_never_sees_more_than_a_block_with_its_context() -> None:
    """Memory does not grow with the length of a file."""
    model = Scaled()
    Engine(model).enhance(low_noise(8_000 * 120, 8_000), 8_000)
    longest_s = blocks.BLOCK_S + blocks.FADE_S + 2 * blocks.CONTEXT_S
    assert model.longest <= longest_s * 16_000


def test_output_is_clipped_to_full_scale() -> None:
    """A network that overshoots cannot make a file wrap around."""
    enhanced = Engine(Scaled(100.0)).enhance(low_noise(16_000, 16_000), 16_000)
    assert np.abs(enhanced).max() == 1.0


def test_a_network_that_gives_nan_is_named_as_the_culprit() -> None:
    """NaN never reaches a file or a client."""
    with pytest.raises(CheckpointIncompatible, match="NaN"):
        Engine(Scaled(float("nan"))).enhance(low_noise(16_000, 16_000), 16_000)


@pytest.mark.parametrize(
    ("gain", "sample_rate", "expected"),
    [(1e6, 16_000, "Divide"), (1.0, 10, "sample rate"), (1.0, 2**31, "sample rate")],
)
def test_what_is_no_audio_is_refused(gain: float, sample_rate: int, expected: str) -> None:
    """Samples on another scale than full scale 1, and sample rates that no recording has."""
    with pytest.raises(BadAudio, match=expected):
        Engine(Scaled()).enhance(low_noise(16_000, 16_000) * np.float32(gain), sample_rate)


@pytest.mark.parametrize(("causal", "rate", "channels"), [(True, 44_100, 2), (False, 16_000, 1), (False, 44_100, 3)])
@pytest.mark.parametrize("seconds", [0.01, 3.0, 14.3])
def test_pieces_of_a_recording_give_what_the_whole_gives(
    versions: tuple[Version, Version], causal: bool, rate: int, channels: int, seconds: float
) -> None:
    """In whatever pieces it is read, and whether by state or in blocks."""
    network = Engine.load(versions[0].address).model if causal else Scaled(0.5)
    engine, noisy = Engine(network), low_noise(round(seconds * rate), rate, channels)
    chunks = np.split(noisy, [len(noisy) // 7, len(noisy) // 3, len(noisy) // 3])
    enhanced = np.concatenate(list(engine.enhance_chunks(chunks, rate, channels)))
    np.testing.assert_allclose(enhanced, engine.enhance(noisy, rate), atol=1e-5)


def test_blocks_of_one_file_pass_together() -> None:
    """As many as fit into a batch; the answer is that of block after block."""
    engine, noisy = Engine(Scaled(0.5)), low_noise(16_000 * 60, 16_000)
    together = engine.enhance(noisy, 16_000)
    assert max(engine.batches.sizes) == 2
    engine.batches.most_s = 0.0
    np.testing.assert_allclose(together, engine.enhance(noisy, 16_000), atol=1e-6)
