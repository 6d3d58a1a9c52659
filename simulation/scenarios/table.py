"""`docs/scenarios.md`: the named scenarios, where each comes from, what happens in it and where it deviates.

Made by `python -m simulation.scenarios.table >docs/scenarios.md`; a test holds the document equal to the code.
"""

from collections.abc import Iterable

from simulation.composition import Part, Some
from simulation.scenario import Scenario
from simulation.scenarios import SCENARIOS, about

HEAD = """# Scenarios

Recipes for corpora, by name: `unmuffle simulate NAME`. At 16 kHz they stand over the sample corpus, or over folders of
your own; those whose name ends in 48 need sources of 48 kHz (`--speech FOLDER --noise FOLDER`). What happens is listed
in order of operation, with the share of rows where it is not all of them. The ranges are in `unmuffle scenarios
--json`, which is also where to begin a scenario of your own.

"""


def document() -> str:
    """The whole of `docs/scenarios.md`."""
    lines = ["| scenario | Hz | is |", "| --- | --- | --- |"]
    for name, build in SCENARIOS.items():
        lines.append(f"| [{name}](#{name}) | {build().sample_rate} | {about(name).summary} |")
    return HEAD + "\n".join(lines) + "\n" + "".join(_section(build()) for build in SCENARIOS.values())


def _section(scenario: Scenario) -> str:
    said = about(scenario.name)
    lines = [f"\n## {scenario.name}\n", f"Source: {said.source}"]
    if said.deviates:
        lines.append(f"\nDeviates: {said.deviates}")
    lines += ["\n| case | share | what happens |", "| --- | --- | --- |"]
    for case in scenario.cases:
        where = "" if len(case.splits) == 3 else f" ({', '.join(case.splits)})"
        lines.append(f"| {case.name}{where} | {case.share} | {_parts(case.degradations)} |")
    return "\n".join(lines) + "\n"


def _parts(parts: Iterable[Part]) -> str:
    return ", ".join(_part(part) for part in parts)


def _part(part: Part) -> str:
    share = f" {part.probability:g}" if part.probability < 1 else ""
    if not isinstance(part, Some):
        return f"{part.name}{share}"
    count = "all" if part.count is None else getattr(part.count, "values", (part.count,))
    many = count if isinstance(count, str) else " or ".join(map(str, count))
    order = " in drawn order" if part.order == "drawn" else ""
    return f"{many} of ({_parts(part.of)}){order}{share}"


if __name__ == "__main__":
    print(document(), end="")
