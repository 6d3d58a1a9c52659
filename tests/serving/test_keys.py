"""The file of keys: made, taken back, missing, damaged."""

import os
import stat

import pytest
from starlette.requests import HTTPConnection

from serving import keys
from serving.keys import Doorkeeper
from serving.wire import Refused
from simulation.errors import UnknownName
from simulation.home import Home


def asking(secret: str = "") -> HTTPConnection:
    """A request from this machine."""
    headers = [(b"host", b"localhost:8000")] + ([(b"authorization", f"Bearer {secret}".encode())] if secret else [])
    return HTTPConnection({"type": "http", "headers": headers, "client": ("127.0.0.1", 1)})


def test_the_command_makes_a_key_and_takes_it_back(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints opens the door until it is removed; the last one that goes does not open the door to all."""
    keys.main(["radio", "stream", "enhance"])
    secret, door = capsys.readouterr().out.strip(), Doorkeeper()
    assert door.caller(asking(secret), "stream") == "key radio"
    keys.main(["--remove", "radio"])
    for given in (secret, ""):
        with pytest.raises(Refused) as refused:
            door.caller(asking(given), "stream")
        assert refused.value.status == 401


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--help"], "SCOPE"),
        ([], "name"),
        (["radio", "everything"], "expected scopes of enhance, stream, jobs, read"),
        (["--remove", "nobody"], "There is no key named 'nobody'. Known: none yet."),
    ],
)
def test_the_command_says_what_to_type(
    home: Home, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """Nothing that was mistyped makes a key."""
    with pytest.raises(SystemExit):
        keys.main(words)
    said = capsys.readouterr()
    assert told in said.out + said.err and "Traceback" not in said.err
    assert not keys.keys_path().exists()


def test_a_damaged_file_is_a_sentence_of_the_command(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """It stays as it is."""
    keys.keys_path().parent.mkdir(parents=True, exist_ok=True)
    keys.keys_path().write_text("{")
    with pytest.raises(SystemExit):
        keys.main(["radio"])
    assert str(keys.keys_path()) in capsys.readouterr().err and keys.keys_path().read_text() == "{"


@pytest.mark.parametrize("there", [None, "{", '{"keys": [{"name": "a"}]}'])
def test_keys_that_cannot_be_read_let_nobody_in(home: Home, monkeypatch: pytest.MonkeyPatch, there: str | None) -> None:
    """Not even this machine, where a file was named that is missing or damaged; the caller is told no path."""
    path = home.path / "elsewhere.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("UNMUFFLE_KEYS", str(path))
    if there is not None:
        path.write_text(there)
    with pytest.raises(Refused) as refused:
        Doorkeeper().caller(asking(), "enhance")
    assert refused.value.status == 503 and str(path) not in str(refused.value)


def test_a_file_of_the_same_size_and_time_is_seen_to_be_another(home: Home) -> None:
    """A key that was replaced within a tick of the clock of the file system is no longer heard."""
    old, door = keys.create("radio"), Doorkeeper()
    assert door.caller(asking(old), "read")
    before = keys.keys_path().stat()
    new = keys.create("radio")
    os.utime(keys.keys_path(), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert door.caller(asking(new), "read")
    with pytest.raises(Refused):
        door.caller(asking(old), "read")


def test_the_homes_own_key_is_for_its_owner_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first moment on: nothing that others could read is ever made, and one who is later finds it."""
    modes, link = [], os.link

    def seen(source: str, target: str) -> None:
        modes.append(stat.S_IMODE(os.stat(source).st_mode))
        link(source, target)

    monkeypatch.setattr(os, "link", seen)
    assert len(keys.own_key()) >= 40 and keys.own_key() == keys.own_key()
    assert modes == [0o600] and stat.S_IMODE((home.path / "serve.key").stat().st_mode) == 0o600
    assert [path.name for path in home.path.iterdir()] == ["serve.key"]


def test_a_key_that_is_taken_back_must_be_there(home: Home) -> None:
    """The known ones are named."""
    keys.create("radio")
    with pytest.raises(UnknownName, match="Did you mean 'radio'"):
        keys.remove("rado")
