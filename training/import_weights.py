"""Weights that a network's authors released, as a registered version of ours.

No pickle is ever run: a file is safetensors, or what `torch.load(weights_only=True)` accepts.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor

from simulation import storage
from simulation.errors import BadSetting, CheckpointIncompatible, UnknownName
from training.checkpoint import save_version
from training.models import Enhancer, GpUnified, ModelConfig, MpSenet, ReNet
from training.models.gp_unified import Sampling
from training.name_maps import MP_SENET_2023, MP_SENET_2024, RENET, SGMSE, NameMap
from training.registry import Version, known_use
from training.tracking import Tracking

WRAPPERS = ("generator", "state_dict", "model")
"""Keys under which trainers of this line put the network's weights."""

FROZEN = ".all_modules.0.W"
"""The end of the name of NCSN++'s frozen frequencies."""

AVERAGE, AVERAGED = "ema", "shadow_params"
"""Keys of torch_ema, which SGMSE+'s trainer keeps beside the weights: an average of every parameter, in their order."""


class Inert:
    """Stands in for a class that a checkpoint only names, so that nothing of it is imported."""


NAMED_CLASSES = ("sgmse.data_module.SpecsDataModule",)
"""Classes that trainers write down among their settings."""


@dataclass(frozen=True)
class Released:
    """A network as its authors trained it, and the map from their names."""

    config: ModelConfig
    names: NameMap


RELEASED: dict[str, Released] = {
    # published code attends along the first axis, and takes angles with floors; its weights were presumably trained so
    "mp_senet_2023": Released(MpSenet.Config(edition="2023", batch_first=False), MP_SENET_2023),
    "mp_senet_2024": Released(MpSenet.Config(batch_first=False), MP_SENET_2024),
    "renet": Released(ReNet.Config(phase_floors=True), RENET),
    "renet_small": Released(ReNet.Config(magnitude_channels=32, magnitude_head=8, phase_floors=True), RENET),
    "renet_small_phase": Released(
        ReNet.Config(magnitude_channels=32, magnitude_head=8, phase_floors=True, retrieve_phase=True), RENET
    ),
    "sgmse_plus": Released(
        GpUnified.Config(predictive_decoder=False, sampling=Sampling(mode="generative", step_size="exact")), SGMSE
    ),
}


def import_weights(name: str, file: Path, use: str, store: str, tracking: Tracking) -> Version:
    """Read, rename, check, save and register; the same file again gives the version that is there.

    Raises UnknownName, BadSetting for another sample rate, CheckpointIncompatible for a file that is no such weights.
    """
    if name not in RELEASED:
        raise UnknownName("released network", name, RELEASED)
    released = RELEASED[name]
    if released.config.sample_rate != known_use(use).sample_rate:
        raise BadSetting(
            f"{name} works at {released.config.sample_rate} Hz, the use {use} at {known_use(use).sample_rate} Hz. "
            "Name a use of the network's own rate with --use."
        )
    data = _read(file)
    digest = hashlib.sha256(data).hexdigest()
    model = released.config.build().eval()
    released.names.load(model, network_weights(data, file))
    _must_be_finite(model, file)
    origin = {
        "origin": released.names.repository,
        "licence": released.names.licence,
        "file": file.name,
        "file_sha256": digest,
    }
    return _registered(model, name, origin, use, store, tracking)


def _registered(
    model: Enhancer, name: str, origin: dict[str, str], use: str, store: str, tracking: Tracking
) -> Version:
    address = storage.join(store, "imported", f"{name}-{origin['file_sha256'][:16]}")
    weights_sha256 = save_version(model, address, {"imported": name, **origin})
    key = hashlib.sha256(f"import {use} {name} {origin['file_sha256']}".encode()).hexdigest()[:16]
    run_id = tracking.run(key, f"import {name}", tags=origin)
    tags = {"recipe": f"imported {name}", "corpus_digest": "", "stage_key": key, **origin}
    version = tracking.register(use, model.config.kind, address, weights_sha256, run_id, tags)
    tracking.finish(run_id, True)
    return version


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSetting(
            f"{file} cannot be read: {error.strerror}. Give the file of weights that the authors released."
        ) from None


def _tensors(data: bytes, file: Path) -> dict[str, Any]:
    """What lies in a file: safetensors by its header, else torch's own format without code in it."""
    try:
        if file.suffix == ".safetensors":
            return tensors_from_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the protocol of a pickle that is refused anyway
            with torch.serialization.safe_globals([(Inert, name) for name in NAMED_CLASSES]):
                found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch reads other people's bytes by rules of its own, and stumbles in any way
        raise CheckpointIncompatible(
            f"{file} holds more than tensors, or is no file of weights ({type(error).__name__}). Expected safetensors "
            "(*.safetensors) or torch's own format without code in it; code in a pickle is never run. Save the state "
            "dict alone, as safetensors."
        ) from None
    return found if isinstance(found, dict) else {}


def network_weights(data: bytes, file: Path) -> dict[str, Tensor]:
    """The network's own tensors, out of whatever its trainer wrapped around them."""
    found = _tensors(data, file)
    average = found.get(AVERAGE)
    for wrapper in WRAPPERS:
        if isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if isinstance(average, dict) and AVERAGED in average:
        found = _averaged(found, average[AVERAGED], file)
    tensors = {str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointIncompatible(
            f"{file} holds no tensors by name, only {', '.join(map(str, list(found)[:5])) or 'nothing'}. Expected a "
            f"state dict, by itself or under one of {', '.join(WRAPPERS)}."
        )
    return tensors


def _averaged(found: dict[str, Any], averages: Any, file: Path) -> dict[str, Any]:
    """The weights with their averages in their places, by order; older trainers left frozen ones out of the list."""
    for names in (list(found), [name for name in found if not name.endswith(FROZEN)]):
        if len(names) == len(averages):
            return {**found, **dict(zip(names, averages, strict=True))}
    raise CheckpointIncompatible(
        f"{file} holds {len(averages)} averages for {len(found)} weights, so it cannot be said whose they are. "
        "Save the averaged weights by their names, as safetensors."
    )


def _must_be_finite(model: Enhancer, file: Path) -> None:
    bad = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointIncompatible(
            f"{file} has values that are not finite in {', '.join(bad[:3])}. Download it again, or ask its authors."
        )
