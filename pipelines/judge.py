"""Single steps a person takes by hand: score models, gate versions, go back, enhance files."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.compute import Compute, progress
from components.evaluate import gate_of, pinned, recurrent_baseline, scored
from components.promote import decided
from components.record import version_at
from components.specs import Input, is_address
from serving.policy import policy_for
from simulation import storage
from simulation.cluster import cluster
from simulation.errors import BadSetting, NotThere
from simulation.home import Home
from training.tracking import Tracking

if TYPE_CHECKING:
    from serving.enhance import Enhanced

WAYS: dict[str, type[int] | type[float]] = {"steps": int, "alphas": float, "betas": float}
"""Lists of `unmuffle sweep`, and what is in them."""


def score(
    models: Sequence[str], corpus: str, pairs: str, out: str, use: str, metrics: Sequence[str] = (), harmless: int = 0
) -> Any:
    """Score models on the test split of a corpus, or on pairs; returns the scorecard.

    The recurrent baseline is scored with them where the use has one; where the champion is one of them, the page
    compares with it. No metrics named: the standard ones.
    """
    from simulation.virtual import open_corpus
    from training.evaluate import evaluate
    from training.metrics import STANDARD
    from training.pairs import Pairs
    from training.score_cache import FOLDER

    readable = Pairs.open(pairs) if pairs else open_corpus(_test_split(corpus))
    tracking = Tracking()
    addresses = [tracking.resolve(model, use).address for model in models]
    baseline = recurrent_baseline(tracking, use, addresses)
    addresses += [baseline.address] if baseline else []
    systems = {version_at(tracking, use, address).name: address for address in addresses}
    champion = tracking.alias(use, "champion")
    out = storage.normal(out)
    storage.honours_conditional_writes(out)  # a place that takes no writes is known before anything is scored
    with cluster():
        return evaluate(
            systems,
            readable,
            out,
            champion=champion.name if champion and champion.address in addresses else None,
            metrics=metrics or STANDARD,
            harmless=harmless,
            workers=Compute.current().workers,
            cache=storage.join(Home.current().store, FOLDER),
            progress=progress("evaluate"),
        )


def gate(models: Sequence[str], gate_corpus: str, use: str, store: str, policy: str = "", canary: str = "") -> str:
    """Score registered versions beside the champion, and promote the winner, if there is one; returns the address
    of the result. `policy` is a name or a file; empty takes the use's own. `canary` lets the winner in by steps."""
    policy_for(use, policy)  # one that does not exist is known before anything is scored
    rules = _canary_rules(canary) if canary else None
    tracking = Tracking()
    versions = [tracking.resolve(model, use) for model in models]
    unregistered = [version.address for version in versions if not version.version]
    if unregistered:
        raise BadSetting(
            f"{', '.join(unregistered)} is not registered, so it cannot become champion. "
            "Name registered versions, such as dm/3; `unmuffle models` lists them."
        )
    candidates = tuple(Input(address=version.address, sha256=version.weights_sha256) for version in versions)
    corpus = gate_asked(gate_corpus, use, store)
    with cluster():
        scorecard = scored(candidates, corpus, use, store, policy=policy)
        return decided(scorecard, candidates, use, store, policy=policy, canary=rules)


def _canary_rules(asked: str) -> dict[str, Any]:
    """The rules behind `5,25,100` or a JSON file; BadSetting where no service of this home meets any requests."""
    from serving.canary import Rules
    from serving.deployer import running

    home = Home.current()
    rules = Rules.parse(storage.read(storage.normal(asked)), asked) if is_address(asked) else Rules.of(asked)
    if running(home) is None:
        raise BadSetting(
            f"A canary needs live requests, and no service runs for {home.path}. Start one in another terminal "
            "(unmuffle serve), or promote without --canary."
        )
    return rules.model_dump(mode="json")


def roll_back(use: str, store: str) -> Any:
    """Make the previous champion champion again; returns what was done."""
    from serving.deployer import LocalServe
    from serving.promotion import rollback

    with cluster():
        return rollback(Tracking(), LocalServe(Home.current()), store, use)


def gate_asked(asked: str, use: str, store: str) -> Input:
    """The gate corpus that was asked for, else the pinned one; there is no corpus here to pin a new one from."""
    if asked:
        return Input.of(pinned(asked))
    try:
        return gate_of(None, store, use)
    except NotThere:
        raise NotThere(
            f"No gate corpus is pinned for {use} in {store}. `unmuffle run` pins one; or give --gate-corpus "
            "<address>#<digest> of a test split, as `unmuffle corpus show --json` prints them."
        ) from None


def _test_split(address: str) -> str:
    """The split itself, or the test split of a corpus's root."""
    from simulation.corpus import RECORD
    from simulation.sources import SPLITS

    address, inside = storage.normal(address), storage.join(storage.normal(address), "test")
    if storage.exists(storage.join(address, RECORD)):
        return address
    named = address.rpartition("/")[2] in SPLITS  # of a plan, which has no record in its splits
    return address if named and not storage.exists(storage.join(inside, RECORD)) else inside


def enhance_by(service: str, inputs: Sequence[Path], out: Path) -> "Enhanced":
    """Let a running service enhance files; says what became of each."""
    from serving.client import Client, Remote
    from serving.enhance import enhance_files

    with Client(service, os.environ.get("UNMUFFLE_KEY", "")) as client:
        client.models()
        return enhance_files(inputs, out, Remote(client), progress=progress("enhance"))


def swept(
    model: str, use: str, corpus: str, pairs: str, out: Path, lists: Mapping[str, str], rows: int, case: str
) -> Any:
    """A diffusion network asked in every way of `lists` (steps, alphas, betas; metrics), as a table; and on disk."""
    from simulation.virtual import open_corpus
    from training.diffusion_sweep import recorded, settings
    from training.pairs import Pairs

    points = settings(*(_numbers(name, lists[name], kind) for name, kind in WAYS.items()))
    metrics = [name.strip() for name in lists["metrics"].split(",")]
    test = Pairs.open(pairs) if pairs else open_corpus(_test_split(corpus))
    address = Tracking().resolve(model, use).address
    return recorded(address, test, out, list(points), metrics, rows, case, progress("sweep"))


def _numbers(name: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    try:
        return [kind(each) for each in text.split(",")]
    except ValueError:
        raise BadSetting(f"--{name} {text!r} is no list of numbers; expected such as 5,10,15.") from None


def enhance_with(
    model: str,
    use: str,
    inputs: Sequence[Path],
    out: Path,
    contrast: bool = False,
    options: Sequence[str] = (),
) -> "Enhanced":
    """Enhance files with a model, and stretch their contrast where that is asked for; says what became of each.

    `options` are settings that the network may be asked with, each as `name=value`.
    """
    from serving.contrasted import Contrasted
    from serving.engine import Engine
    from serving.enhance import enhance_files

    version = Tracking().resolve(model, use)
    engine = (Contrasted if contrast else Engine).load(version.address)
    engine.model.choose(dict(map(_chosen, options)))
    return enhance_files(inputs, out, engine, progress=progress("enhance"))


def _chosen(option: str) -> tuple[str, Any]:
    """A name and what JSON makes of its value; what is no JSON is text."""
    name, equals, value = option.partition("=")
    if not equals:
        raise BadSetting(f"The option {option!r} has no value; expected name=value, such as steps=10.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
