"""What a run sounds like while it trains: a few fixed rows of the valid split, as sound and as a picture, each time
that it validates.

They lie below the run in the store, where whoever validates puts them; the driver carries them into MLflow with the row
of their step, hence once its checkpoint is committed.

    <run>/samples/inputs/<row>-noisy.wav, <row>-clean.wav       the same at every step
    <run>/samples/step-<step>/<row>-enhanced.wav, <row>.png     the output; noisy, enhanced and clean as spectrograms
    <run>/samples/step-<step>/<row>-<what>.png                  what networks show of their inside (`Enhancer.pictures`)
"""

import io
import logging
from collections.abc import Iterable
from itertools import islice

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure

from simulation import audio, storage
from simulation.embedded import RANGE_DB, levels_db
from simulation.errors import StorageError
from training.batches import Batch
from training.models import Enhancer

log = logging.getLogger(__name__)

ROWS = 2
"""The first ones of the valid split."""
EXCERPT_S = 4.0
"""Longer rows are heard from the start up to here."""
INPUTS = "inputs"
TRACKS = ("noisy", "enhanced", "clean")

Files = dict[str, bytes]
"""Content by name, which may hold a folder."""


@torch.no_grad()
def samples(model: Enhancer, valid: Iterable[Batch], step: int) -> Files:
    """The files of one step, of the first rows of the valid split (one a batch); the model's mode stays as it was."""
    training, device = model.training, next(model.parameters()).device
    files: Files = {}
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"):
        torch.manual_seed(0)
        for batch in islice(valid, ROWS):
            heard = round(EXCERPT_S * model.sample_rate)
            noisy, clean = batch.noisy[:1, :heard], batch.clean[:1, :heard]
            with model.told({name: each[:1].to(device) for name, each in batch.beside.items()}):
                enhanced = model(noisy.to(device)).cpu()
                inside = model.pictures(noisy.to(device))
            tracks = {name: each[0].numpy() for name, each in zip(TRACKS, (noisy, enhanced, clean), strict=True)}
            files |= _files(batch.ids[0], tracks, model.sample_rate, step)
            files |= {f"{_folder(step)}/{batch.ids[0]}-{name}.png": png for name, png in inside.items()}
    model.train(training)
    return files


def keep_samples(run: str, model: Enhancer, valid: Iterable[Batch], step: int) -> None:
    """Put the files of this step below the run's address; a store that does not take them costs no training."""
    try:
        for name, content in samples(model, valid, step).items():
            storage.replace(storage.join(run, "samples", name), content)
    except StorageError as problem:
        log.warning("samples of step %d are not kept: %s", step, problem)


def kept_samples(run: str, step: int) -> dict[str, str]:
    """name -> address of what was kept for this step, and of what went in."""
    below = storage.join(run, "samples")
    folders = (storage.join(below, INPUTS), storage.join(below, _folder(step)))
    found = [stored.address for folder in folders for stored in storage.listing(folder)]
    return {address.removeprefix(below + "/"): address for address in found}


def _folder(step: int) -> str:
    return f"step-{step:08d}"


def _files(row: str, tracks: dict[str, np.ndarray], sample_rate: int, step: int) -> Files:
    return {
        f"{INPUTS}/{row}-noisy.wav": _sound(tracks["noisy"], sample_rate),
        f"{INPUTS}/{row}-clean.wav": _sound(tracks["clean"], sample_rate),
        f"{_folder(step)}/{row}-enhanced.wav": _sound(tracks["enhanced"], sample_rate),
        f"{_folder(step)}/{row}.png": _picture(f"{row}, step {step}", tracks, sample_rate),
    }


def _sound(waveform: np.ndarray, sample_rate: int) -> bytes:
    """WAV of 16 bit: what every browser plays from anywhere in it."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.quantise(waveform, 16), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _picture(title: str, tracks: dict[str, np.ndarray], sample_rate: int) -> bytes:
    """A PNG: the spectrograms above one another on one scale, whose top is the loudest point of noisy and clean."""
    levels = {name: levels_db(each, sample_rate) for name, each in tracks.items()}
    top_db = max(levels["noisy"].max(), levels["clean"].max())
    figure = Figure(figsize=(6, 6), dpi=80, layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes, (name, each) in zip(figure.subplots(len(tracks), sharex=True), levels.items(), strict=True):
        extent = (0, len(tracks[name]) / sample_rate, 0, sample_rate / 2000)
        options = {"vmin": top_db - RANGE_DB, "vmax": top_db, "cmap": "magma", "origin": "lower", "aspect": "auto"}
        axes.imshow(each, extent=extent, **options)
        axes.set_ylabel(f"{name}, kHz")
    axes.set_xlabel("s")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
