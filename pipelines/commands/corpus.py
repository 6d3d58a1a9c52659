"""Commands over corpora: simulate one, look at it, check it, clean up behind it."""

from typing import Annotated

import typer

from pipelines.commands.options import CorpusArgument, HoursOption, Json, SeedOption, StoreOption, store_at
from pipelines.commands.telling import tell


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
    corpus = simulated(picked, store_at(store), virtual=virtual)
    tell(corpus.model_dump(), as_json, f"{corpus.address}\n{corpus.sha256}")


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

    bank_built = built(bank, store_at(store), name=name, sample_rate=rate, seed=seed)
    tell(asdict(bank_built), as_json, f"{bank_built.manifest}\n{bank_built.digest}")


def show(address: CorpusArgument, as_json: Json = False) -> None:
    """What a corpus holds: rows, hours, slices, digests."""
    from pipelines.summary import corpus_facts

    tell(corpus_facts(address), as_json)


def verify(address: CorpusArgument, as_json: Json = False) -> None:
    """Check every byte of a corpus against its commits."""
    from simulation import corpus, virtual
    from simulation.errors import CorpusDamaged, ManifestMismatch

    if plan := virtual.plan_below(address):
        problems = virtual.verify_plan(plan)
        if problems:
            raise ManifestMismatch(f"{address} cannot be rendered: {' '.join(problems)} Put back what was planned.")
        tell({"address": address, "problems": []}, as_json, f"{address}: every source is as it was planned")
        return
    problems = corpus.verify(address)
    if problems:
        raise CorpusDamaged(
            f"{address} is damaged: {' '.join(problems)} Delete what is named and simulate again; it is rendered anew."
        )
    tell({"address": address, "problems": []}, as_json, f"{address}: every byte is as it was committed")


def gc(
    address: Annotated[str, typer.Argument(help="Address of a corpus, of one of its splits, or of a store.")],
    older_than: Annotated[str, typer.Option(help="Least age, such as 90m, 24h or 7d; at least 1h.")] = "24h",
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Show what lost attempts left behind, or remove it: tars no commit names, temporary files, unfinished uploads."""
    from pipelines.collect import collected

    tell(collected(address, older_than, delete), as_json)


def import_pairs(
    folder: Annotated[str, typer.Argument(help="Folder or bucket prefix with clean/ and noisy/ of equal file names.")],
    name: Annotated[str, typer.Option(help="Name of the corpus. Default: the folder's.")] = "",
    sample_rate: Annotated[int, typer.Option(min=0, help="Hz. Default: what most pairs have.")] = 0,
    store: StoreOption = "",
    as_json: Json = False,
) -> None:
    """Make a corpus of your own clean and noisy recordings; prints its address and digest."""
    from components.simulate import imported, simulated

    corpus = simulated(imported(folder, name=name, sample_rate=sample_rate), store_at(store))
    tell(corpus.model_dump(), as_json, f"{corpus.address}\n{corpus.sha256}")


def card(
    address: CorpusArgument,
    out: Annotated[str, typer.Option(help="File for the page. Default: <corpus>-card.html here.")] = "",
    quality: Annotated[str, typer.Option(help="Judge clean sources too: metric and least, as dnsmos_ovrl:3.")] = "",
    as_json: Json = False,
) -> None:
    """The measured card: asked for against measured, hours, speakers, licences, quarantine, alarms, ten samples."""
    from pipelines.corpora import card_of

    tell(card_of(address, out, bool(out) or not as_json, quality), as_json)


def diff(
    a: CorpusArgument,
    b: Annotated[str, typer.Argument(help="Address of the other corpus, or of one of its splits.")],
    as_json: Json = False,
) -> None:
    """What changed from one corpus to another: scenario, sources, seed, and what was measured case by case."""
    from pipelines.corpora import difference

    tell(difference(a, b), as_json)


def replay(
    address: CorpusArgument,
    row: Annotated[str, typer.Argument(help="A row's id, such as train-00000012.")],
) -> None:
    """Render one row again, alone, and compare it bit for bit with what is stored."""
    from simulation import corpus

    corpus.replay(address, row)
    typer.echo(f"{row}: rendered again, bit-equal to what is stored")


def scenarios(as_json: Json = False) -> None:
    """The named scenarios."""
    from pipelines.summary import known_scenarios

    tell(known_scenarios(), as_json)
