"""From an answer back to the recordings it learnt from, and from a recording to the models that used it.

X-Unmuffle-Version, dm/3, or an MLflow run  ->  version  ->  run, recipe and code  ->  corpus  ->  sources and licences
"""

from collections import Counter
from dataclasses import dataclass, field

from components import stage
from components.specs import SPECS, Input
from simulation import storage
from simulation.errors import StorageError, UnknownName, UnmuffleError
from simulation.provenance import kept_sources
from simulation.sources import SourceManifest
from training.registry import USES, Version
from training.tracking import Tracking

CODE = ("unmuffle_version", "git_revision", "git_changed", "code_sha256")
"""Tags of a run that say which code made it."""
MADE_BY = ("train", "distil")
"""Stages that make versions."""
SHORTEST = 8
"""Characters of a sha256 that are enough to mean it."""


@dataclass(frozen=True)
class Source:
    """Recordings of one kind, from one source corpus, under one licence."""

    kind: str
    corpus: str
    licence: str
    recordings: int


@dataclass(frozen=True)
class Trace:
    """Where a version comes from."""

    version: str
    use: str
    network: str
    weights_sha256: str
    address: str
    run_id: str
    recipe: str
    code: dict[str, str] = field(default_factory=dict)
    """Revision, digest of the code and version of the package, as the run recorded them."""
    corpus: str = ""
    corpus_digest: str = ""
    sources: tuple[Source, ...] = ()
    missing: str = ""
    """Why the sources could not be read, where they could not."""

    def lines(self) -> list[str]:
        """For people: one step a line."""
        code = ", ".join(f"{name} {value[:16]}" for name, value in sorted(self.code.items()) if value)
        steps = [
            f"version   {self.version} of {self.use}: {self.network} {self.weights_sha256[:16]}, {self.address}",
            f"run       {self.run_id or 'unknown'}: recipe {self.recipe or 'unknown'}",
            f"code      {code or 'not recorded'}",
            f"corpus    {self.corpus or 'unknown'} {self.corpus_digest[:16]}",
        ]
        steps += [f"source    {one.kind} {one.corpus}: {one.recordings} under {one.licence}" for one in self.sources]
        return steps + ([f"sources   {self.missing}"] if self.missing else [])


def trace(what: str, tracking: Tracking) -> Trace:
    """Follow a version: dm/3, champion, denoise-16k/7 as in X-Unmuffle-Version, an address, or the id of its run."""
    version = find(what, tracking)
    facts = tracking.run_tags(version.run_id) if version.run_id else {}
    corpus = corpus_of(version)
    sources, missing = _sources(corpus)
    return Trace(
        version=version.name,
        use=version.use,
        network=version.network,
        weights_sha256=version.weights_sha256,
        address=version.address,
        run_id=version.run_id,
        recipe=version.tags.get("recipe", ""),
        code={name: facts[name] for name in CODE if facts.get(name)},
        corpus=corpus.address if corpus else "",
        corpus_digest=version.tags.get("corpus_digest", corpus.sha256 if corpus else ""),
        sources=sources,
        missing=missing,
    )


def find(what: str, tracking: Tracking) -> Version:
    """The version that somebody means by what an answer, a registry page or a run says."""
    use, _, number = what.rpartition("/")
    for one in USES:
        for version in tracking.versions(one):
            if what == version.run_id or (use == one and number == version.version):
                return version
    return tracking.resolve(what)


def corpus_of(version: Version) -> Input | None:
    """The corpus that a version was trained on, by the spec of its stage; None for one that was trained elsewhere."""
    store, found, _ = version.address.partition("/versions/")
    key = version.tags.get("stage_key", "")
    if not found or not key:
        return None
    for name in MADE_BY:
        address = storage.join(stage.folder(store, name, key), "spec.json")
        if name in SPECS and storage.exists(address):
            corpus = getattr(SPECS[name].parse(storage.read(address), address), "corpus", None)
            return corpus if isinstance(corpus, Input) else None
    return None


def _sources(corpus: Input | None) -> tuple[tuple[Source, ...], str]:
    """Its recordings by kind, source and licence, the most first; why not, where they are not known."""
    if corpus is None:
        return (), "not known: this version was not trained by a stage of ours"
    try:
        manifest = kept_sources(storage.normal(corpus.address))
    except UnmuffleError as error:
        return (), str(error)
    counted = Counter(
        (one.kind, one.source or "(unnamed)", one.licence or "(none stated)") for one in manifest.recordings
    )
    lines = [Source(kind, name, licence, count) for (kind, name, licence), count in counted.items()]
    return tuple(sorted(lines, key=lambda line: (line.kind, -line.recordings, line.corpus, line.licence))), ""


# ---- the reverse ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Used:
    """A version whose corpus holds a recording."""

    version: str
    use: str
    recording: str
    split: str
    """train: it learnt from it; valid: it was chosen by it; test: it was only measured on it."""
    licence: str
    corpus: str


def users_of(recording: str, tracking: Tracking) -> list[Used]:
    """Every version whose corpus holds this recording: by its id, its sha256 (8 characters or more), or its group.

    A group is a speaker, a recording of noise or a room: what a person asks for who withdraws a consent. Raises
    UnknownName where no corpus of any version has it.
    """
    manifests: dict[str, SourceManifest | None] = {}
    found = []
    for use in USES:
        for version in tracking.versions(use):
            corpus = corpus_of(version)
            if corpus is None:
                continue
            if corpus.address not in manifests:
                manifests[corpus.address] = _manifest(corpus)
            manifest = manifests[corpus.address]
            for one in manifest.recordings if manifest else ():
                if _is(recording, one.id, one.sha256, one.group):
                    found.append(Used(version.name, use, one.id, one.split, one.licence, corpus.address))
    if not found and manifests:
        ids = (one.id for manifest in manifests.values() if manifest for one in manifest.recordings[:50])
        raise UnknownName("recording in any version's corpus", recording, ids)
    return found


def _manifest(corpus: Input) -> SourceManifest | None:
    try:
        return kept_sources(storage.normal(corpus.address))
    except StorageError:
        return None


def _is(asked: str, name: str, sha256: str, group: str) -> bool:
    return asked in (name, group) or (len(asked) >= SHORTEST and sha256.startswith(asked))
