"""What a frozen self-supervised (SSL) model says of every row of a corpus, for BSP-MPNet to learn from.

Whole rows are embedded, and the frames of a piece cut out afterwards: a frame of an SSL model depends on all of its
recording, so embeddings of a piece are others. All layers of WavLM base in single precision are 7.2 GB per hour of
audio (50 frames a second, 13 layers, 768 values of 4 bytes); half precision halves that, as half of the layers does.
"""

from math import ceil
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue

from training.checkpoint import weights_digest
from training.derivation import Derivation, Tensors
from training.models.bsp_mpnet.ssl import FIELD, STRIDE, Ssl, SslModel

VERSION = 1
"""Raised by hand when the numbers change."""
ROWS_PER_SHARD = 8
"""Of 5 s each, all layers of a base model make a shard of 80 MB."""
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Embeddings:
    """Makes `layers` [frames, layers, width] of a row; see `training.derivation.Maker`."""

    def __init__(self, ssl: SslModel, stored: bool, precision: str = "fp32") -> None:
        self.ssl, self.stored, self.precision = ssl.eval(), stored, precision
        self.rows = 0
        """Rows that went through the SSL model."""

    def derivation(self, corpus: str) -> Derivation:
        """Corpus, the SSL model's settings and weights, which layers, precision, version."""
        made_by: dict[str, JsonValue] = {
            "ssl": identity(self.ssl.config),
            "weights_sha256": weights_digest(self.ssl),
            "precision": self.precision,
            "version": VERSION,
        }
        return Derivation(kind="embeddings", corpus=corpus, made_by=made_by, rows_per_shard=ROWS_PER_SHARD)

    def __call__(self, mixture: Any) -> Tensors:
        """`layers` of the noisy side."""
        self.rows += 1
        device = next(self.ssl.parameters()).device
        noisy = torch.from_numpy(np.asarray(mixture.noisy, np.float32))[None].to(device)
        layers_NBSD = self.ssl(noisy)
        return {"layers": layers_NBSD[:, 0].transpose(0, 1).to(PRECISIONS[self.precision]).contiguous()}

    @staticmethod
    def cut(whole: Tensors, start: int, samples: int) -> Tensors:
        """`layers` around a piece, the last frame repeated beyond the end, and at which of their samples it begins.

        How many frames there are depends on `samples` alone.
        """
        layers_SND = whole["layers"]
        last = len(layers_SND) - 1
        first = min(max(0, (2 * start - FIELD + 1) // (2 * STRIDE)), last)
        there = torch.arange(first, first + ceil(samples / STRIDE) + 2).clamp(max=last)
        return {"layers": layers_SND[there], "start": torch.tensor(start - first * STRIDE)}

    def megabytes_per_hour(self) -> float:
        """Of all layers that are kept, in 10^6 bytes."""
        return megabytes_per_hour(self.ssl.config, self.precision)


def megabytes_per_hour(ssl: Ssl, precision: str) -> float:
    """What embeddings of an hour of audio take, in 10^6 bytes."""
    return 3600 * 16000 / STRIDE * ssl.features * ssl.width * PRECISIONS[precision].itemsize / 1e6


def identity(ssl: Ssl) -> JsonValue:
    """Settings that decide what the model says; where its weights came from does not, their digest stands beside."""
    found: JsonValue = ssl.model_dump(mode="json", exclude={"source", "sha256", "licence"})
    return found
