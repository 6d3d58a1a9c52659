"""Clean speech -> degraded corpora in object storage. The lowest layer: it imports none of the others."""
