"""Whether a version learnt from the corpus that it is scored on: what makes a score zero-shot, or worthless.

A version's record says which plan its corpus had, and a simulated corpus says which plan it has. So the record answers
for mixtures, not for recordings: two scenarios over the same sources are two corpora, whose splits hold the same
speakers (never the train split of one the test split of the other, since groups fall into splits by their names).
"""

from collections.abc import Mapping
from typing import Any, Literal

Acquaintance = Literal["learnt from it", "another split of it", "another corpus"]


def acquaintance(facts: Mapping[str, Any], corpus: Any) -> Acquaintance | None:
    """What the version with these facts has to do with a corpus; None where its record does not say.

    Pairs of somebody's own, which no plan made, are always another corpus.
    """
    learnt = facts.get("plan_digest")
    if not learnt:
        return None
    record = getattr(corpus, "record", None)
    if record is None or record.plan_digest != learnt:
        return "another corpus"
    return "learnt from it" if corpus.split == "train" else "another split of it"
