"""What is wrong with this set-up: each check says what it found and, if that will not do, what to type.

A machine may lack any library, so nothing but ours and the standard library is imported before a check needs it.
"""

import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module, metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from simulation.errors import UnmuffleError

if TYPE_CHECKING:
    from simulation.home import Home

COMPILED = ("numpy", "pyarrow", "pesq", "soundfile", "soxr", "torch", "ray")
"""Libraries with machine code, which may be installed and still not load: a system library is missing, say."""
INSTALL = "make setup, or: pip install -c constraints.txt -e ."
PACKAGES = ("simulation", "training", "serving", "components", "pipelines")
FREE_GB = 2.0
"""A run of the sample pipeline needs less than half of this."""
OF_SERVERS = {"store", "clock", "mlflow", "kubernetes", "rights", "kubeflow"}
"""Checks that ask one, which may take its time."""
ANSWER_S = 20.0
"""How long those may take together, so that the whole is over in half a minute."""
SKEW_S = 60.0
"""How far our clock may be from the store's: locks and requests are dated."""


class Check(NamedTuple):
    """One answer of the doctor."""

    name: str
    ok: bool
    found: str
    mend: str = ""


def examine(port: int, cluster: bool = False) -> Iterator[Check]:
    """All checks, quick ones first. Nothing is changed, but the home is made where there is none yet.

    `cluster` looks at Kubernetes and Kubeflow too, and expects a store that many may write to at once.
    """
    checks: dict[str, Callable[[], Check]] = {
        "python": python,
        "libraries": requirements,
        "packages": own_packages,
        "loading": loading,
        "home": lambda: writable(_home().path),
        "store": lambda: store(_home().store, many=cluster),
        "clock": lambda: clock(_home().store),
        "mlflow": lambda: tracking(_home().tracking_uri),
        "settings": settings,
        "gpu": gpu,
        "port": lambda: free_port(port),
    }
    if cluster:
        from pipelines import doctor_cluster

        checks |= doctor_cluster.CHECKS
    answers = _at_once({name: check for name, check in checks.items() if name in OF_SERVERS})
    for name, check in checks.items():
        yield answers[name] if name in answers else _answer(name, check)


def _answer(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ImportError as error:
        return Check(name, False, f"cannot be looked at: {error}", INSTALL)
    except UnmuffleError as error:  # of the home, which several look for
        return Check(name, False, str(error), "export UNMUFFLE_HOME=<a folder you can write>")


def _at_once(checks: dict[str, Callable[[], Check]]) -> dict[str, Check]:
    """Answers to all of these, asked for at a time, whatever each takes; one that is late is a fault of its own."""
    answers: dict[str, Check] = {}

    def ask(name: str, check: Callable[[], Check]) -> None:
        answers[name] = _answer(name, check)

    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in checks.items()]
    for thread in threads:
        thread.start()
    until = time.monotonic() + ANSWER_S
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))
    found = f"no answer within {ANSWER_S:.0f} s"
    mend = "Look whether the address is right, and whether a firewall or a NetworkPolicy drops what is sent there."
    return {name: answers.get(name) or Check(name, False, found, mend) for name in checks}


def _home() -> "Home":
    from simulation.home import Home

    return Home.current()


def python() -> Check:
    """Python 3.11 or newer."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "python", sys.version_info >= (3, 11), version, "Install Python 3.11 or newer: make PYTHON=python3.12 setup"
    )


def requirements() -> Check:
    """Every library we depend on is installed, in a version that we accept."""
    from packaging.requirements import Requirement

    wrong = []
    wanted = [Requirement(text) for text in metadata.requires("unmuffle") or []]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in wanted:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
            continue
        if not one.specifier.contains(version, prereleases=True):
            wrong.append(f"{one.name} is {version}, we need {one.specifier}")
    found = "; ".join(wrong) or f"{len(wanted)} libraries in place"
    return Check("libraries", not wrong, found, INSTALL)


def loading() -> Check:
    """Libraries with machine code load on this machine."""
    wrong = []
    for name in COMPILED:
        try:
            import_module(name)
        except (ImportError, OSError) as error:  # OSError: a shared library that is not there
            wrong.append(f"{name}: {error}")
    found = "; ".join(wrong) or f"{', '.join(COMPILED)} load"
    return Check("loading", not wrong, found, f"Install what they miss, or again: {INSTALL}")


def own_packages() -> Check:
    """Our five import names are ours: other distributions use such names too."""
    root = Path(__file__).resolve().parent.parent
    foreign = []
    for name in PACKAGES:
        spec = util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != root:
            foreign.append(f"{name} comes from {spec.origin if spec else 'nowhere'}")
    found = "; ".join(foreign) or f"all five from {root}"
    return Check(
        "packages", not foreign, found, "Uninstall the distribution that shadows it, or run from another folder."
    )


def writable(path: Path) -> Check:
    """The home can be written, and there is room."""
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        free = shutil.disk_usage(place).free / 1e9
        probe = place / ".unmuffle-doctor"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Check("home", False, f"{place}: {error.strerror}", "export UNMUFFLE_HOME=<a folder you can write>")
    mend = f"Free {FREE_GB:.0f} GB, or export UNMUFFLE_HOME=<a folder on a larger disk>"
    return Check("home", free >= FREE_GB, f"{path} writable, {free:.1f} GB free", mend)


def store(address: str, many: bool = False) -> Check:
    """The store takes writes, and conditional ones; without these only one may write, which `many` will not do with."""
    from simulation import storage

    try:
        conditional = storage.honours_conditional_writes(address)
    except UnmuffleError as error:
        return Check("store", False, str(error), "export UNMUFFLE_STORE=<a folder or s3://bucket/prefix you can write>")
    found = f"{address} " + ("honours conditional writes" if conditional else "takes one writer at a time")
    mend = "Choose a store that answers 412 to a PUT with If-None-Match: * over an object; stages on a cluster need it."
    return Check("store", conditional or not many, found, mend)


def clock(address: str) -> Check:
    """Our clock is the store's, by the date it gives to an object that is written now."""
    from simulation import storage

    probe = storage.join(address, f"doctor-{uuid.uuid4().hex}")
    try:
        storage.replace(probe, b"")
        written, now = storage.stored(probe), time.time()
        storage.delete(probe)
    except UnmuffleError as error:
        return Check("clock", False, f"cannot be compared: {error}", "Mend the store first.")
    apart_s = abs(now - written.modified) if written else 0.0
    found = f"{apart_s:.0f} s from the store's"
    return Check("clock", apart_s <= SKEW_S, found, "Set this machine's clock: timedatectl set-ntp true")


def settings() -> Check:
    """What the environment holds as JSON can be read: the compute profile, whom to tell."""
    from components.compute import Compute
    from components.notify import Audience

    try:
        compute, audience = Compute.current(), Audience.current()
    except UnmuffleError as error:
        return Check("settings", False, str(error), "Mend the variable that is named, or unset it.")
    told = sum(map(bool, (audience.webhook, audience.slack, audience.smtp)))
    where = f"RayJobs in {compute.cluster.namespace}" if compute.cluster else "stages run here"
    return Check("settings", True, f"{where}; {told} to be told of runs")


def gpu() -> Check:
    """A profile that trains on GPUs of this machine finds some."""
    from components.compute import Compute

    try:
        compute = Compute.current()
    except UnmuffleError:
        return Check("gpu", True, "not known: the compute profile cannot be read")
    wanted = any(one.gpus_per_worker for one in (compute.training, *compute.recipes.values()))
    if compute.cluster is not None or not wanted:
        return Check("gpu", True, "none is asked for here")
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mend = "Set gpus_per_worker to 0 in UNMUFFLE_COMPUTE, or install a driver and a torch that fit the GPUs."
    return Check("gpu", found > 0, f"{found} that torch can use", mend)


def tracking(uri: str) -> Check:
    """MLflow answers."""
    from training.registry import DEFAULT_USE
    from training.tracking import Tracking, without_password

    try:
        Tracking(uri).aliases(DEFAULT_USE)
    except UnmuffleError as error:
        return Check(
            "mlflow", False, str(error), "Start the server, or unset MLFLOW_TRACKING_URI to use sqlite in the home."
        )
    return Check("mlflow", True, without_password(uri))


def free_port(port: int) -> Check:
    """The port of `unmuffle serve` is free."""
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    found = f"{port} is {'taken' if taken else 'free'}"
    return Check("port", not taken, found, f"unmuffle serve --port <another than {port}>")
