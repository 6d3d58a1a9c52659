"""Commands over versions: score, rank, promote, go back; who is champion; weights from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import CanaryOption, Json, PolicyOption, StoreOption, UseOption, store_at
from pipelines.commands.telling import say, tell
from simulation.errors import BadSetting

ONE_OF_BOTH = "Give one of --corpus ADDRESS and --pairs FOLDER."


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
        raise BadSetting(ONE_OF_BOTH)
    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    tell(scores(score(model, corpus, pairs, out, use, names, harmless), out), as_json)


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

    tell(compared(model, gate_corpus, metric, use, store_at(store), policy), as_json)


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

    tell(false_promotions(model, gate_corpus, use, store_at(store), policy), as_json)


def sweep(
    model: Annotated[str, typer.Argument(help="A version of gp_unified: champion, NAME/3, or its folder's address.")],
    out: Annotated[Path, typer.Option(help="Folder for sweep.csv, and a picture for each metric.")],
    corpus: Annotated[str, typer.Option(help="Address of a corpus; rows of its test split are enhanced.")] = "",
    pairs: Annotated[str, typer.Option(help="Folder with clean/ and noisy/ of equal file names.")] = "",
    steps: Annotated[str, typer.Option(help="Numbers of steps N, with commas between them.")] = "5,10,15,20,25,30",
    alphas: Annotated[str, typer.Option(help="Weights of the first fusion.")] = "0.1,0.3,0.5,0.7,0.9",
    betas: Annotated[str, typer.Option(help="Weights of the last one.")] = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1",
    metrics: Annotated[str, typer.Option(help="`unmuffle metrics` lists them.")] = "si_sdr,pesq",
    rows: Annotated[int, typer.Option(min=1, help="How many, the first ones.")] = 20,
    case: Annotated[str, typer.Option(help="Only rows of this case of the scenario.")] = "",
    use: UseOption = "denoise-16k",
    as_json: Json = False,
) -> None:
    """Ask a diffusion network in every way: steps, both fusions, both step sizes; draws the curves of its paper."""
    from pipelines.judge import swept

    if bool(corpus) == bool(pairs):
        raise BadSetting(ONE_OF_BOTH)
    lists = {"steps": steps, "alphas": alphas, "betas": betas, "metrics": metrics}
    table = swept(model, use, corpus, pairs, out, lists, rows, case)
    tell(table.to_dict("records"), as_json, f"{len(table)} settings\n{out / 'sweep.csv'}")


def promote(
    model: Annotated[list[str], typer.Argument(help="Candidates: dm/3, or addresses of registered versions.")],
    gate_corpus: Annotated[str, typer.Option(help="<address>#<digest>. Default: the use's pinned one.")] = "",
    use: UseOption = "denoise-16k",
    policy: PolicyOption = "",
    canary: CanaryOption = "",
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Gate versions against the champion; the winner, if there is one, becomes champion: at once, or by a canary."""
    from pipelines.judge import gate
    from pipelines.summary import outcome

    tell(outcome(gate(model, gate_corpus, use, store_at(store), policy, canary)), as_json)


def rollback(use: UseOption = "denoise-16k", store: StoreOption = "", as_json: Json = False) -> None:
    """Make the previous champion champion again; during a canary, end that one instead."""
    from pipelines.judge import roll_back

    promotion = roll_back(use, store_at(store))
    tell(promotion.model_dump(mode="json"), as_json, promotion.reason)


def status(use: UseOption = "denoise-16k", as_json: Json = False) -> None:
    """Who is champion and challenger, and what serves now."""
    from pipelines.summary import standing
    from simulation.home import Home

    tell(standing(use, Home.current()), as_json)


def models(
    networks: Annotated[list[str] | None, typer.Argument(help="Networks to show; default: all.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="First measure them here: those named, or all that were not yet.")
    ] = False,
    use: UseOption = "denoise-16k",
    as_json: Json = False,
) -> None:
    """The registered versions of a use, and the networks that exist: size, cost, latency, as published and ours."""
    from pipelines.summary import known_models, measure_networks

    if measure:
        measure_networks(networks or (), say)
    tell(known_models(use, networks or (), lambda name: say(f"models: counting what {name} costs, once")), as_json)


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

    version = imported(network, file, use, store_at(store), Tracking())
    data = {"name": version.name, "version": version.address, "tags": version.tags}
    tell(data, as_json, f"{version.name}\n{version.address}")


def metrics(as_json: Json = False) -> None:
    """The metrics of a scorecard."""
    from pipelines.summary import known_metrics

    tell(known_metrics(), as_json)
