"""The whole pipeline as it runs on a cluster, but for Kubernetes: MLflow on PostgreSQL, files in S3, two Ray nodes."""

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil
import pytest

from pipelines.trace import trace
from simulation import storage
from simulation.corpus import verify
from simulation.virtual import corpus_digest
from tests import stack
from tests.tiny_pipeline import ANYBODY, USE, recipe, scenario, unmuffle, written
from training.checkpoint import version_record
from training.ledger import accounts
from training.tracking import Tracking

pytestmark = pytest.mark.long

REQUIRED = os.environ.get("UNMUFFLE_TEST_STACK")
"""Set by `make test-stack`; what is missing is then no reason to skip, but a fault."""
STORE = f"s3://{stack.BUCKET}/store"
COMPUTE = {"workers": 1, "training": {"workers": 2, "cpus_per_worker": stack.CPUS}}
"""A worker of the training takes a node for itself."""


class Ran(NamedTuple):
    """One run of the pipeline, and where it ran."""

    stack: stack.Stack
    outcome: dict[str, Any]


@pytest.fixture(scope="module")
def ran() -> Iterator[Ran]:
    """`unmuffle run` on all of it, once; its end is the end of everything that was started."""
    if not REQUIRED:
        pytest.skip("takes minutes and PostgreSQL's server: make test-stack")
    if reason := stack.missing():
        pytest.fail(reason)
    before = set(psutil.Process().children(recursive=True))
    with stack.running() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        patch.setenv("UNMUFFLE_HOME", str(running.folder / "home"))
        patch.setenv("UNMUFFLE_COMPUTE", json.dumps(COMPUTE))
        asked = written(f"s3://{stack.BUCKET}/asked", dozen=scenario(), gru=recipe("gru_smoke"), anybody=ANYBODY)
        words = ["--scenario", asked["dozen"], "--recipes", asked["gru"], "--policy", asked["anybody"]]
        yield Ran(running, unmuffle(running.folder, "run", *words, "--store", STORE))
    assert not running.folder.exists()
    assert set(psutil.Process().children(recursive=True)) <= before


def rows(running: stack.Stack, query: str) -> list[tuple[Any, ...]]:
    """What PostgreSQL itself answers."""
    import psycopg2

    with psycopg2.connect(running.database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def test_every_stage_is_a_finished_run_in_postgresql(ran: Ran) -> None:
    """The run of the pipeline and its four stages, asked for where MLflow keeps them."""
    found = rows(ran.stack, "SELECT name, status FROM runs")
    whole = f"retrain s3://{stack.BUCKET}/asked/dozen.json"
    assert sorted(found) == sorted(
        (name, "FINISHED") for name in (whole, "simulate dozen", "train gru_smoke", "evaluate", "promote")
    )


def test_figures_of_the_training_are_in_postgresql(ran: Ran) -> None:
    """Of both steps, each once, though two workers took part."""
    assert rows(ran.stack, "SELECT step FROM metrics WHERE key = 'train/loss' ORDER BY step") == [(1,), (2,)]


def test_a_worker_of_each_node_trained(ran: Ran) -> None:
    """The cost ledger has two accounts, each of all the cores that a node has."""
    (version,) = Tracking().versions(USE)
    found = accounts(storage.join(STORE, "runs", version.tags["stage_key"]))
    assert [account.cores for account in found] == [stack.CPUS] * len(ran.stack.nodes)


def test_what_the_registry_calls_champion_lies_in_the_bucket(ran: Ran) -> None:
    """The alias leads to the version that won, and that to weights with its digest."""
    assert rows(ran.stack, "SELECT name, alias, version FROM registered_model_aliases") == [(USE, "champion", 1)]
    champion = Tracking().alias(USE, "champion")
    assert champion is not None and champion.name == ran.outcome["verdict"]["winner"]
    assert champion.address.startswith(f"{STORE}/")
    assert version_record(champion.address).weights_sha256 == champion.weights_sha256


def test_the_champion_leads_to_a_whole_corpus_in_the_bucket(ran: Ran) -> None:
    """From the version to its corpus, of which every byte is there, and to the licences behind it."""
    found = trace("champion", Tracking())
    assert found.corpus.startswith(f"{STORE}/corpora/dozen@")
    assert corpus_digest(found.corpus) == found.corpus_digest
    assert verify(found.corpus) == []
    assert {source.kind for source in found.sources} >= {"speech", "noise"}


def test_files_of_runs_lie_in_the_bucket_too(ran: Ran) -> None:
    """MLflow's server puts them there: the card of the corpus, the listening page, the verdict."""
    names = {one.address.rpartition("/")[2] for one in storage.listing(f"s3://{stack.BUCKET}/mlflow")}
    assert names >= {"card.html", "report.html", "verdict.json"}


def test_nothing_lasting_lies_on_the_machine_that_asked(ran: Ran) -> None:
    """Its home holds what tasks said; corpora, weights, runs and versions are on the servers."""
    files = [file for file in (ran.stack.folder / "home").rglob("*") if file.is_file()]
    assert any(file.name == "pipeline.log" for file in files)
    assert not {file.suffix for file in files} & {".db", ".tar", ".safetensors", ".parquet"}
