"""The nouns of the registry: uses, versions, aliases, and how a person names a model.

One registered model per use; each of its versions says in its tags which network it is and where its weights lie.
"""

import re
from dataclasses import dataclass, field

from simulation.errors import UnknownName


@dataclass(frozen=True)
class Use:
    """What a registered model is for; versions of one use can replace one another."""

    description: str
    sample_rate: int


USES = {
    "denoise-16k": Use("Noise, reverberation and band limits removed from wide-band speech.", 16_000),
    "fullband-48k": Use("Full-band speech restored at 48 kHz.", 48_000),
}
DEFAULT_USE = "denoise-16k"

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS_CHAMPION = "previous_champion"
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS_CHAMPION)


@dataclass(frozen=True)
class Version:
    """One immutable model: registered, or (with an empty `version`) a checkpoint folder that never was."""

    use: str
    version: str
    """The registry's own number within the use; "" when not registered."""
    network: str
    address: str
    """Folder with weights.safetensors and config.json."""
    weights_sha256: str
    run_id: str
    tags: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """How people call it: `dm/3` is the third version of network dm; an unregistered one goes by its address."""
        return f"{self.network}/{self.tags['number']}" if self.version else self.address


@dataclass(frozen=True)
class Reference:
    """A model as a person named it: an alias, or the n-th version of a network, within a use."""

    use: str
    alias: str = ""
    network: str = ""
    number: str = ""


_NUMBERED = re.compile(r"(?P<network>[^/]+)/(?P<number>[1-9][0-9]*)")


def known_use(use: str) -> Use:
    """The use of this name, or `UnknownName`."""
    if use not in USES:
        raise UnknownName("use", use, USES)
    return USES[use]


def parse_reference(text: str, use: str = DEFAULT_USE) -> Reference | None:
    """`champion`, `dm/3`, and either behind `<use>/`; None for what is no registry name at all."""
    first, slash, rest = text.partition("/")
    if slash and first in USES:
        use, text = first, rest
    if text in ALIASES:
        return Reference(use, alias=text)
    match = _NUMBERED.fullmatch(text)
    return Reference(use, network=match["network"], number=match["number"]) if match else None
