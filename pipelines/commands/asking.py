"""Commands that ask for a run of the pipeline: every field of a `Request` is an option of theirs."""

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from pipelines.request import Request

Command = Callable[..., None]


def asking(*without: str) -> Callable[[Command], Command]:
    """Give a command `f(request, **own)` the fields of a request as options, before its own; but those named here."""
    fields = {name: field for name, field in Request.model_fields.items() if name not in without}

    def with_options(command: Command) -> Command:
        def typed(**values: Any) -> None:
            asked = {name: values.pop(name) for name in fields}
            command(Request.parse(asked, "what is asked"), **values)

        _, *own = signature(command).parameters.values()
        options = [_option(name, field) for name, field in fields.items()]
        options += [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own]
        typed.__signature__ = Signature(options)  # type: ignore[attr-defined]
        typed.__annotations__ = {one.name: one.annotation for one in options}
        typed.__name__, typed.__doc__ = command.__name__, command.__doc__
        return typed

    return with_options


def _option(name: str, field: FieldInfo) -> Parameter:
    """A field as typer reads it; several values are typed with commas."""
    several = isinstance(field.default, tuple)
    lowest = next((one.ge for one in field.metadata if hasattr(one, "ge")), None)
    info = typer.Option(f"--{name.replace('_', '-')}", help=field.description, min=lowest)
    annotation = Annotated[str if several else field.annotation, info]  # type: ignore[valid-type]
    default = ",".join(field.default) if several else field.default
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
