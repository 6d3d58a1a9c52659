"""What can go wrong that a person can mend: found, expected, what to type.

UnmuffleError                  every error below; the command prints it as one paragraph and exits with 2
├── UnknownName                a scenario, recipe, model, metric, use or alias that does not exist
├── BadSetting                 a value out of its range, a misspelt key, options that exclude each other
├── BadAudio                   not an audio file, no samples, NaN or infinity in it
│   └── SampleRateMismatch     audio at another rate than the one that was promised
├── StorageError               object storage
│   ├── NotThere               nothing at this address
│   ├── NotAllowed             the store refuses: credentials or permissions
│   └── StoreUnreachable       no answer, or one that makes no sense
├── CorpusError                simulated corpora
│   ├── CorpusIncomplete       shards are missing, or the corpus was never finished
│   ├── CorpusDamaged          bytes differ from what was committed
│   ├── NotReproducible        rendering again gave other bytes than those committed
│   └── TooManyQuarantined     more bad source recordings than the stated share
├── ManifestMismatch           a digest differs from the one that was asked for
├── CheckpointIncompatible     weights, model configuration and corpus do not belong together
├── TrainingDiverged           a gradient that is not finite; the last good checkpoint is kept
├── BudgetSpent                training stopped where its budget ended; a checkpoint is kept
├── NoChampion                 nothing has been promoted for this use yet
├── Superseded                 a newer attempt has taken this stage over
├── PromotionBusy              another promotion holds the lock
├── VerificationFailed         what was deployed does not answer as it should
├── ClusterProblem             Ray cannot be started or joined, or its workers run other code
├── KubernetesUnreachable      the API server is away for longer than a run waits
├── KubernetesRefused          the API server refuses: rights, quotas, or an object it does not accept
├── StageFailed                a stage that ran on the cluster ended without a result
├── Terminated                 somebody ended the run; what it had started is removed
├── NothingNew                 a retraining was asked for that is under way or done
└── TrackingProblem            MLflow cannot be reached or refuses
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UnmuffleError(Exception):
    """Base of everything a person can mend."""

    exit_code = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """By its message, so that it crosses from one process to another whatever it was made from."""
        return _again, (type(self), str(self))


def _again(kind: type[UnmuffleError], message: str) -> UnmuffleError:
    error = kind.__new__(kind)
    error.args = (message,)
    return error


class UnknownName(UnmuffleError):
    """A name that does not exist; the message lists the names that do."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        listing = ", ".join(names) if names else "none yet"
        super().__init__(f"There is no {what} named {name!r}.{hint} Known: {listing}.")


class BadSetting(UnmuffleError):
    """A value that cannot be used; the message names the field and what it expects."""


class BadAudio(UnmuffleError):
    """Audio that cannot be used."""


class SampleRateMismatch(BadAudio):
    """Audio at another sample rate than the one promised."""


class StorageError(UnmuffleError):
    """Object storage did not do what was asked."""


class NotThere(StorageError):
    """Nothing lies at this address."""


class NotAllowed(StorageError):
    """The store refuses: credentials or permissions."""


class StoreUnreachable(StorageError):
    """The store does not answer, or its answer makes no sense."""


class CorpusError(UnmuffleError):
    """A corpus cannot be built or read."""


class CorpusIncomplete(CorpusError):
    """Shards are missing, or the corpus was never finished."""


class CorpusDamaged(CorpusError):
    """Stored bytes differ from what was committed."""


class NotReproducible(CorpusError):
    """Rendering a shard again gave other bytes than those committed."""


class TooManyQuarantined(CorpusError):
    """More source recordings were set aside than the scenario allows."""


class ManifestMismatch(UnmuffleError):
    """A digest differs from the one that was asked for."""


class CheckpointIncompatible(UnmuffleError):
    """Weights, model configuration and corpus do not belong together."""


class TrainingDiverged(UnmuffleError):
    """A gradient, or a figure on the valid split, is not finite; training stopped before it could spoil anything."""


class BudgetSpent(UnmuffleError):
    """Training stopped where its budget ended, with a checkpoint; a larger budget lets it go on."""


class NoChampion(UnmuffleError):
    """Nothing has been promoted for this use yet."""


class Superseded(UnmuffleError):
    """A newer attempt has taken this stage over; this one must not commit."""


class PromotionBusy(UnmuffleError):
    """Another promotion of the same use holds the lock."""


class VerificationFailed(UnmuffleError):
    """What was deployed does not answer as it should."""


class ClusterProblem(UnmuffleError):
    """Ray cannot be started or joined, or its workers run other code than ours."""


class KubernetesUnreachable(UnmuffleError):
    """The Kubernetes API server does not answer, or says that it cannot at the moment."""


class KubernetesRefused(UnmuffleError):
    """The Kubernetes API server refuses: rights, quotas, or an object it does not accept."""


class StageFailed(UnmuffleError):
    """A stage that ran on the cluster ended without a result."""


class Terminated(UnmuffleError):
    """The run was ended by a signal, or by somebody in Kubeflow."""


class NothingNew(UnmuffleError):
    """A retraining was asked for whose data and settings are being trained on, or were."""


class TrackingProblem(UnmuffleError):
    """MLflow cannot be reached, or refuses."""
