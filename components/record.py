"""A stage's run in MLflow: found by the stage key, child of the pipeline run that asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from components.stage import Stage
from training.registry import Version
from training.tracking import Tracking


@contextmanager
def recorded(tracking: Tracking, stage: Stage, name: str, parent: str) -> Iterator[str]:
    """The run id of this stage; a stage that is tried again continues its run. Ends as finished, or failed."""
    run_id = tracking.run(stage.key, name, parent or None, {"stage": stage.name, "attempt": str(stage.attempt)})
    ok = False
    try:
        yield run_id
        ok = True
    finally:
        tracking.finish(run_id, ok)


def version_at(tracking: Tracking, use: str, address: str) -> Version:
    """The registered version whose weights lie at this address, else that folder as an unregistered one."""
    for version in tracking.versions(use):
        if version.address == address:
            return version
    return tracking.resolve(address, use)
