"""What was measured of source files, kept in the home: a second scan of an unchanged folder costs a listing.

`probes.db`, an sqlite file, holds what was found of each address at which size and time. It is believed only if both
are as they were, and if the time lay two seconds back when the file was read: it may change twice in one tick of its
clock. Nothing rests on this memory: the checksum of a recording is compared whenever it is loaded, and without the
database (deleted, read-only, of another version) everything is read again.
"""

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from simulation.home import Home
from simulation.sources.finding import Candidate

log = logging.getLogger(__name__)

VERSION = 1
"""Raised when anything in `measures.py` or `measuring.py` changes what is found; what was kept before is forgotten."""

SETTLED_S = 2.0
"""A file younger than this when it was read may have changed since within the same tick; S3 counts whole seconds."""

WAIT_S = 10.0
"""How long one scan waits for another to finish writing."""

TABLE = """
    CREATE TABLE IF NOT EXISTS files
        (address TEXT, kind TEXT, size INTEGER, modified REAL, found TEXT, PRIMARY KEY (address, kind))
"""


class Memory:
    """The open file, or nothing where it cannot be had."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def of_this_home(cls) -> "Iterator[Memory]":
        """The memory of UNMUFFLE_HOME; one that forgets everything where the home cannot be written."""
        try:
            database = _opened()
        except (sqlite3.Error, OSError) as error:
            log.info("What is measured of the sources is not remembered: %s", error)
            yield cls(None)
            return
        try:
            yield cls(database)
        finally:
            database.close()

    def recall(self, kind: str, candidates: Sequence[Candidate]) -> list[str | None]:
        """What was found of each file that is as it was then, in order; None for the others."""
        if self._database is None:
            return [None] * len(candidates)
        query = "SELECT address, size, modified, found FROM files WHERE kind = ?"
        with suppress(sqlite3.Error):
            rows = self._database.execute(query, (kind,))
            known: dict[tuple[str, int, float] | None, str] = {
                (address, size, modified): found for address, size, modified, found in rows
            }
            return [known.get(_identity(one)) for one in candidates]
        return [None] * len(candidates)

    def keep(self, kind: str, found: Iterable[tuple[Candidate, bytes]]) -> None:
        """Remember what was found of these files, as JSON."""
        settled = time.time() - SETTLED_S
        rows = [
            (one.address, kind, one.stored.size, one.stored.modified, text.decode())
            for one, text in found
            if one.stored and one.stored.modified < settled
        ]
        if self._database is None or not rows:
            return
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            log.info("What was measured of the sources is not remembered: %s", error)


def _opened() -> sqlite3.Connection:
    folder = Home.current().path
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "probes.db", timeout=WAIT_S)
    try:
        if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            database.executescript(f"DROP TABLE IF EXISTS files; PRAGMA user_version = {VERSION}")
        database.execute(TABLE)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _identity(one: Candidate) -> tuple[str, int, float] | None:
    return (one.address, one.stored.size, one.stored.modified) if one.stored else None
