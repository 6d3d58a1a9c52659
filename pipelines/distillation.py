"""What a distillation left, for the person who asked: the student, what it lost and saved, and what to type next."""

from typing import Any

from pipelines.answer import Answer, line, stacked
from simulation import storage
from training.distillation_report import DistillationReport


def outcome(outputs: dict[str, Any], corpus: str) -> Answer:
    """Out of the outputs of the stage."""
    report = DistillationReport.parse(storage.read(outputs["report"]), outputs["report"])
    lines = (
        outputs["name"],
        outputs["version"],
        f"Teachers asked for {sum(outputs['asked'].values())} rows; what they said is kept for the next student",
        *(f"  {each}" for each in report.lines()),
        f"Report:   {outputs['report'].removeprefix('file://')}",
        f"Score it: unmuffle evaluate {outputs['name']} --corpus {corpus.partition('#')[0]} --out scores",
    )
    return Answer(outputs | {"report": report.model_dump(mode="json")}, stacked(*map(line, lines)))
