"""Logged models: what MLflow shows of a version beside its tags.

Each holds an `MLmodel` file with the signature and, as its only flavour, `unmuffle`: where the weights lie, as
safetensors, and their sha256. The model card lies beside it. There is no python-function flavour, so nothing of ours in
MLflow is a pickle, and the weights are not copied: they stay where serving reads them.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.tracking.runs import Runs

FLAVOUR = "unmuffle"
CARD = "README.md"
LONGEST = 5000
"""Characters that MLflow keeps as the description of a version."""


class LoggedModels(Runs):
    """The models that runs leave."""

    def _logged_model(
        self,
        run_id: str,
        name: str,
        tags: dict[str, str],
        sample_rate: int,
        card: str,
        figures: Mapping[str, float],
    ) -> Any:
        """The logged model of a stage key, found or made; made in full before it says that it is ready."""
        key = tags["stage_key"]
        found = self._client.search_logged_models([self._experiment], filter_string=f"tags.stage_key = '{key}'")
        if found:
            model = found[0]
        else:
            lasting = {tag: value for tag, value in tags.items() if tag != "number"}  # which may yet change
            model = self._client.create_logged_model(
                self._experiment, name=name, source_run_id=run_id, tags=lasting, model_type="enhancer"
            )
        if str(model.status) == "READY":
            return model
        with tempfile.TemporaryDirectory() as folder:
            _description(model, run_id, tags, sample_rate).save(str(Path(folder, "MLmodel")))
            Path(folder, CARD).write_text(card)
            self._client.log_model_artifacts(model.model_id, folder)
        for figure, value in figures.items():  # at the model's own time: said twice, MLflow keeps it once
            moment = {"timestamp": model.creation_timestamp, "step": 0, "model_id": model.model_id}
            self._client.log_metric(run_id, f"released/{figure}", value, **moment)
        return self._client.finalize_logged_model(model.model_id, "READY")


def shortened(card: str, most: int = LONGEST) -> str:
    """A card that fits into a description: whole lines from its start, and where the rest is."""
    if len(card) <= most:
        return card
    rest = f"\n\n(The whole card is {CARD} among the model's files.)\n"
    return card[: card.rindex("\n", 0, most - len(rest))] + rest


def _description(model: Any, run_id: str, tags: dict[str, str], sample_rate: int) -> Any:
    """What the file `MLmodel` says."""
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    def audio(name: str) -> Schema:
        return Schema([TensorSpec(np.dtype("float32"), (-1, -1), name)])

    facts = {name: tags[name] for name in ("use", "network", "address", "weights_sha256")}
    return Model(
        artifact_path=model.artifact_location,
        run_id=run_id,
        model_id=model.model_id,
        flavors={FLAVOUR: {**facts, "weights": "weights.safetensors", "sample_rate": sample_rate}},
        signature=ModelSignature(inputs=audio("noisy"), outputs=audio("enhanced")),
    )
