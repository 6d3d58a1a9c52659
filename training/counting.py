"""What a network costs before it runs: parameters, and multiply-accumulates for a second of audio.

The rule: every matrix product, convolution and attention counts one multiply-accumulate (MAC) for each product that it
adds up; a complex convolution is four real ones; attention counts both of its products, 2 H L^2 d. Recurrent layers
count as the products they make. Norms, gates, activations and the transform between waveform and spectrum count
nothing: papers differ in how they count those, by 1 to 3 % in networks like these.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from simulation import storage
from simulation.schema import canonical_json
from training import models
from training.models import Enhancer, ModelConfig
from training.models.presets import Preset


def parameters(model: nn.Module) -> int:
    """Numbers that are learnt; a tensor with two places counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def gmacs_per_second(config: ModelConfig, seconds: int = 1) -> float:
    """Thousand millions of MACs for each second of an utterance of `seconds`, which attention grows with.

    Shapes run through the network, no numbers: it takes no memory and little time.
    """
    with torch.device("meta"):
        model: Enhancer = config.build()
    return _gmacs_per_second(model, seconds)


def _gmacs_per_second(model: Enhancer, seconds: int) -> float:
    model, heard = model.eval(), torch.zeros(1, seconds * model.sample_rate, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _Shortcuts(), counter:
        model(heard)
    operations_per_mac = 2
    return float(counter.get_total_flops()) / operations_per_mac / 1e9 / seconds


def facts(preset: Preset) -> dict[str, Any]:
    """What there is to say about a network before it runs."""
    with torch.device("meta"):
        model = preset.config.build()
    return {
        "parameters": parameters(model),
        "published_parameters": preset.published_parameters,
        "gmacs_per_s": round(_gmacs_per_second(model, 1), 3),
        "published_gmacs_per_s": preset.published_gmacs,
        "causal": model.causal,
        "latency_ms": 1000 * model.latency_samples / model.sample_rate if model.causal else None,
        "source": preset.source,
    }


def kept_facts(preset: Preset, folder: Path, counting: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """`facts`, counted once and kept in this folder until the code or the settings change; that takes a second each.

    `counting` is called before something is counted.
    """
    asked = hashlib.sha256(repr(preset).encode() + _code()).hexdigest()
    address = storage.join(storage.normal(str(folder)), f"{asked[:16]}.json")
    if storage.exists(address):
        return dict(json.loads(storage.read(address)))
    counting()
    found = facts(preset)
    storage.replace(address, canonical_json(found))
    return found


@cache
def _code() -> bytes:
    """Digest of what the counts follow from: the networks, this file, and torch's version."""
    files = [Path(__file__), *sorted(Path(models.__path__[0]).rglob("*.py"))]
    content = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(content + torch.__version__.encode()).digest()


class _Shortcuts(TorchFunctionMode):
    """Two operations that tensors without numbers cannot do, or do slowly, by something of the same shape and cost."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.istft:  # looks at the values of its window
            return args[0].real.new_zeros(args[0].shape[0], kwargs["length"])
        if func is torch.gru:  # goes from place to place, thousands of small products
            return _recurrent(*args)
        return func(*args, **kwargs)


def _recurrent(x: Tensor, hidden: Tensor, weights: list[Tensor], *settings: Any) -> tuple[Tensor, Tensor]:
    """Every weight of a recurrent layer times every place, at once; the shapes that the layer gives."""
    _, _, _, _, both_ways, _ = settings
    matrices = [weight for weight in weights if weight.ndim == 2]
    for weight in matrices:
        functional.linear(x.new_zeros(x[..., 0].numel(), weight.shape[1]), weight)
    return x.new_zeros(*x.shape[:-1], hidden.shape[-1] * (2 if both_ways else 1)), hidden
