"""Bearer keys: who asks, and for what they may.

Keys stand in `<home>/keys.json`, or in the file that UNMUFFLE_KEYS names, as digests; `python -m serving.keys NAME`
prints a new key once and writes its digest there, `python -m serving.keys --remove NAME` takes it back. The file is
looked at again when it changes. Without it no key is asked for, and then only requests from this machine, to this
machine by name, and from no other site's page are heard. A file that UNMUFFLE_KEYS names and that is not there, or one
that is damaged, lets nobody in.
"""

import argparse
import hashlib
import ipaddress
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from serving.wire import Refused
from simulation import storage
from simulation.errors import BadSetting, UnknownName, UnmuffleError
from simulation.home import Home
from simulation.schema import Schema

log = logging.getLogger(__name__)

Scope = Literal["enhance", "stream", "jobs", "read"]
"""POST /v1/enhance; WS /v1/stream; the jobs; what is loaded and how it does."""
SCOPES: tuple[Scope, ...] = ("enhance", "stream", "jobs", "read")


class Key(Schema):
    """One caller."""

    name: str
    sha256: str
    """Of the key."""
    scopes: tuple[Scope, ...] = SCOPES


class Keys(Schema):
    """The file."""

    keys: tuple[Key, ...] = ()


class Doorkeeper:
    """Knows the keys of this home."""

    def __init__(self) -> None:
        self._path = keys_path()
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] | None = None

    def caller(self, connection: HTTPConnection, scope: Scope, told: str = "") -> str:
        """Name of who asks. Raises `Refused`: 401 without a known key, 403 with one that may not do this, 503 where the
        file of keys cannot be read.

        `told` is a key from the first message of a stream: pages cannot send the header there.
        """
        keys = self._known()
        if keys is None:
            return _local(connection)
        word, _, secret = connection.headers.get("authorization", "").partition(" ")
        secret = secret.strip() if word.lower() == "bearer" else told
        key = keys.get(digest(secret))
        if key is None:
            raise Refused(401, "no_key", "Expected a header Authorization: Bearer KEY with a key of this service.")
        if scope not in key.scopes:
            raise Refused(403, "not_allowed", f"The key {key.name} may {', '.join(key.scopes)}; this needs {scope}.")
        return f"key {key.name}"

    def _known(self) -> dict[str, Key] | None:
        """By digest; None where no file is meant to be."""
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._seen != seen:
                keys = Keys.parse(self._path.read_bytes(), str(self._path)).keys
                ours = Key(name="unmuffle", sha256=digest(own_key()))
                self._keys, self._seen = {key.sha256: key for key in (*keys, ours)}, seen
            return self._keys
        except FileNotFoundError:
            self._keys = self._seen = None
            if not os.environ.get("UNMUFFLE_KEYS"):
                return None
            log.error("UNMUFFLE_KEYS names %s, where nothing lies. Make it: python -m serving.keys NAME", self._path)
        except (OSError, BadSetting) as error:
            self._keys = self._seen = None
            log.error("The keys cannot be read: %s", error)
        raise Refused(503, "internal_error", "The keys of this service cannot be read; its log says why.")


def keys_path() -> Path:
    """Where the keys of this home stand."""
    return Path(os.environ.get("UNMUFFLE_KEYS") or Home.current().path / "keys.json")


def digest(secret: str) -> str:
    """What is kept of a key: sha256, which is enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(name: str, scopes: tuple[Scope, ...] = SCOPES) -> str:
    """A new key, in place of one of the same name; nobody can show it again."""
    secret = secrets.token_urlsafe(32)
    new = Key(name=name, sha256=digest(secret), scopes=scopes)
    _write(*(key for key in _written() if key.name != name), new)
    return secret


def remove(name: str) -> None:
    """Take a key back, from the next request on; without any key left nobody is let in. Raises `UnknownName`."""
    known = _written()
    if name not in (key.name for key in known):
        raise UnknownName("key", name, [key.name for key in known])
    _write(*(key for key in known if key.name != name))


def _written() -> tuple[Key, ...]:
    path = keys_path()
    return Keys.parse(path.read_bytes(), str(path)).keys if path.exists() else ()


def _write(*keys: Key) -> None:
    storage.replace(storage.normal(str(keys_path())), Keys(keys=keys).canonical())


def own_key() -> str:
    """By which promotions ask the service of their home; it lies in `<home>/serve.key`, for its owner alone."""
    path = Home.current().path / "serve.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".unmuffle-") as file:  # made for its owner alone
            file.write(secrets.token_urlsafe(32))
            file.flush()
            with suppress(FileExistsError):  # somebody else was a moment faster
                os.link(file.name, path)
    return path.read_text()


def own_headers() -> dict[str, str]:
    """What a request of this home's own must carry: nothing where there are no keys."""
    return {"Authorization": f"Bearer {own_key()}"} if keys_path().exists() else {}


def _local(connection: HTTPConnection) -> str:
    """The caller, where it is this machine; a page of another site must not speak for whoever looks at it."""
    host = connection.client.host if connection.client else ""
    named = _name(f"//{connection.headers.get('host', '')}")
    origin = connection.headers.get("origin")
    if not (_loopback(host) and _loopback(named)) or (origin and not _loopback(_name(origin))):
        raise Refused(
            401,
            "no_key",
            "This service has no keys, and therefore hears only this machine. Make a key where it runs:"
            " python -m serving.keys NAME",
        )
    return host


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main(words: Sequence[str]) -> None:
    """Make a key and print it, or take one back."""
    parser = argparse.ArgumentParser(prog="python -m serving.keys", description="Make a key of this home's service.")
    parser.add_argument("name", help="whose it is; a key of that name is replaced")
    parser.add_argument("scopes", nargs="*", metavar="SCOPE", help=f"of {', '.join(SCOPES)}; without any: all of them")
    parser.add_argument("--remove", action="store_true", help="take the key of that name back")
    given = parser.parse_args(words)
    if wrong := [scope for scope in given.scopes if scope not in SCOPES]:
        parser.error(f"{', '.join(wrong)}: expected scopes of {', '.join(SCOPES)}")
    try:
        if given.remove:
            remove(given.name)
        else:
            print(create(given.name, tuple(scope for scope in SCOPES if scope in given.scopes) or SCOPES))
    except UnmuffleError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
