"""`serveConfigV2` of a RayService: valid for Ray Serve, and without keys that Serve would leave out of account."""

from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from serving.messages import ServiceConfig
from simulation.errors import BadSetting


def unknown_keys(text: str) -> Iterator[str]:
    """What is wrong with the config, in the words of whoever must mend it."""
    from ray.serve.schema import ServeDeploySchema

    try:
        config = yaml.safe_load(text)
        ServeDeploySchema.model_validate(config)
    except (yaml.YAMLError, ValidationError, ValueError) as error:
        yield f"Ray Serve refuses it: {str(error).splitlines()[0]}"
        return
    yield from _unknown(config, ServeDeploySchema, "")
    for application in config.get("applications", ()):
        for deployment in application.get("deployments", ()):
            if "user_config" in deployment and deployment.get("name") == "enhance":
                try:
                    ServiceConfig.parse(deployment["user_config"], "user_config of enhance")
                except BadSetting as error:
                    yield str(error)


def _unknown(value: Any, model: type[BaseModel], where: str) -> Iterator[str]:
    """Walk the document beside Serve's own models."""
    for key, one in value.items():
        if key not in model.model_fields:
            yield f"{where}{key}: Ray Serve knows no such key, and would not say so"
            continue
        inner = _model_in(model.model_fields[key].annotation)
        if inner is None:
            continue
        for each in one if isinstance(one, list) else [one]:
            if isinstance(each, dict):
                yield from _unknown(each, inner, f"{where}{key}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone, optional or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
