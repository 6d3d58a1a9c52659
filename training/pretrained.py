"""Released weights of a self-supervised (SSL) speech model, as what a BSP-MPNet begins with.

A release is a folder as transformers saves one: `config.json`, the weights, and `preprocessor_config.json`, which says
whether audio is normalised. It is read from a folder of this machine, from the store, or from the hub, of which a copy
that is there already is taken without asking the network.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from simulation import storage
from simulation.errors import CheckpointIncompatible, NotThere
from training.checkpoint import save_version
from training.models import BspMpnet
from training.models.bsp_mpnet.ssl import FIXED, Ssl, SslModel

SETTINGS, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order in which they are looked for."""
KINDS = {"wavlm": "wavlm", "data2vec-audio": "data2vec"}
"""Ours, by transformers' `model_type`."""


def begin(model: BspMpnet.Config, source: str, address: str, licence: str, sha256: str | None = None) -> BspMpnet:
    """Write the version at `address` that a recipe names in `begins_with`: fresh weights around released ones.

    Its settings, and so those of whatever is trained from it, say the source, the digest of the file of weights and the
    licence that was stated. Take them into the recipe: `recipe.model_copy(update={"model": begun.config, ...})`.

    Raises NotThere, or CheckpointIncompatible for another digest than `sha256`, or a model of another kind.
    """
    with release(source) as folder:
        ssl = described(folder, source, licence)
        if sha256 not in (None, ssl.sha256):
            raise CheckpointIncompatible(
                f"The weights of {source} have the digest {ssl.sha256}, expected {sha256}. Name the release whose "
                "digest that is, or give the new one after looking at what changed."
            )
        begun = model.model_copy(update={"ssl": ssl}).build().eval()
        assert isinstance(begun.ssl, SslModel)
        released = type(begun.ssl.network).from_pretrained(folder, local_files_only=True, **FIXED)
        begun.ssl.network.load_state_dict(released.state_dict())
    save_version(begun, address, {"ssl": {"source": source, "sha256": ssl.sha256, "licence": licence}})
    return begun


def described(folder: Path, source: str, licence: str) -> Ssl:
    """The settings of a release."""
    settings = _json(folder, SETTINGS)
    kind = KINDS.get(settings.get("model_type", ""))
    if kind is None:
        raise CheckpointIncompatible(
            f"{source} is a model of the type {settings.get('model_type')!r}. Expected one of {', '.join(KINDS)}, such "
            "as microsoft/wavlm-base-plus or facebook/data2vec-audio-base."
        )
    architecture = {
        key: value for key, value in settings.items() if key not in ("architectures", "dtype", "torch_dtype")
    }
    return Ssl.model_validate(
        {
            "kind": kind,
            "width": settings["hidden_size"],
            "layers": settings["num_hidden_layers"],
            "architecture": architecture,
            "normalise": bool(_json(folder, PREPROCESSOR)["do_normalize"]),
            "source": source,
            "sha256": hashlib.sha256(_weights(folder, source).read_bytes()).hexdigest(),
            "licence": licence,
        }
    )


@contextmanager
def release(source: str) -> Iterator[Path]:
    """The folder of a release, for as long as it is read: a local one, an address of the store, or a hub's name."""
    if Path(source).is_dir():
        yield Path(source)
    elif "://" in source:
        with TemporaryDirectory() as folder:
            yield storage.local_copy(storage.normal(source), Path(folder))
    else:
        yield _from_hub(source)


def _from_hub(name: str) -> Path:
    """The hub's copy on this machine; downloaded where there is none and the network lets us."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted: dict[str, Any] = {"allow_patterns": [SETTINGS, PREPROCESSOR, *WEIGHTS]}
    try:
        try:
            return Path(snapshot_download(name, local_files_only=True, **wanted))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(name, **wanted))
    except Exception as error:  # the hub's client has dozens of ways to say that it got nothing
        raise NotThere(
            f"There is no folder {name} here, and the hub gave none of that name ({type(error).__name__}). Expected a "
            f"folder or an address of the store with {SETTINGS}, {PREPROCESSOR} and {WEIGHTS[0]}, or a name on the "
            "hub; without network, download it elsewhere and give the folder."
        ) from None


def _weights(folder: Path, source: str) -> Path:
    for name in WEIGHTS:
        if (folder / name).exists():
            return folder / name
    raise NotThere(f"{source} has no weights; expected {' or '.join(WEIGHTS)} beside its {SETTINGS}.")


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise NotThere(
            f"{folder / name} cannot be read ({type(error).__name__}); expected a folder as transformers saves one, "
            f"with {SETTINGS}, {PREPROCESSOR} and {WEIGHTS[0]}."
        ) from None
    return dict(found)
