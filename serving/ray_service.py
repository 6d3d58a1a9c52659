"""The cluster's form of the deployer: a RayService object of KubeRay, changed by patches and verified over HTTP.

The service's `serveConfigV2` names the version in the `user_config` of its one deployment. A candidate is a second
application of that config, below a route of its own; to switch is to write another `user_config`, which Serve's
replicas take up in place, without a new cluster. What the object's status says is read for reasons; what counts is
who answers. Whoever calls hands in the object: this file knows no Kubernetes client.
"""

import copy
import time
from collections.abc import Callable
from typing import Any, Protocol

import httpx
import yaml

from serving import wire
from serving.canary import Evidence, Rules
from serving.messages import Models, ServedVersion
from serving.traffic import BESIDE
from serving.verification import PROBE_RATE, check_answer, probe
from simulation import audio
from simulation.audio import Waveform
from simulation.errors import BadSetting, UnmuffleError, VerificationFailed
from training.registry import Version

MAIN, DEPLOYMENT = "unmuffle", "enhance"
"""Names in the service's own config."""
BESIDE_ROUTE = "/beside"
POLL_S = 2.0
READY_S = 900.0
"""How long an application may take: nodes may have to be added for it."""
IN_A_ROW = 5
"""Answers of the wanted version before a switch counts: several replicas answer behind one address."""


class RayService(Protocol):
    """One RayService object."""

    def get(self) -> dict[str, Any] | None:
        """As the API server has it; None where there is none."""

    def patch(self, change: dict[str, Any]) -> dict[str, Any] | None:
        """Merge this into it; None where there is none."""


class RayServiceDeployer:
    """Deploys beside, verifies, switches and clears up by patches; `http` reaches the service's port 8000."""

    def __init__(self, service: RayService, http: httpx.Client) -> None:
        self._service, self._http = service, http

    def serving(self) -> ServedVersion | None:
        """The version that answers now; None where nothing does."""
        models = self._models("")
        return models.models[0].version if models else None

    def deploy_beside(self, version: Version) -> str:
        """Add the candidate as an application of its own; `VerificationFailed`, and it is gone, where it fails."""

        def beside(config: dict[str, Any]) -> None:
            candidate = copy.deepcopy(_application(config, MAIN))
            candidate |= {"name": BESIDE, "route_prefix": BESIDE_ROUTE}
            _tell(candidate, ServedVersion.of(version))
            config["applications"] = [*_others(config, BESIDE), candidate]

        self._edit(beside)
        try:
            self._until(lambda: self._answers(BESIDE_ROUTE, ServedVersion.of(version)), BESIDE)
        except UnmuffleError:
            self.clear()
            raise
        return BESIDE_ROUTE

    def verify(self, handle: str, version: Version) -> None:
        """`VerificationFailed` unless this very version answers below the handle's route, sanely."""
        wanted = ServedVersion.of(version)
        if not self._answers(handle, wanted):
            raise VerificationFailed(f"Expected {wanted.name} to answer at {handle}; found another version, or nobody.")
        check_answer(probe(), self._ask(handle), wanted.name)

    def switch(self, version: Version) -> None:
        """Let the service answer with this version; where it does not, the config it had is written back."""
        wanted, row = ServedVersion.of(version), 0

        def main(config: dict[str, Any]) -> None:
            _tell(_application(config, MAIN), wanted)

        def in_a_row() -> bool:
            nonlocal row
            row = row + 1 if self._answers("", wanted) else 0
            return row >= IN_A_ROW

        before = self._edit(main)
        try:
            self._until(in_a_row, MAIN, pause=lambda: 0.0 if row else POLL_S)
            check_answer(probe(), self._ask(""), wanted.name)
        except UnmuffleError:
            self._service.patch({"spec": {"serveConfigV2": before}})
            raise

    def discard(self, handle: str) -> None:
        """Take the candidate away."""
        self.clear()

    def left_behind(self) -> bool:
        """Whether there is a candidate in the config."""
        return any(each.get("name") == BESIDE for each in self._config()[0]["applications"])

    def clear(self) -> None:
        """Take the candidate out of the config."""
        self._edit(lambda config: config.update(applications=_others(config, BESIDE)))

    def candidate(self) -> str:
        """Nobody: requests of a RayService are not shared with candidates."""
        return ""

    def let_in(self, version: Version, percent: float, rules: Rules) -> None:
        """Refused: the judge is an actor of the cluster that serves, which the one who promotes has not joined."""
        raise VerificationFailed(
            f"A RayService has no canary, so {version.name} was not let in. Promote it without --canary; it is deployed"
            " beside and verified before it answers."
        )

    def evidence(self) -> Evidence:
        """None."""
        return Evidence(percent=0.0)

    def let_out(self) -> None:
        """Nothing to do."""

    def _config(self) -> tuple[dict[str, Any], str]:
        """The Serve config, parsed and as it stands. `VerificationFailed` where it is not one of ours."""
        found = self._service.get()
        if found is None:
            raise VerificationFailed(
                "There is no such RayService. Create it (infra/), then type the same command again."
            )
        text = str(found["spec"].get("serveConfigV2", ""))
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise VerificationFailed(f"The RayService's serveConfigV2 is no YAML: {error}") from None
        _application(config, MAIN)
        return config, text

    def _edit(self, change: Callable[[dict[str, Any]], None]) -> str:
        """Change the config, if that changes anything; returns what it was."""
        config, before = self._config()
        changed = copy.deepcopy(config)
        change(changed)
        if changed != config and self._service.patch({"spec": {"serveConfigV2": _text(changed)}}) is None:
            raise VerificationFailed("The RayService was deleted while it was changed.")
        return before

    def _until(self, so: Callable[[], bool], name: str, pause: Callable[[], float] = lambda: POLL_S) -> None:
        """Poll until it is so; an API server that is away for a while is borne, a failed application is not."""
        end, problem = time.monotonic() + READY_S, "it never answered"
        while not so():
            try:
                status, problem = self._status(name)
            except VerificationFailed:
                raise
            except UnmuffleError as error:  # of whoever handed the object in: the API server is away, say
                status, problem = "", str(error)
            if status == "DEPLOY_FAILED":
                raise VerificationFailed(f"The application {name} was not deployed: {problem}")
            if time.monotonic() > end:
                raise VerificationFailed(f"The application {name} was not ready within {READY_S:.0f} s: {problem}")
            time.sleep(pause())

    def _status(self, name: str) -> tuple[str, str]:
        """State and message of an application, once the operator has seen the present config."""
        found = self._service.get()
        if found is None:
            raise VerificationFailed("The RayService was deleted.")
        status = found.get("status") or {}
        if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
            return "", "the operator has not seen the change yet"
        applications = (status.get("activeServiceStatus") or {}).get("applicationStatuses") or {}
        one = applications.get(name) or {}
        return str(one.get("status", "")), str(one.get("message") or one.get("status") or "no status yet")

    def _answers(self, route: str, wanted: ServedVersion) -> bool:
        models = self._models(route)
        return models is not None and models.models[0].version == wanted

    def _models(self, route: str) -> Models | None:
        try:
            response = self._http.get(f"{route}/v1/models")
            return Models.parse(response.content, "/v1/models") if response.status_code == 200 else None
        except (httpx.HTTPError, BadSetting):
            return None

    def _ask(self, route: str) -> Waveform:
        """The answer to a second of speech."""
        body, media_type = wire.encode(probe(), PROBE_RATE, flac=False)
        try:
            response = self._http.post(f"{route}/v1/enhance", content=body, headers={"Content-Type": media_type})
        except httpx.HTTPError as error:
            raise VerificationFailed(f"The service at {self._http.base_url} does not answer: {error}") from error
        if response.status_code != 200:
            raise VerificationFailed(f"Expected enhanced speech; found {response.status_code}: {response.text[:500]}")
        return audio.read(response.content, "The answer")[0]


def _application(config: Any, name: str) -> dict[str, Any]:
    """The application of this name; `VerificationFailed` where the config is not one of ours."""
    applications = (config.get("applications") or []) if isinstance(config, dict) else []
    found = [each for each in applications if each.get("name") == name]
    if not found or [each.get("name") for each in found[0].get("deployments") or []] != [DEPLOYMENT]:
        names = [each.get("name") for each in applications]
        raise VerificationFailed(
            f"Expected a serveConfigV2 with the application {name!r}, in it the deployment {DEPLOYMENT!r} alone; found"
            f" the applications {names}."
        )
    application: dict[str, Any] = found[0]
    return application


def _others(config: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [each for each in config["applications"] if each.get("name") != name]


def _tell(application: dict[str, Any], version: ServedVersion) -> None:
    """Name the version in the deployment's `user_config`; limits and whatever else stands there stay."""
    deployment = application["deployments"][0]
    deployment["user_config"] = (deployment.get("user_config") or {}) | {"version": version.model_dump(mode="json")}


def _text(config: dict[str, Any]) -> str:
    return str(yaml.safe_dump(config, sort_keys=False))
