"""How far a candidate's answer to one request may be from the champion's."""

from simulation.schema import Schema


class Tolerances(Schema):
    """How far an answer may be from the champion's before it fails a check on one request."""

    level_db: float = 3.0
    """Median difference over the frames in which the champion's answer is loud."""
    muted_share: float = 0.2
    """Of those frames: 40 dB or more below the champion's."""
    clipped_share: float = 0.001
    """Samples at full scale beyond those of the champion."""
    delay_ms: float = 5.0
    times_slower: float = 3.0
    slack_s: float = 0.1
    """Slower by less is the way to another process, and no fault."""
    quality: float = 0.2
    """DNSMOS OVRL below the champion's, in MOS."""

    def longest_s(self, champion_s: float) -> float:
        """How long an answer may take where the champion took `champion_s`."""
        return self.times_slower * champion_s + self.slack_s
