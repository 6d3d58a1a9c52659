"""A scenario over its sources as they are now: the plan that is built, or committed alone."""

from simulation.draw import Plan
from simulation.errors import ManifestMismatch
from simulation.scenario import Scenario
from simulation.sources import scan_for


def planned(scenario: Scenario, sources_digest: str | None = None) -> Plan:
    """Scan the sources and lay the scenario over them.

    Raises BadSetting for sources that cannot fill the splits, ManifestMismatch where they do not have the
    `sources_digest` that was promised.
    """
    sources = scan_for(scenario)
    if sources_digest is not None and sources.digest() != sources_digest:
        raise ManifestMismatch(
            f"The sources have the digest {sources.digest()[:12]}…, but {sources_digest[:12]}… was promised: recordings"
            " were added, changed or removed since they were looked at. Run the same command again."
        )
    return Plan(scenario, sources, scenario.seed)
