"""The connection: one MLflow, its client, its experiment, and its errors in our words.

MLflow takes seconds to import, so it is imported at the first contact. By default it is a sqlite file under the home,
with its artifacts in a folder beside it; MLFLOW_TRACKING_URI names any other server.
"""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from simulation.errors import TrackingProblem
from simulation.home import Home

EXPERIMENT = "unmuffle"
_OUTAGE = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


class Unreachable(TrackingProblem):
    """MLflow does not answer; the same call may succeed later."""


class Connection:
    """One MLflow; without an address the one of the current home."""

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or Home.current().tracking_uri

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn MLflow's own errors into ours: `Unreachable` when it may answer later, else `TrackingProblem`."""
        set_up_mlflow()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError) as error:  # what requests raises is an OSError
            raise self._unreachable(error) from error
        except MlflowException as error:
            if error.error_code in _OUTAGE:
                raise self._unreachable(error) from error
            raise TrackingProblem(
                f"MLflow at {self._shown} refuses: {self._said(error)} If that is not the server you mean, set "
                f"MLFLOW_TRACKING_URI."
            ) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"MLflow at {self._shown} does not answer: {self._said(_root(error))} Expected a tracking server or a "
            f"database there: check MLFLOW_TRACKING_URI and that the server runs, or unset MLFLOW_TRACKING_URI to use "
            f"a sqlite file under UNMUFFLE_HOME; `unmuffle doctor` tries the connection."
        )

    @property
    def _shown(self) -> str:
        return without_password(self.uri)

    def _said(self, error: BaseException) -> str:
        """The first line of a message, without the password; some of MLflow's go on for a page."""
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return line.replace(self.uri, self._shown)[:300].rstrip(".") + "."

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)  # hundreds of lines when the sqlite file is made
        with _only_opener(self._database) if self._database else nullcontext():
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @cached_property
    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        artifacts = (self._database.parent / "artifacts").as_uri() if self._database else None
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(EXPERIMENT)
        return str(found.experiment_id)

    @property
    def _database(self) -> Path | None:
        """The sqlite file, if it is one."""
        return Path(self.uri.removeprefix("sqlite:///")).absolute() if self.uri.startswith("sqlite:///") else None


def without_password(uri: str) -> str:
    """An address as people may see it: without user and password."""
    return re.sub("(?<=//)[^/]*@", "", uri)


def set_up_mlflow() -> None:
    """What MLflow reads from the environment while it is imported and at each request; called before either."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # its own defaults let an outage block for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@contextmanager
def _only_opener(database: Path) -> Iterator[None]:
    """Hold a lock beside the sqlite file while it is opened: MLflow creates its tables then, and two must not."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _root(error: BaseException) -> BaseException:
    """The innermost reason: "connection refused" rather than the three libraries that pass it on."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
