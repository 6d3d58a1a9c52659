"""Versions and aliases: the registry. Its questions cannot wait for an outage to end: they raise `TrackingProblem`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulation import storage
from simulation.errors import CheckpointIncompatible, NoChampion, NotThere, UnknownName
from training.registry import CHAMPION, DEFAULT_USE, USES, Version, known_use, parse_reference
from training.tracking.logged_models import LoggedModels, shortened


class Tracking(LoggedModels):
    """Runs and versions on one MLflow; without arguments the one of the current home."""

    def register(
        self,
        use: str,
        network: str,
        address: str,
        digest: str,
        run_id: str,
        tags: Mapping[str, str],
        card: str = "",
        figures: Mapping[str, float] | None = None,
    ) -> Version:
        """Register the checkpoint folder at `address` as a version of `use`, made by `run_id`.

        `digest` is the sha256 of its weights; `tags` holds `stage_key`, `recipe`, `corpus_digest`; `card` is Markdown,
        shown on the version's page, and `figures` are those of the released weights. A stage key that is registered
        already gives back its version, so that a repeated stage registers once.
        """
        sample_rate = known_use(use).sample_rate
        self.replay()
        known = self.versions(use)
        for version in known:
            if version.tags.get("stage_key") == tags["stage_key"]:
                return version
        number = 1 + max((int(v.tags["number"]) for v in known if v.network == network), default=0)
        facts = {"network": network, "number": str(number), "address": address, "weights_sha256": digest}
        with self._answers():
            self._ensure_model(use, sample_rate)
            run_id = self._real_id(run_id)
            logged = self._logged_model(
                run_id, network, {**tags, **facts, "use": use}, sample_rate, card, figures or {}
            )
            created = self._client.create_model_version(
                use,
                logged.artifact_location,
                run_id,
                tags={**tags, **facts, "logged_model": logged.model_id},
                description=shortened(card) or None,
                await_creation_for=0,
                model_id=logged.model_id,
            )
        return self._numbered(_version(created))

    def _numbered(self, version: Version) -> Version:
        """The version under a number of its own: of two that were registered at once, the later one gives way."""
        while True:
            family = [other for other in self.versions(version.use) if other.network == version.network]
            earlier = {other.tags["number"] for other in family if int(other.version) < int(version.version)}
            if version.tags["number"] not in earlier:
                return version
            number = str(1 + max(int(other.tags["number"]) for other in family))
            self.tag_version(version, {"number": number})
            version = replace(version, tags={**version.tags, "number": number})

    def versions(self, use: str) -> list[Version]:
        """All versions of a use, oldest first; what somebody else registered under its name is none of ours."""
        known_use(use)
        with self._answers():
            found = self._client.search_model_versions(f"name='{use}'")
        ours = [_version(each) for each in found if "number" in each.tags]
        return sorted(ours, key=lambda version: int(version.version))

    def version(self, use: str, number: str) -> Version:
        """The version with this registry number."""
        known = {version.version: version for version in self.versions(use)}
        if str(number) not in known:
            raise UnknownName(f"version of {use}", str(number), known)
        return known[str(number)]

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags on a registered version."""
        with self._answers():
            for name, value in tags.items():
                self._client.set_model_version_tag(version.use, version.version, name, value)

    def aliases(self, use: str) -> dict[str, str]:
        """alias -> registry number of the version it points at."""
        known_use(use)
        with self._answers():
            models = self._client.search_registered_models(f"name='{use}'")
        return {name: str(number) for model in models for name, number in model.aliases.items()}

    def alias(self, use: str, alias: str) -> Version | None:
        """The version an alias points at, or None."""
        number = self.aliases(use).get(alias)
        return None if number is None else self.version(use, number)

    def set_alias(self, use: str, alias: str, version: str) -> None:
        """Point an alias at a version, in one call: the old and the new answer have nothing between them."""
        with self._answers():
            self._client.set_registered_model_alias(use, alias, version)

    def delete_alias(self, use: str, alias: str) -> None:
        """Take an alias away; one that does not exist is fine."""
        if alias in self.aliases(use):
            with self._answers():
                self._client.delete_registered_model_alias(use, alias)

    def resolve(self, model: str, use: str = DEFAULT_USE) -> Version:
        """What a person means by `champion`, `<use>/champion`, `dm/3`, or the address of a checkpoint folder."""
        known_use(use)
        reference = parse_reference(model, use)
        if reference is None:
            return self._unregistered(model, use)
        if reference.alias:
            return self._by_alias(reference.use, reference.alias)
        for version in self.versions(reference.use):
            if (version.network, version.tags["number"]) == (reference.network, reference.number):
                return version
        raise UnknownName(f"model for {reference.use}", model, self._model_names(reference.use))

    def _by_alias(self, use: str, alias: str) -> Version:
        version = self.alias(use, alias)
        if version is not None:
            return version
        if alias != CHAMPION:
            raise UnknownName(f"model for {use}", alias, self._model_names(use))
        raise NoChampion(
            f"Nothing has been promoted for {use} yet. Train and gate a first version with `unmuffle run`, or name a "
            f"model instead of the champion: `unmuffle models` lists those that exist."
        )

    def _unregistered(self, model: str, use: str) -> Version:
        looks_like_address = "://" in model or model.startswith((".", "/", "~")) or Path(model).is_dir()
        if not looks_like_address:
            raise UnknownName("model", model, self._model_names(use))
        address = storage.normal(model)
        try:
            record = json.loads(storage.read(storage.join(address, "config.json")))
            network, digest = record["model"]["kind"], record["weights_sha256"]
        except NotThere:
            what = "checkpoint folder (one with config.json in it)"
            raise UnknownName(what, model, self._model_names(use)) from None
        except (ValueError, KeyError, TypeError):
            raise CheckpointIncompatible(
                f"{address}/config.json is not the record of a version. Expected a folder that `unmuffle train` wrote; "
                f"`unmuffle models` lists the registered ones."
            ) from None
        return Version(use, version="", network=network, address=address, weights_sha256=digest, run_id="")

    def _model_names(self, use: str) -> list[str]:
        return [*self.aliases(use), *(version.name for version in self.versions(use))]

    def _ensure_model(self, use: str, sample_rate: int) -> None:
        if not self._client.search_registered_models(f"name='{use}'"):
            tags = {"sample_rate": str(sample_rate)}
            self._client.create_registered_model(use, tags, USES[use].description)


def _version(found: Any) -> Version:
    tags = dict(found.tags)
    return Version(
        use=found.name,
        version=str(found.version),
        network=tags["network"],
        address=tags["address"],
        weights_sha256=tags["weights_sha256"],
        run_id=found.run_id or "",
        tags=tags,
    )
