"""The step that builds a scenario's corpora."""

from typing import TYPE_CHECKING, Any

from components.compute import Compute, launch, progress
from components.specs import Input, SimulateSpec, is_address
from components.stage import Stage
from simulation import storage
from simulation.scenario import Scenario
from simulation.scenarios import SCENARIOS
from simulation.scenarios import scenario as by_name
from simulation.sources import located

if TYPE_CHECKING:
    from training.tracking import Tracking


def chosen(
    name: str, *, hours: float = 0.0, seed: int = 0, speech: str = "", noise: str = "", rirs: str = ""
) -> Scenario:
    """A named scenario, or one that lies as JSON at an address, with what a person changed about it.

    `hours` of training audio and the seed (0 keeps the scenario's own), and addresses of other sources. Sources leave
    here as full addresses: a stage may run in another folder.
    """
    if name in SCENARIOS or not is_address(name):
        scenario = by_name(name)
    else:
        scenario = Scenario.parse(storage.read(storage.normal(name)), name)
    places = {"speech": speech or scenario.speech, "noise": noise or scenario.noise, "rirs": rirs or scenario.rirs}
    changes: dict[str, Any] = {"seed": seed or scenario.seed}
    changes |= {kind: located(place) for kind, place in places.items()}
    size = scenario.size.model_dump() | ({"train_hours": hours} if hours else {})
    return Scenario.parse(scenario.model_dump(mode="json") | changes | {"size": size}, f"scenario {name}")


def imported(folder: str, *, name: str = "", sample_rate: int = 0) -> Scenario:
    """The scenario of recorded pairs: a folder or bucket prefix with clean/ and noisy/, every pair a row.

    `sample_rate` in Hz, by default what most pairs have; the name is the folder's, by default.
    """
    from simulation.scenario import Case, Size
    from simulation.sources.pairing import commonest_rate, folder_name, pairs_at
    from simulation.sources.scanning import scan_pairs

    address = storage.normal(folder)
    rate = sample_rate or commonest_rate(pairs_at(address, lowest_rate=0)[0])
    clean = [one for one in scan_pairs(address, lowest_rate=rate).recordings if one.kind == "speech"]
    rows = {split: [one for one in clean if one.split == split] for split in ("train", "valid", "test")}
    return Scenario(
        name=name or folder_name(address),
        sample_rate=rate,
        pairs=address,
        cases=(Case(name="pairs", degradations=()),),
        size=Size(
            train_hours=max(round(sum(one.seconds for one in rows["train"]) / 3600, 6), 1e-6),
            valid_rows=max(len(rows["valid"]), 1),
            test_rows=max(len(rows["test"]), 1),
        ),
    )


def spec_of(scenario: Scenario, parent: str = "", virtual: bool = False) -> SimulateSpec:
    """The spec for this scenario over its sources as they are now (they are scanned to know their digest)."""
    from simulation.render import RENDER_VERSION
    from simulation.sources import scan_for

    sources = scan_for(scenario)
    return SimulateSpec(
        scenario=scenario,
        sources_digest=sources.digest(),
        render_version=RENDER_VERSION,
        virtual=virtual,
        parent=parent,
    )


def simulated(scenario: Scenario, store: str, parent: str = "", virtual: bool = False) -> Input:
    """Build the corpora of a scenario, or commit their plan alone, or answer from the result; returns their root."""
    return Input.of(launch(spec_of(scenario, parent, virtual), store).outputs["corpus"])


def run(spec: SimulateSpec, stage: Stage) -> dict[str, Any]:
    """The stage: build, record in MLflow, answer with addresses and digests."""
    from components.record import recorded
    from simulation.build import build
    from simulation.card import card
    from simulation.cluster import cluster
    from training.tracking import Tracking

    name = spec.scenario.name
    tracking = Tracking()
    if spec.virtual:
        return _planned(spec, stage, tracking)
    with cluster(), recorded(tracking, stage, f"simulate {name}", spec.parent) as run_id:
        tracking.params(run_id, spec.scenario.model_dump(mode="json"))
        built = build(
            spec.scenario,
            stage.store,
            sources_digest=spec.sources_digest,
            workers=Compute.current().workers,
            progress=progress(f"simulate {name}"),
        )
        tracking.dataset(run_id, built.address, built.digest, "simulated")
        measured = card(built.address, built.digest)
        tracking.artifact(run_id, measured.page, "card.html")
        tracking.artifact(run_id, measured.facts.canonical(), "card.json")
    return {"corpus": str(Input(address=built.address, sha256=built.digest)), "run_id": run_id}


def _planned(spec: SimulateSpec, stage: Stage, tracking: "Tracking") -> dict[str, Any]:
    """The same without rendering: needs no Ray."""
    from components.record import recorded
    from simulation.virtual import commit_plan

    with recorded(tracking, stage, f"plan {spec.scenario.name}", spec.parent) as run_id:
        tracking.params(run_id, spec.scenario.model_dump(mode="json"))
        plan = commit_plan(spec.scenario, stage.store, sources_digest=spec.sources_digest)
        tracking.tag(run_id, {"plan_digest": plan.plan_digest})
        tracking.dataset(run_id, plan.address, plan.digest, "planned")
    return {"corpus": str(Input(address=plan.address, sha256=plan.digest)), "run_id": run_id}
