"""Versions: weights in safetensors and, written last, the `config.json` that says what they are.

A version without its `config.json` does not exist. No pickle: any safetensors reader opens the weights.
"""

import hashlib
import io
import json
import pickle
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from simulation import storage
from simulation.errors import CheckpointIncompatible, NotThere
from simulation.schema import Schema, canonical_json, explain
from training.models import AnyModel, Enhancer

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
PACKAGES = ("unmuffle", "torch", "safetensors", "ray")
"""Whose versions a record names, where they are there."""

ABSENT = "nothing"
"""Stands for a field that one side does not have, where differences are shown."""
LONGEST_SHOWN = 80
"""Characters of a value that are shown."""


class VersionRecord(Schema):
    """What `config.json` holds."""

    format: Literal[1] = 1
    model: AnyModel
    weights_sha256: str
    packages: dict[str, str]
    facts: dict[str, Any]
    """Where the weights come from: recipe, corpus digests, seed, steps, validation figures, as far as known."""


def weights_bytes(module: nn.Module) -> bytes:
    """The state of a module as safetensors, on the CPU."""
    return tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})


def weights_digest(module: nn.Module) -> str:
    """sha256 of the weights, 64 hex characters; equal weights have equal digests."""
    return hashlib.sha256(weights_bytes(module)).hexdigest()


def save_version(model: Enhancer, address: str, facts: dict[str, Any]) -> str:
    """Write a version folder; returns the digest of its weights. See `commit_version`."""
    return commit_version(address, model.config, weights_bytes(model), facts)


def version_files(model: Any, weights: bytes, facts: dict[str, Any]) -> dict[str, bytes]:
    """The files of a version by name, in the order in which they are to be written: the record comes last."""
    digest = hashlib.sha256(weights).hexdigest()
    packages = {name: found for name in PACKAGES if (found := _installed(name))}
    record = VersionRecord(model=model, weights_sha256=digest, packages=packages, facts=facts)
    return {WEIGHTS: weights, CONFIG: canonical_json(record.model_dump(mode="json"))}


def commit_version(address: str, model: Any, weights: bytes, facts: dict[str, Any]) -> str:
    """Write weights, then `config.json`, which makes the version exist; returns the digest of the weights.

    Writing the same version again is fine; CheckpointIncompatible when other weights are already there.
    """
    address = storage.normal(address)
    digest = hashlib.sha256(weights).hexdigest()
    if storage.exists(storage.join(address, CONFIG)):
        return _must_be(digest, version_record(address), address)
    files = version_files(model, weights, facts)
    storage.replace(storage.join(address, WEIGHTS), files[WEIGHTS])
    if not storage.create(storage.join(address, CONFIG), files[CONFIG]):
        return _must_be(digest, version_record(address), address)
    return digest


def version_record(address: str) -> VersionRecord:
    """What a version is, without its weights. Raises NotThere or CheckpointIncompatible."""
    address = storage.normal(address)
    try:
        data = storage.read(storage.join(address, CONFIG))
    except NotThere:
        raise NotThere(
            f"There is no model at {address}: no {CONFIG} in it. Expected an alias (champion), a registered version "
            f"(dm/3), or the address of a folder with {CONFIG} and {WEIGHTS}; `unmuffle models` lists what exists."
        ) from None
    try:
        return VersionRecord.model_validate_json(data)
    except ValidationError as error:
        raise CheckpointIncompatible(
            f"{storage.join(address, CONFIG)} was not written by this version of unmuffle: {explain(error)}. "
            "Use the release that wrote it, or train again."
        ) from None


def load_version(address: str) -> Enhancer:
    """The network of a version, ready to enhance (eval mode, CPU).

    Raises NotThere, or CheckpointIncompatible when bytes, record and network do not belong together.
    """
    address = storage.normal(address)
    record = version_record(address)
    weights = storage.read(storage.join(address, WEIGHTS))
    _must_be(hashlib.sha256(weights).hexdigest(), record, address)
    model = record.model.build()
    load_weights(model, weights, address)
    return model.eval()


def state_from_bytes(data: bytes, where: str) -> Any:
    """What a run goes on from; no pickled object is ever made. CheckpointIncompatible where the bytes are damaged."""
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:120]
        raise CheckpointIncompatible(
            f"{where} is damaged, or no state of a training run ({reason}). Put back a copy of it, or remove it to "
            "begin again from the checkpoint before, or from nothing."
        ) from None


def load_weights(module: nn.Module, weights: bytes, where: str) -> None:
    """Put safetensors into a module; CheckpointIncompatible when names or shapes differ."""
    try:
        module.load_state_dict(tensors_from_bytes(weights), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointIncompatible(
            f"The weights at {where} do not fit {type(module).__name__}: {str(error).splitlines()[-1].strip()} "
            "They were written for another network or release; train again, or name the version that fits."
        ) from None


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, field by field, as `recipe.seed: 1 there, 2 here`."""
    if isinstance(there, dict) and isinstance(here, dict):
        fields = [*there, *(key for key in here if key not in there)]
        pairs = [(f"{name}.{key}".lstrip("."), there.get(key, ABSENT), here.get(key, ABSENT)) for key in fields]
        return [line for key, before, now in pairs for line in differences(before, now, key)]
    return [] if there == here else [f"{name}: {_shown(there)} there, {_shown(here)} here"]


def refuse_other_content(address: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """CheckpointIncompatible, with each difference, where what lies at an address comes from something else."""
    found = differences(there, here)
    if found:
        raise CheckpointIncompatible(
            f"{address} belongs to another run of this name: {'; '.join(found)}. Give this run another name, go on "
            "with what that run had, or remove its folder."
        )


def _installed(name: str) -> str | None:
    """Its version; None where it is absent, as Ray is on a bare machine."""
    try:
        return installed(name)
    except PackageNotFoundError:
        return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _must_be(digest: str, record: VersionRecord, address: str) -> str:
    if digest != record.weights_sha256:
        raise CheckpointIncompatible(
            f"The weights at {address} have the digest {digest[:12]}, its {CONFIG} says {record.weights_sha256[:12]}. "
            "The folder was changed or holds another run's weights; remove it and train again."
        )
    return digest
