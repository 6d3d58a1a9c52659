"""`docs/degradations.md`: what each degradation does, where it comes from, and what can be drawn.

Made by `python -m simulation.degradations.table >docs/degradations.md`; a test holds the document equal to the code.
"""

import inspect
import re
import typing

from simulation.degradations import AnyDegradation
from simulation.degradations.base import Choice, Degradation, Drawable
from simulation.schema import OneOf, Range

MEMBERS: tuple[type[Degradation], ...] = typing.get_args(typing.get_args(AnyDegradation)[0])

HEAD = """# Degradations

What turns clean into noisy. In a scenario, a field holds a value, or a `Range` or `OneOf` it is drawn from; below stand
the defaults. Every member keeps the length, stays aligned with the target at lag 0, reads no randomness when it is
applied, and has beside its own fields a `label` (which keys its draws) and a `probability`. The docstring of each says
where it deviates from its source.

"""


def document() -> str:
    """The whole of `docs/degradations.md`."""
    lines = ["| kind | does | source |", "| --- | --- | --- |"]
    for member in sorted(MEMBERS, key=kind):
        summary, source = _sentences(member)
        lines.append(f"| [{kind(member)}](#{kind(member)}) | {summary} | {source} |")
    return HEAD + "\n".join(lines) + "\n" + "".join(_section(member) for member in sorted(MEMBERS, key=kind))


def kind(member: type[Degradation]) -> str:
    """What a scenario calls it."""
    return str(member.model_fields["kind"].default)


def _sentences(member: type[Degradation]) -> tuple[str, str]:
    """First sentence of the docstring, and where it comes from, up to the first full stop."""
    paragraphs = [" ".join(each.split()) for each in (inspect.getdoc(member) or "").split("\n\n")]
    source = next((each.removeprefix("Source: ") for each in paragraphs if each.startswith("Source: ")), "")
    return paragraphs[0].split(";")[0].rstrip("."), re.split(r"\.(?: |$)", source)[0]


def _section(member: type[Degradation]) -> str:
    lines = [f"\n## {kind(member)}\n", "| field | default | meaning |", "| --- | --- | --- |"]
    own = [name for name in member.model_fields if name not in Degradation.model_fields]
    for name in own:
        field = member.model_fields[name]
        words = _words(field.annotation) if isinstance(field.default, str) else ()
        default = shown(field.default) + (f" (of {', '.join(words)})" if words else "")
        lines.append(f"| `{name}` | {default} | {' '.join((field.description or '').split())} |")
    return "\n".join(lines) + "\n"


def _words(annotation: object) -> tuple[str, ...]:
    """What a field with a choice of words may be."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return tuple(word for part in typing.get_args(annotation) for word in _words(part))


def shown(value: object) -> str:
    """A default as it reads best in a table."""
    if isinstance(value, Range):
        return f"{value.low:g} to {value.high:g}"
    if isinstance(value, OneOf):
        return "one of " + ", ".join(f"{each}" for each in value.values)
    if isinstance(value, Choice):
        return f"a recording of {value.of}" if value.of != "rir" else "an RIR"
    if isinstance(value, Drawable):
        return ", ".join(f"{name} {shown(getattr(value, name))}" for name in type(value).model_fields)
    if isinstance(value, tuple) and len(set(value)) == 1:
        return f"{len(value)} of ({shown(value[0])})"
    if isinstance(value, tuple):
        return ", ".join(map(shown, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(document(), end="")
