"""What commands tell: how a run ended, who is champion, what a corpus holds, what exists."""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pipelines.answer import Answer, line, stacked, table
from simulation import storage
from simulation.errors import UnknownName
from simulation.home import Home

LISTED = 5
"""Lines of what was set aside that are shown on a terminal."""


def outcome(address: str) -> Answer:
    """How a run ended, from the result of its last stage: the scores, who won and why, and what to type next."""
    from components.stage import Result
    from serving.verdict import Verdict
    from training.score_table import table as score_table
    from training.scorecard import Scorecard

    outputs = Result.parse(storage.read(address), address).outputs
    scorecard = Scorecard.parse(storage.read(outputs["scorecard"]), outputs["scorecard"])
    verdict = Verdict.parse(storage.read(outputs["verdict"]), outputs["verdict"])
    report = storage.join(outputs["scorecard"].rpartition("/")[0], "report.html")
    lines = [f"Verdict: {verdict.reason}"]
    lines += [f"Warning: {warning}" for warning in verdict.warnings]
    if verdict.winner:
        others = (each for each in verdict.judgements if each.candidate != verdict.winner)
        lines += [f"         {each.candidate} {each.reason}" for each in others]
    serve = "unmuffle serve" if outputs["champion"] else "nothing yet: no version was ever promoted"
    page = str(outputs["verdict_page"])
    links = [line(f"Why:     {page.removeprefix('file://')}"), line(f"Listen:  {report.removeprefix('file://')}")]
    links.append(line(f"Serve:   {serve}"))
    data = outputs | {"report": report, "verdict": verdict.model_dump(mode="json")}
    return Answer(data, stacked(score_table(scorecard), *lines, *links))


def training_outcome(result: Any, store: str, corpus: str) -> Answer:
    """What a training run left: its version, its checkpoints, its MLflow run, and what to type next."""
    from training.tracking import without_password

    outputs, (root, _, _) = result.outputs, corpus.partition("#")
    data = outputs | {
        "checkpoints": storage.join(store, "runs", result.key),
        "tracking": without_password(Home.current().tracking_uri),
    }
    lines = (
        outputs["name"],
        outputs["version"],
        f"Checkpoints: {data['checkpoints'].removeprefix('file://')}",
        f"MLflow run:  {outputs['run_id']} at {data['tracking']}",
        f"Score it:    unmuffle evaluate {outputs['name']} --corpus {root} --out scores",
    )
    return Answer(data, stacked(*map(line, lines)))


def trials(outputs: dict[str, Any], corpus: str) -> Answer:
    """How a search ended: its trials, best first, and what to type next."""
    metric = outputs["metric"]
    names = list(outputs["trials"][0]["values"])
    rows = [
        (
            str(trial["trial"]),
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial["values"].values()),
            _figure(trial["figures"].get(metric)),
            f"{trial['state']} after step {trial['step']}{': ' * bool(trial['reason'])}{trial['reason']}",
        )
        for trial in outputs["trials"]
    ]
    address = outputs["recipe"].removeprefix("file://")
    shown = table("trials", ("trial", *names, metric.removeprefix("valid/"), ""), rows)
    return Answer(outputs, stacked(shown, line(f"Train the best: unmuffle train {address} --corpus {corpus}")))


def scores(scorecard: Any, out: str) -> Answer:
    """A scorecard as a table, and where its listening page lies."""
    from training.score_table import table as score_table

    report = storage.join(storage.normal(out), "report.html")
    data = scorecard.model_dump(mode="json") | {"report": report}
    return Answer(data, stacked(score_table(scorecard), line(f"Listen: {report.removeprefix('file://')}")))


def standing(use: str, home: Home) -> Answer:
    """Who holds which alias of a use, what its service answers with, and what happened lately."""
    from serving.audit import events
    from serving.deployer import LocalServe
    from serving.ledger import worn_out
    from serving.policy import policy_for
    from serving.service import running
    from training.registry import ALIASES, known_use
    from training.tracking import Tracking

    known_use(use)
    tracking = Tracking()
    versions = {alias: version for alias in ALIASES if (version := tracking.alias(use, alias)) is not None}
    held = {alias: version.name for alias, version in versions.items()}
    service = running(home)
    rows = [(alias, held.get(alias, "none")) for alias in ALIASES]
    rows.append(("serving now", f"{service.version} at {service.address}" if service else "nothing"))
    split, log = LocalServe(home).split(), events(home.store, use, latest=5)
    rows += [("canary", f"{split.candidate.name} answers {split.percent:g} %")] if split else []
    if cost := {tag: float(text) for tag, text in _champion_tags(versions).items() if tag.startswith("cost_")}:
        rows.append(("training the champion", _cost(cost)))
    looked, most = _looks(use, home.store)
    rows.append(("looks at the gate corpus", f"{looked}, to be replaced after {most}" if looked else "none"))
    data: dict[str, Any] = {
        "use": use,
        "aliases": held,
        "cost": cost,
        "service": service.model_dump(mode="json") if service else None,
    }
    warnings = worn_out(looked, policy_for(use).alpha, most)
    data |= {"gate_looks": looked, "most_gate_looks": most, "warnings": list(warnings)}
    data |= {"canary": split.model_dump(mode="json") if split else None}
    data |= {"audit": [event.model_dump(mode="json") for event in log]}
    told = [
        (f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event.time_s))}", event.version, event.what, event.reason)
        for event in log
    ]
    shown: list[Any] = [table("lately", ("", "version", "", "why"), told)] if told else []
    shown += [f"Warning: {warning}" for warning in warnings]
    return Answer(data, stacked(table(use, ("", "version"), rows), *shown))


def _champion_tags(versions: dict[str, Any]) -> dict[str, str]:
    return versions["champion"].tags if "champion" in versions else {}


def _looks(use: str, store: str) -> tuple[int, int]:
    """How often the pinned gate corpus of a use was looked at, and how often its policy lets it be."""
    from components.evaluate import gate_of
    from serving.ledger import looks
    from serving.policy import policy_for
    from simulation.errors import NotThere

    try:
        seen = looks(store, gate_of(None, store, use).sha256)
    except NotThere:
        seen = 0
    return seen, policy_for(use).most_looks


def corpus_facts(address: str) -> Answer:
    """Rows, hours, slices and digest of a split, or of every split below a root and of the root itself."""
    from simulation.corpus import RECORD, Corpus, open_splits, root_digest, split_addresses
    from simulation.virtual import plan_below

    address = storage.normal(address)
    if plan := plan_below(address):
        return _plan_facts(address, plan)
    places = [place for place in split_addresses(address).values() if storage.exists(storage.join(place, RECORD))]
    whole = bool(places) and not storage.exists(storage.join(address, RECORD))
    splits = [_split_facts(corpus) for corpus in (open_splits(address).values() if whole else [Corpus.open(address)])]
    digest = root_digest(address) if whole else splits[0]["digest"]
    rows = [(facts["split"], str(facts["rows"]), f"{facts['hours']:.3f}", _shares(facts["cases"])) for facts in splits]
    named = [(facts["split"], facts["digest"]) for facts in splits] + ([("corpus", digest)] if whole else [])
    digests = [line(f"{name:6} {sha256}") for name, sha256 in named]
    aside = _set_aside(address if whole else address.rpartition("/")[0])
    notes = [f"Set aside: {one['address']}: {one['reason']}" for one in aside[:LISTED]]
    if len(aside) > LISTED:
        notes.append(f"… and {len(aside) - LISTED} more source files; --json and `unmuffle corpus card` list them.")
    shown = stacked(line(address), table("", ("split", "rows", "hours", "rows a slice"), rows), *digests, *notes)
    data = {"address": address, "digest": digest, "splits": splits, "set_aside": aside}
    return Answer(data, shown)


def _set_aside(root: str) -> list[dict[str, str]]:
    """Source files that could not be used, with their reasons, as far as the corpus knows."""
    from simulation.errors import NotThere
    from simulation.provenance import kept_sources

    try:
        return [one.model_dump() for one in kept_sources(root).quarantined]
    except NotThere:
        return []


def _plan_facts(address: str, plan: Any) -> Answer:
    """What a plan says: its rows are rendered when they are read, so nothing is measured yet."""
    digests = {"plan": plan.plan_digest, "corpus": plan.corpus_digest}
    data = {"address": address, "digest": plan.corpus_digest, "plan_digest": plan.plan_digest, "rows": plan.rows}
    rows = [(split, str(count)) for split, count in plan.rows.items()]
    lines = [line(f"{name:6} {sha256}") for name, sha256 in digests.items()]
    return Answer(data, stacked(line(f"{address} (virtual)"), table("", ("split", "rows"), rows), *lines))


def _split_facts(corpus: Any) -> dict[str, Any]:
    rows = [entry.row for entry in corpus.entries]
    return {
        "split": corpus.split,
        "address": corpus.address,
        "digest": corpus.digest,
        "rows": len(rows),
        "hours": round(corpus.hours, 4),
        "cases": dict(Counter(row.case for row in rows)),
        "speakers": len({row.speaker for row in rows}),
        "quarantined": sum(len(shard.quarantined) for shard in corpus.shards),
        "libraries": corpus.record.libraries,
    }


def _shares(cases: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in cases.items())


def known_models(use: str, names: Sequence[str] = (), tell: Callable[[str], None] = lambda name: None) -> Answer:
    """The registered versions of a use, with their aliases, and the networks that exist, or these of them."""
    from training.tracking import Tracking

    tracking = Tracking()
    aliases: dict[str, list[str]] = {}
    for alias, number in tracking.aliases(use).items():
        aliases.setdefault(number, []).append(alias)
    data: list[dict[str, Any]] = [
        {
            "model": version.name,
            "use": version.use,
            "version": version.version,
            "aliases": aliases.get(version.version, []),
            "recipe": version.tags.get("recipe", ""),
            "cost": {tag: float(value) for tag, value in version.tags.items() if tag.startswith("cost_")},
            "gate": version.tags.get("gate_reason", ""),
            "address": version.address,
        }
        for version in tracking.versions(use)
    ]
    rows = [
        (str(one["model"]), ", ".join(one["aliases"]), str(one["recipe"]), _cost(one["cost"]), str(one["gate"]))
        for one in data
    ]
    networks = known_networks(names, tell)
    shown = stacked(table(use, ("model", "alias", "recipe", "cost", "gate"), rows), networks)
    return Answer({"versions": data, "networks": networks.data}, shown)


def _cost(tags: dict[str, float]) -> str:
    """What training a version took, from its tags; empty where it was not trained here."""
    if not tags:
        return ""
    gpus, wasted = tags["cost_gpu_hours"], tags["cost_wasted_core_hours"]
    parts = [f"{tags['cost_core_hours']:.3f} core-h"]
    parts += [f"{gpus:.3f} GPU-h"] if gpus else []
    parts += [f"{wasted:.3f} wasted"] if wasted else []
    return ", ".join(parts)


def known_networks(names: Sequence[str] = (), tell: Callable[[str], None] = lambda name: None) -> Answer:
    """These networks, or all, at the sizes they were published in: size and cost, theirs and ours; what was measured.

    `tell` hears the name of each that has to be counted first. Raises UnknownName.
    """
    from serving.network_costs import SECONDS, NetworkCost, known
    from training.counting import kept_facts
    from training.models.presets import PRESETS

    for name in names:
        if name not in PRESETS:
            raise UnknownName("network", name, PRESETS)
    costs, unmeasured = known(Home.current()), NetworkCost(settings="", machine="")
    folder = Home.current().path / "networks"
    data = {
        name: kept_facts(PRESETS[name], folder, partial(tell, name))
        | costs.get(name, unmeasured).model_dump(exclude={"settings"})
        for name in names or PRESETS
    }
    rows = [
        (
            name,
            f"{one['parameters']:,}",
            one["published_parameters"],
            f"{one['gmacs_per_s']:.2f}",
            _figure(one["published_gmacs_per_s"]),
            "yes" if one["causal"] else "no",
            f"{one['latency_ms']:.1f}" if one["causal"] else "",
            _figure(one["real_time_factor"]) or "-",
            "-" if one["peak_memory_mb"] is None else f"{one['peak_memory_mb']:,.0f}",
        )
        for name, one in data.items()
    ]
    columns = ("network", "parameters", "published", "GMAC/s", "published", "causal", "latency, ms", "RTF", "MB")
    notes = [
        f"GMAC per second of audio, for 1 s. RTF: processor time over duration, on one thread, for {SECONDS} s of "
        "audio. MB: the most memory of the network meanwhile. One that is not causal waits for the end of the audio."
    ]
    notes += [f"Measured on {machine}." for machine in sorted({one["machine"] for one in data.values()} - {""})]
    notes += [f"{name}: {one['reason']}." for name, one in data.items() if one["reason"]]
    if any(name not in costs for name in data):
        notes.append("-: not measured here; type `unmuffle models [NAME ...] --measure`.")
    return Answer(data, stacked(table("networks", columns, rows), *notes))


def measure_networks(names: Sequence[str], tell: Callable[[str], None]) -> None:
    """Measure these networks, or all that were not measured in this home, and tell each as it is done."""
    from serving.network_costs import measure

    for name, cost in measure(Home.current(), names):
        factor, memory = cost.real_time_factor, cost.peak_memory_mb
        tell(f"{name}: {cost.reason or f'real-time factor {factor:.2f}, {memory:,.0f} MB'}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def known_recipes() -> Answer:
    """The recipes of the cookbook."""
    from training.cookbook import RECIPES

    recipes = {name: build() for name, build in RECIPES.items()}
    rows = [
        (name, recipe.network, recipe.use, str(recipe.steps), str(recipe.batch_size), _first(RECIPES[name]))
        for name, recipe in recipes.items()
    ]
    data = {name: recipe.model_dump(mode="json") for name, recipe in recipes.items()}
    return Answer(data, table("recipes", ("recipe", "network", "use", "steps", "batch", ""), rows))


def known_scenarios() -> Answer:
    """The named scenarios: rate, slices, source; as JSON with what each deviates in and the scenario itself."""
    from simulation.scenarios import SCENARIOS, about

    scenarios = {name: build() for name, build in SCENARIOS.items()}
    rows = [
        (name, str(one.sample_rate), ", ".join(case.name for case in one.cases), _until_a_stop(about(name).source))
        for name, one in scenarios.items()
    ]
    data = {
        name: {
            "sample_rate": one.sample_rate,
            "cases": [case.name for case in one.cases],
            **about(name)._asdict(),
            "scenario": one.model_dump(mode="json"),
        }
        for name, one in scenarios.items()
    }
    return Answer(data, table("scenarios", ("scenario", "Hz", "slices", "source"), rows))


def known_metrics() -> Answer:
    """The metrics of a scorecard."""
    from training.metrics import METRICS

    rows = [
        (one.name, one.unit, "higher" if one.higher_is_better else "lower", one.definition) for one in METRICS.values()
    ]
    data = [dict(zip(("metric", "unit", "better", "definition"), row, strict=True)) for row in rows]
    return Answer(data, table("metrics", ("metric", "unit", "better", "definition"), rows))


def _until_a_stop(sentence: str) -> str:
    return re.split(r"[:;.](?: |$)", sentence)[0]


def _first(function: Any) -> str:
    """The first sentence of a docstring; of a function with some arguments given, that function's."""
    return str(getattr(function, "func", function).__doc__).strip().split("\n\n")[0].replace("\n    ", " ")
