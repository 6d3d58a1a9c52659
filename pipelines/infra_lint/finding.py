"""One thing that is wrong."""

from dataclasses import dataclass, replace
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """Which rule, about which object, and what was found and expected."""

    rule: str
    about: str
    message: str
    overlay: str = ""

    def within(self, overlay: str) -> "Finding":
        """The same, found in this overlay."""
        return replace(self, overlay=overlay)

    def __str__(self) -> str:
        return f"{self.overlay or '-'}: {self.about}: {self.message} [{self.rule}]"


def named(manifest: Manifest) -> str:
    """Kind, namespace and name, for people."""
    metadata = manifest.get("metadata", {})
    return f"{manifest.get('kind')} {metadata.get('namespace', '-')}/{metadata.get('name')}"
