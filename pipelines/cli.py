"""The command `unmuffle`. Importing this file is quick: each command imports what it needs when it runs."""

import json
import logging
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from simulation.errors import BadSetting, UnmuffleError


class Answering(TyperGroup):
    """A command group that ends a person's mistake with one paragraph and exit code 2, Ctrl-C with one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; UnmuffleError becomes its message."""
        try:
            return super().invoke(ctx)
        except UnmuffleError as error:
            from rich.console import Console

            Console(stderr=True, highlight=False).print(f"[bold red]Error:[/] {_escaped(str(error))}", soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _say("Interrupted. What was finished is kept: type the same command again to go on.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="unmuffle",
    cls=Answering,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retrain speech restoration: simulate, train, evaluate, gate, promote, serve.",
)
corpus_app = typer.Typer(no_args_is_help=True, help="Look at a corpus, or clean up behind it.")
pipeline_app = typer.Typer(no_args_is_help=True, help="The pipeline on a Kubeflow cluster.")
app.add_typer(corpus_app, name="corpus")
app.add_typer(pipeline_app, name="pipeline")

RECIPES = "dm_smoke,gru_smoke"
PORT = 8000
INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON, for machines.")]
StoreOption = Annotated[str, typer.Option("--store", help="A folder or s3://bucket/prefix. Default: the home's store.")]
UseOption = Annotated[str, typer.Option("--use", help="What the model is for; each use has one champion.")]
PolicyOption = Annotated[
    str, typer.Option("--policy", help="What it takes to win: quality, realtime, or a JSON file. Default: the use's.")
]
HoursOption = Annotated[float, typer.Option(min=0.0, help="Hours of training audio; 0: the scenario's own size.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every number that is drawn; 0: the scenario's own.")]
CorpusArgument = Annotated[str, typer.Argument(help="Address of a corpus or of one of its splits.")]


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _print(value: Any, as_json: bool, text: str | None = None) -> None:
    """JSON for machines; for people the text, or what an Answer shows."""
    from pipelines.answer import Answer

    if as_json:
        typer.echo(json.dumps(value.data if isinstance(value, Answer) else value, indent=2, default=str))
    elif isinstance(value, Answer):
        from rich.console import Console

        Console(highlight=False).print(value, crop=False)
    else:
        typer.echo(text)


def _home() -> Any:
    from simulation.home import Home

    return Home.current()


def _corpus_input(corpus: str) -> Any:
    """The corpus below a root: as it was when it had the digest behind a #, else as it stands there now."""
    from components.specs import Input
    from simulation import storage
    from simulation.virtual import corpus_digest

    asked = Input.of(corpus) if "#" in corpus else None
    address = storage.normal(asked.address if asked else corpus)
    return Input(address=address, sha256=corpus_digest(address, asked.sha256 if asked else None))


def _store(address: str) -> str:
    from simulation import storage
    from simulation.home import Home

    return storage.normal(address) if address else Home.current().store


@app.callback()
def setup(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False) -> None:
    """Set up logging, once, for the command only."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


# --- the pipeline ---------------------------------------------------------------------------------------------------


@app.command()
def run(
    scenario: Annotated[str, typer.Option(help="Scenario to simulate (see `unmuffle scenarios`).")] = "sample",
    recipes: Annotated[str, typer.Option(help="Recipes to train, comma-separated (see `unmuffle recipes`).")] = RECIPES,
    gate_corpus: Annotated[
        str, typer.Option(help="<address>#<digest> to gate on. Default: the use's pinned one.")
    ] = "",
    use: UseOption = "denoise-16k",
    policy: PolicyOption = "",
    hours: HoursOption = 0.0,
    seed: SeedOption = 0,
    store: StoreOption = "",
    again: Annotated[bool, typer.Option("--again", help="Train new versions, with the next seed.")] = False,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline here: simulate, train each recipe, evaluate, gate, promote."""
    from pipelines.run import Request, run_here
    from pipelines.summary import outcome

    names = tuple(name.strip() for name in recipes.split(",") if name.strip())
    request = Request(
        scenario=scenario, recipes=names, gate_corpus=gate_corpus, use=use, policy=policy, hours=hours, seed=seed
    )
    show = partial(print, file=sys.stderr, flush=True)  # this very stream: during the run, sys.stderr is a log file
    run_here(request, _home(), _store(store), show, lambda address: _print(outcome(address), as_json), again=again)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="simulate, train, evaluate or promote.")],
    spec: Annotated[str, typer.Option(help="Address of the stage's spec.")],
) -> None:
    """Do one stage from its spec, or answer from its result; prints the result as JSON."""
    from components.stage import run as run_stage

    typer.echo(run_stage(name, spec).model_dump_json(indent=2))


@app.command()
def simulate(
    scenario: Annotated[str, typer.Argument(help="Name of a scenario, or the address of one as JSON.")],
    store: StoreOption = "",
    hours: HoursOption = 0.0,
    seed: SeedOption = 0,
    workers: Annotated[int, typer.Option(min=0, help="Concurrent workers; 0: one a core. The corpus stays equal.")] = 0,
    speech: Annotated[str, typer.Option(help="Your clean speech: folder, CSV manifest or bucket prefix.")] = "",
    noise: Annotated[str, typer.Option(help="Your noise recordings, likewise.")] = "",
    rirs: Annotated[str, typer.Option(help="Your room impulse responses, likewise.")] = "",
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Commit the plan alone; training renders the rows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a corpus; resumes by itself; prints its address and digest."""
    from components.compute import Compute
    from components.simulate import chosen, simulated

    if workers:
        Compute.current().model_copy(update={"workers": workers}).export()
    picked = chosen(scenario, hours=hours, seed=seed, speech=speech, noise=noise, rirs=rirs)
    corpus = simulated(picked, _store(store), virtual=virtual)
    _print(corpus.model_dump(), as_json, f"{corpus.address}\n{corpus.sha256}")


@app.command()
def rooms(
    bank: Annotated[str, typer.Argument(help="Address of a bank of rooms as JSON. Default: 0.2 to 1.2 s.")] = "",
    name: Annotated[str, typer.Option(help="Name of the bank, which its address begins with.")] = "rooms",
    rate: Annotated[int, typer.Option(min=4000, help="Sample rate of the responses, in Hz.")] = 16_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every number that is drawn.")] = 0,
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Simulate a bank of room impulse responses; prints its digest and the manifest that `simulate --rirs` takes."""
    from dataclasses import asdict

    from pipelines.rooms import built

    bank_built = built(bank, _store(store), name=name, sample_rate=rate, seed=seed)
    _print(asdict(bank_built), as_json, f"{bank_built.manifest}\n{bank_built.digest}")


@corpus_app.command()
def show(address: CorpusArgument, as_json: Json = False) -> None:
    """What a corpus holds: rows, hours, slices, digests."""
    from pipelines.summary import corpus_facts

    _print(corpus_facts(address), as_json)


@corpus_app.command()
def verify(address: CorpusArgument, as_json: Json = False) -> None:
    """Check every byte of a corpus against its commits."""
    from simulation import corpus, virtual
    from simulation.errors import CorpusDamaged, ManifestMismatch

    if plan := virtual.plan_below(address):
        problems = virtual.verify_plan(plan)
        if problems:
            raise ManifestMismatch(f"{address} cannot be rendered: {' '.join(problems)} Put back what was planned.")
        _print({"address": address, "problems": []}, as_json, f"{address}: every source is as it was planned")
        return
    problems = corpus.verify(address)
    if problems:
        raise CorpusDamaged(
            f"{address} is damaged: {' '.join(problems)} Delete what is named and simulate again; it is rendered anew."
        )
    _print({"address": address, "problems": []}, as_json, f"{address}: every byte is as it was committed")


@corpus_app.command()
def gc(
    address: Annotated[str, typer.Argument(help="Address of a corpus, of one of its splits, or of a store.")],
    older_than: Annotated[str, typer.Option(help="Least age, such as 90m, 24h or 7d; at least 1h.")] = "24h",
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Show what lost attempts left behind, or remove it: tars no commit names, temporary files, unfinished uploads."""
    from pipelines.collect import collected

    _print(collected(address, older_than, delete), as_json)


@corpus_app.command("import")
def import_pairs(
    folder: Annotated[str, typer.Argument(help="Folder or bucket prefix with clean/ and noisy/ of equal file names.")],
    name: Annotated[str, typer.Option(help="Name of the corpus. Default: the folder's.")] = "",
    sample_rate: Annotated[int, typer.Option(min=0, help="Hz. Default: what most pairs have.")] = 0,
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Make a corpus of your own clean and noisy recordings; prints its address and digest."""
    from components.simulate import imported, simulated

    corpus = simulated(imported(folder, name=name, sample_rate=sample_rate), _store(store))
    _print(corpus.model_dump(), as_json, f"{corpus.address}\n{corpus.sha256}")


@corpus_app.command()
def card(
    address: CorpusArgument,
    out: Annotated[str, typer.Option(help="File for the page. Default: <corpus>-card.html here.")] = "",
    quality: Annotated[str, typer.Option(help="Judge clean sources too: metric and least, as dnsmos_ovrl:3.")] = "",
    as_json: Json = False,
) -> None:
    """The measured card: asked for against measured, hours, speakers, licences, quarantine, alarms, ten samples."""
    from pipelines.corpora import card_of

    _print(card_of(address, out, bool(out) or not as_json, quality), as_json)


@corpus_app.command()
def diff(
    a: CorpusArgument,
    b: Annotated[str, typer.Argument(help="Address of the other corpus, or of one of its splits.")],
    as_json: Json = False,
) -> None:
    """What changed from one corpus to another: scenario, sources, seed, and what was measured case by case."""
    from pipelines.corpora import difference

    _print(difference(a, b), as_json)


@corpus_app.command()
def replay(
    address: CorpusArgument,
    row: Annotated[str, typer.Argument(help="A row's id, such as train-00000012.")],
) -> None:
    """Render one row again, alone, and compare it bit for bit with what is stored."""
    from simulation import corpus

    corpus.replay(address, row)
    typer.echo(f"{row}: rendered again, bit-equal to what is stored")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe (see `unmuffle recipes`).")],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; with #<digest>, as it was when it had that.")],
    store: StoreOption = "",
    workers: Annotated[int, typer.Option(min=0, help="Training workers; 0: this machine's profile.")] = 0,
    again: Annotated[int, typer.Option(min=0, help="Train once more, with a seed higher by this.")] = 0,
    as_json: Json = False,
) -> None:
    """Train one recipe on a corpus and register the version; resumes by itself."""
    from components.compute import Compute
    from components.train import trained

    if workers:
        profile = Compute.current()
        training = profile.training.model_copy(update={"workers": workers, "cpus_per_worker": 1})
        profile.model_copy(update={"training": training}).export()
    result = trained(recipe, _corpus_input(corpus), _store(store), again=again)
    _print(result.outputs, as_json, f"{result.outputs['name']}\n{result.outputs['version']}")


# --- judging and promoting ------------------------------------------------------------------------------------------


@app.command()
def evaluate(
    model: Annotated[list[str], typer.Argument(help="champion, dm/3, or the address of a version's folder.")],
    out: Annotated[str, typer.Option(help="Folder for scorecard.json, scores.parquet and report.html.")],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; its test split is scored.")] = "",
    pairs: Annotated[str, typer.Option(help="Folder with clean/ and noisy/ of equal file names.")] = "",
    metrics: Annotated[str, typer.Option(help="Names with commas between them; `unmuffle metrics` lists them.")] = "",
    harmless: Annotated[int, typer.Option(min=0, help="Do-no-harm rows to add of each case; 0: none.")] = 4,
    use: UseOption = "denoise-16k",
    as_json: Json = False,
) -> None:
    """Score models on a corpus or on your own pairs, beside the baselines."""
    from pipelines.judge import score
    from pipelines.summary import scores

    if bool(corpus) == bool(pairs):
        raise BadSetting("Give one of --corpus ADDRESS and --pairs FOLDER.")
    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    _print(scores(score(model, corpus, pairs, out, use, names, harmless), out), as_json)


@app.command()
def compare(
    model: Annotated[list[str], typer.Argument(help="Two or more: champion, dm/3, or addresses of versions' folders.")],
    metric: Annotated[str, typer.Option(help="Metric to rank by. Default: the policy's main one.")] = "",
    gate_corpus: Annotated[str, typer.Option(help="<address>#<digest>. Default: the use's pinned one.")] = "",
    use: UseOption = "denoise-16k",
    policy: PolicyOption = "",
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Rank versions on the gate corpus, with paired intervals and how often each comes first."""
    from pipelines.compare import compare as compared

    _print(compared(model, gate_corpus, metric, use, _store(store), policy), as_json)


@app.command()
def aa(
    model: Annotated[list[str], typer.Argument(help="Two seeds of one recipe, or a recipe that was trained twice.")],
    gate_corpus: Annotated[str, typer.Option(help="<address>#<digest>. Default: the use's pinned one.")] = "",
    use: UseOption = "denoise-16k",
    policy: PolicyOption = "",
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """How often the gate would promote one of two versions that are equally good, on its very corpus."""
    from pipelines.compare import false_promotions

    _print(false_promotions(model, gate_corpus, use, _store(store), policy), as_json)


@app.command()
def promote(
    model: Annotated[list[str], typer.Argument(help="Candidates: dm/3, or addresses of registered versions.")],
    gate_corpus: Annotated[str, typer.Option(help="<address>#<digest>. Default: the use's pinned one.")] = "",
    use: UseOption = "denoise-16k",
    policy: PolicyOption = "",
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Gate versions against the champion; the winner, if there is one, becomes champion."""
    from pipelines.judge import gate
    from pipelines.summary import outcome

    _print(outcome(gate(model, gate_corpus, use, _store(store), policy)), as_json)


@app.command()
def rollback(use: UseOption = "denoise-16k", store: StoreOption = "", as_json: Json = False) -> None:
    """Make the previous champion champion again."""
    from pipelines.judge import roll_back

    promotion = roll_back(use, _store(store))
    _print(promotion.model_dump(mode="json"), as_json, promotion.reason)


@app.command()
def status(use: UseOption = "denoise-16k", as_json: Json = False) -> None:
    """Who is champion and challenger, and what serves now."""
    from pipelines.summary import standing

    _print(standing(use, _home()), as_json)


# --- using the champion ---------------------------------------------------------------------------------------------


@app.command()
def enhance(
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the enhanced files.")],
    model: Annotated[str, typer.Option(help="champion, dm/3, or the address of a version's folder.")] = "champion",
    use: UseOption = "denoise-16k",
) -> None:
    """Enhance files: any length, rate and channel count in, the same out."""
    from pipelines.judge import enhance_with

    result = enhance_with(model, use, inputs, out)
    _say(str(result))
    raise typer.Exit(result.exit_code)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = PORT,
    use: UseOption = "denoise-16k",
) -> None:
    """Answer POST /v1/enhance with the champion until Ctrl-C; follows promotions and rollbacks."""
    from serving.service import serve as serve_until_stopped

    serve_until_stopped(_home(), port, use, ready=lambda record: _say(f"{record.version} answers at {record.address}"))


# --- what exists, and what is wrong ---------------------------------------------------------------------------------


@app.command()
def models(use: UseOption = "denoise-16k", as_json: Json = False) -> None:
    """The registered versions of a use, and the networks that exist: size, cost, latency, as published and ours."""
    from pipelines.summary import known_models

    _print(known_models(use), as_json)


@app.command("import-weights")
def import_weights(
    network: Annotated[
        str, typer.Argument(help="mp_senet_2023, mp_senet_2024, renet, renet_small or renet_small_phase.")
    ],
    file: Annotated[Path, typer.Argument(help="Weights as its authors released them; code in pickles is never run.")],
    use: UseOption = "denoise-16k",
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Register weights that a paper's authors released, with their origin and licence."""
    from training.import_weights import import_weights as imported
    from training.tracking import Tracking

    version = imported(network, file, use, _store(store), Tracking())
    data = {"name": version.name, "version": version.address, "tags": version.tags}
    _print(data, as_json, f"{version.name}\n{version.address}")


@app.command()
def recipes(as_json: Json = False) -> None:
    """The recipes of the cookbook."""
    from pipelines.summary import known_recipes

    _print(known_recipes(), as_json)


@app.command()
def scenarios(as_json: Json = False) -> None:
    """The named scenarios."""
    from pipelines.summary import known_scenarios

    _print(known_scenarios(), as_json)


@app.command()
def metrics(as_json: Json = False) -> None:
    """The metrics of a scorecard."""
    from pipelines.summary import known_metrics

    _print(known_metrics(), as_json)


@pipeline_app.command("compile")
def compile_pipeline(
    out: Annotated[Path, typer.Option(help="File to write the YAML to.")],
    image: Annotated[str, typer.Option(help="Image of every task, by digest: REF@sha256:...")] = "",
) -> None:
    """Write the pipeline as YAML for a Kubeflow cluster."""
    from pipelines.compile import compiled

    text = compiled(image) if image else compiled()
    try:
        out.write_text(text)
    except OSError as error:
        raise BadSetting(
            f"{out} cannot be written: {error.strerror}. Give --out a file in a folder that exists."
        ) from None
    typer.echo(str(out))


@app.command()
def doctor(
    port: Annotated[int, typer.Option(help="Port that `unmuffle serve` is to use.")] = PORT, as_json: Json = False
) -> None:
    """Say what is wrong with this set-up, and what to type to mend it."""
    from pipelines.doctor import examine

    checks = list(examine(port))
    if as_json:
        typer.echo(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        for check in checks:
            typer.echo(f"{'ok ' if check.ok else 'NO '} {check.name:10} {check.found}")
            if not check.ok:
                typer.echo(f"    {'':10} {check.mend}")
    if not all(check.ok for check in checks):
        raise typer.Exit(2)
