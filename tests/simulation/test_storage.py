"""Object storage: the same promises for a folder and for a bucket, then what is special to each."""

import errno
import io
import json
import os
import random
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.response
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.stub import Stubber

from simulation import bucket, storage, writer_lock
from simulation.errors import BadSetting, NotAllowed, NotThere, StorageError, StoreUnreachable
from simulation.place import NotConditional


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of each kind."""
    if request.param == "folder":
        return storage.normal(str(tmp_path / "store"))
    return storage.join(request.getfixturevalue("s3_store"), "store")


# ---- addresses ------------------------------------------------------------------------------------------------------


def test_a_path_becomes_an_absolute_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, absolute, untidy and home-relative paths, and addresses themselves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert storage.normal("./x") == f"file://{tmp_path}/x"
    assert storage.normal("/a/../b//c/") == "file:///b/c"
    assert storage.normal("//a") == "file:///a"
    assert storage.normal("~/x") == "file:///home/someone/x"
    assert storage.normal("file:///a/./b/") == "file:///a/b"
    assert storage.normal("s3://bucket/a/b/") == "s3://bucket/a/b"
    assert storage.normal("s3://bucket") == "s3://bucket"


@pytest.mark.parametrize("text", ["", " ", "gs://bucket/x", "s3:/bucket", "s3:///x", "file://x", "https://x/y", "a\0b"])
def test_what_is_no_address_is_answered_with_what_is(text: str) -> None:
    """Any other scheme, a missing slash or bucket, and an empty text are told the forms that exist."""
    with pytest.raises(BadSetting, match=r"file:///absolute/path.*s3://bucket/key"):
        storage.normal(text)


def test_a_path_is_not_taken_for_an_address() -> None:
    """Functions want full addresses: a relative path means another file in another process."""
    with pytest.raises(BadSetting, match="Expected file:///absolute/path"):
        storage.read("x/y")


def test_parts_are_joined_by_one_slash() -> None:
    """Whatever slashes and empty parts come in."""
    assert storage.join("s3://bucket/", "/a/", "", "b") == "s3://bucket/a/b"
    assert storage.join("file:///a") == "file:///a"


# ---- promises of every store ----------------------------------------------------------------------------------------


def test_what_is_written_is_read(store: str) -> None:
    """All of it, a part of it, and many at once in order."""
    addresses = [storage.join(store, f"deep/{name}") for name in "cab"]
    for position, address in enumerate(addresses):
        storage.replace(address, bytes(range(position, position + 10)))
    assert storage.read(addresses[1]) == bytes(range(1, 11))
    assert storage.read_range(addresses[0], 3, 4) == bytes([3, 4, 5, 6])
    assert storage.read_range(addresses[0], 3, 0) == b""
    assert storage.read_many(addresses) == [bytes(range(position, position + 10)) for position in range(3)]


@pytest.mark.parametrize("start", [5, 50])
def test_a_range_beyond_the_end_is_an_error(store: str, start: int) -> None:
    """Fewer bytes than promised are never handed over in silence."""
    address = storage.join(store, "short")
    storage.replace(address, b"0123456789")
    with pytest.raises(StorageError, match="shorter than promised"):
        storage.read_range(address, start, 6)


def test_create_never_overwrites(store: str) -> None:
    """The first writer is told True, the second False, and the bytes stay the first one's."""
    address = storage.join(store, "a/commit.json")
    assert storage.create(address, b"first")
    assert not storage.create(address, b"second")
    assert storage.read(address) == b"first"


def test_replace_overwrites(store: str) -> None:
    """A mutable pointer has its last bytes."""
    address = storage.join(store, "pointer")
    storage.replace(address, b"a longer first one")
    storage.replace(address, b"second")
    assert storage.read(address) == b"second"


def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: str) -> None:
    """Deleting what is missing is fine, and its place can be created again."""
    address = storage.join(store, "object")
    storage.create(address, b"x")
    storage.delete(address)
    storage.delete(address)
    assert not storage.exists(address)
    assert storage.create(address, b"y")


def test_only_an_object_exists(store: str) -> None:
    """Neither a missing thing nor the folder of an object is one."""
    storage.replace(storage.join(store, "folder/object"), b"")
    assert storage.exists(storage.join(store, "folder/object"))
    assert not storage.exists(storage.join(store, "folder"))
    assert not storage.exists(storage.join(store, "folder/object/below"))
    assert not storage.exists(storage.join(store, "missing/object"))


def test_a_listing_has_what_lies_below_and_nothing_else(store: str) -> None:
    """Sorted, with sizes and times, without neighbours whose names begin alike."""
    for name in ["corpus/b", "corpus/a/z", "corpus/a.json", "corpora/other", "corpus.json"]:
        storage.replace(storage.join(store, name), name.encode())
    found = storage.listing(storage.join(store, "corpus"))
    assert [stored.address.removeprefix(store) for stored in found] == ["/corpus/a.json", "/corpus/a/z", "/corpus/b"]
    assert [stored.size for stored in found] == [13, 10, 8]
    assert all(abs(stored.modified - time.time()) < 60 for stored in found)
    assert storage.listing(storage.join(store, "missing")) == []


def test_our_own_names_are_hidden_from_listings(store: str) -> None:
    """Temporary files, probes and locks are no objects; lost ones are found as leftovers."""
    storage.replace(storage.join(store, "object"), b"x")
    storage.replace(storage.join(store, "a/.unmuffle-partial-1"), b"half")
    assert [stored.address for stored in storage.listing(store)] == [storage.join(store, "object")]
    assert [stored.address for stored in storage.leftovers(store)] == [storage.join(store, "a/.unmuffle-partial-1")]


def test_what_is_missing_is_not_there(store: str, tmp_path: Path) -> None:
    """Reading, part reading and copying of nothing say the address."""
    storage.replace(storage.join(store, "there"), b"x")
    address = storage.join(store, "missing")
    with pytest.raises(NotThere, match="missing"):
        storage.read(address)
    with pytest.raises(NotThere, match="missing"):
        storage.read_range(address, 0, 1)
    with pytest.raises(NotThere, match="missing"):
        storage.local_copy(address, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_goes_up_and_comes_down_alike(store: str, tmp_path: Path) -> None:
    """The tree and every byte, also of a file that S3 takes in parts."""
    files = {"config.json": b"{}", "deep/er/weights": random.Random(1).randbytes(9 << 20), "empty": b""}
    for name, data in files.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(data)
    storage.upload(tmp_path / "up", storage.join(store, "version"))
    assert {stored.address for stored in storage.listing(store)} == {storage.join(store, "version", n) for n in files}
    copy = storage.local_copy(storage.join(store, "version"), tmp_path / "down")
    assert copy == tmp_path / "down"
    assert {file.relative_to(copy).as_posix(): file.read_bytes() for file in copy.rglob("*") if file.is_file()} == files


def test_uploading_a_missing_folder_says_so(store: str, tmp_path: Path) -> None:
    """Nothing would be uploaded in silence otherwise."""
    with pytest.raises(NotThere, match="no folder"):
        storage.upload(tmp_path / "missing", store)


def test_pyarrow_sees_the_same_objects(store: str) -> None:
    """What it writes we read, and what we write it reads, under one address."""
    address = storage.join(store, "folder/object")
    storage.replace(address, b"from us")
    filesystem, path = storage.arrow(store)
    with filesystem.open_input_file(f"{path}/folder/object") as file:
        assert file.read() == b"from us"
    with filesystem.open_output_stream(f"{path}/folder/other") as file:
        file.write(b"from pyarrow")
    assert storage.read(storage.join(store, "folder/other")) == b"from pyarrow"


def test_the_probe_finds_conditional_writes_and_leaves_nothing(store: str) -> None:
    """A file system with links and moto's server honour them; afterwards the store is as empty as before."""
    assert storage.honours_conditional_writes(store)
    assert storage.listing(store) == [] and storage.leftovers(store) == []


def test_no_lock_is_taken_where_the_store_referees(store: str) -> None:
    """Writers of such a store need not wait for each other."""
    with storage.writer_lock(store), storage.writer_lock(store):
        assert storage.leftovers(store) == []


RACER = """
import sys
from simulation import storage
name, root, keys = sys.argv[1], sys.argv[2], int(sys.argv[3])
storage.honours_conditional_writes(root)
print("ready", flush=True)
sys.stdin.readline()
print(*[key for key in range(keys) if storage.create(f"{root}/{key}", name.encode() * 1000)])
"""


def test_of_racing_processes_exactly_one_creates_each_object(store: str) -> None:
    """Three processes create the same 30 objects at once: one winner each, whose bytes stay."""
    names, keys = "abc", 30
    racers = {
        name: subprocess.Popen(
            [sys.executable, "-c", RACER, name, store, str(keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    for racer in racers.values():
        assert racer.stdout and racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {name: set(map(int, racer.communicate(timeout=60)[0].split())) for name, racer in racers.items()}
    assert sorted(key for wins in won.values() for key in wins) == list(range(keys))
    for name, wins in won.items():
        for data in storage.read_many(storage.join(store, str(key)) for key in wins):
            assert data == name.encode() * 1000
    assert len(storage.listing(store)) == keys and storage.leftovers(store) == []


# ---- stores without conditional writes ------------------------------------------------------------------------------


@pytest.fixture
def simple_store(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that overwrites in spite of the condition, and a lock that acts in fractions of a second."""
    kind = type(storage._at(store))
    monkeypatch.setattr(storage, "_honoured", {})
    monkeypatch.setattr(kind, "create", lambda self, data: self.replace(data) or True)
    monkeypatch.setattr(writer_lock, "SETTLE_S", 0.05)
    monkeypatch.setattr(writer_lock, "REFRESH_S", 0.05)
    monkeypatch.setattr(writer_lock, "EXPIRY_S", 1.5)
    return store


def test_a_store_that_overwrites_is_found_out(simple_store: str, caplog: pytest.LogCaptureFixture) -> None:
    """Answering the second conditional write with success is not honouring it; a warning says single writer."""
    assert not storage.honours_conditional_writes(simple_store)
    assert "single writer" in caplog.text
    assert storage.leftovers(simple_store) == []


def test_a_store_that_refuses_the_condition_is_found_out(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is answering that conditional writes are not implemented."""

    def refuse(self: Any, data: bytes) -> bool:
        raise NotConditional("not implemented")

    monkeypatch.setattr(storage, "_honoured", {})
    monkeypatch.setattr(type(storage._at(store)), "create", refuse)
    assert not storage.honours_conditional_writes(store)


def test_the_probe_runs_once(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once per bucket or device and process, whatever the prefix."""
    kind, calls = type(storage._at(store)), []
    monkeypatch.setattr(storage, "_honoured", {})
    create = kind.create
    monkeypatch.setattr(kind, "create", lambda self, data: calls.append(self.address) or create(self, data))
    for name in ["a", "b/c", "b/d"]:
        storage.create(storage.join(store, name), b"x")
    assert len([address for address in calls if "/.unmuffle-probe" in address]) == 2  # the two writes of one probe


def test_create_looks_before_it_writes_where_it_must(simple_store: str) -> None:
    """Under the lock, such a store keeps the promise of create."""
    address = storage.join(simple_store, "object")
    with storage.writer_lock(simple_store):
        assert storage.create(address, b"first")
        assert not storage.create(address, b"second")
    assert storage.read(address) == b"first"


def test_a_second_writer_is_told_who_writes_since_when(simple_store: str) -> None:
    """And the lock is free again afterwards, with nothing left of it."""
    with storage.writer_lock(simple_store):
        with pytest.raises(StorageError, match=rf"held by process {os.getpid()} on .* since 20\d\d-.*single writer"):
            storage.writer_lock(simple_store).__enter__()
        assert len(storage.leftovers(simple_store)) == 1
    assert storage.leftovers(simple_store) == []
    with storage.writer_lock(simple_store):
        pass


def test_a_held_lock_outlives_its_first_expiry(simple_store: str) -> None:
    """The holder refreshes it for as long as it works."""
    with storage.writer_lock(simple_store):
        time.sleep(2)
        with pytest.raises(StorageError, match="is held by"):
            storage.writer_lock(simple_store).__enter__()


def test_the_lock_of_a_dead_writer_can_be_taken(simple_store: str) -> None:
    """Once it has expired."""
    past = {"owner": "process 1 on gone", "token": "t", "since_s": 1.0, "expires_s": time.time() - 1}
    storage.replace(storage.join(simple_store, ".unmuffle-writer.json"), json.dumps(past).encode())
    with storage.writer_lock(simple_store):
        assert b"gone" not in storage.read(storage.join(simple_store, ".unmuffle-writer.json"))


def test_a_writer_whose_lock_was_taken_over_is_told(simple_store: str) -> None:
    """Even when the other one has ended meanwhile; and it does not remove the other one's lock."""
    lock = storage.join(simple_store, ".unmuffle-writer.json")
    other = {"owner": "process 1 on other", "token": "t", "since_s": 1.0, "expires_s": time.time() + 60}
    with pytest.raises(StorageError, match="process 1 on other"), storage.writer_lock(simple_store):
        for _ in range(8):  # a refresh that is under way may write over the first
            storage.replace(lock, json.dumps(other).encode())
            time.sleep(0.05)
    assert b"process 1 on other" in storage.read(lock)


# ---- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """An empty folder store."""
    return storage.normal(str(tmp_path / "store"))


@pytest.mark.parametrize("write", [storage.create, storage.replace])
def test_a_name_appears_only_over_durable_bytes(folder: str, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While bytes are made durable nothing is visible; then the folder's names are made durable too."""
    storage.honours_conditional_writes(folder)
    address, seen, fsync = storage.join(folder, "object"), [], os.fsync

    def spy(descriptor: int) -> None:
        kind = "names" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes"
        seen.append((kind, storage.exists(address), len(storage.listing(folder))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write(address, b"x")
    assert seen == [("bytes", False, 0), ("names", True, 1)]


@pytest.mark.parametrize("write", [storage.create, storage.replace])
@pytest.mark.parametrize(
    ("number", "expected", "words"),
    [
        (errno.ENOSPC, StorageError, "No space is left"),
        (errno.EROFS, NotAllowed, "refuses"),
        (errno.EACCES, NotAllowed, "chmod"),
        (errno.EIO, StorageError, "failed"),
    ],
)
def test_a_failed_write_leaves_nothing(
    folder: str, write: Any, number: int, expected: type, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a read-only one, a refusal, a fault: an error of ours, the old bytes, no temporary file."""
    storage.replace(storage.join(folder, "object"), b"old")
    storage.honours_conditional_writes(folder)

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(expected, match=words) as caught:
        write(storage.join(folder, "object"), b"new")
    assert storage.join(folder, "object") in str(caught.value)
    assert storage.read(storage.join(folder, "object")) == b"old"
    assert len(storage.listing(folder)) == 1 and storage.leftovers(folder) == []


def test_a_file_system_without_links_has_no_conditional_writes(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a one is written by a single writer, and create still never overwrites."""

    def refuse(*paths: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(storage, "_honoured", {})
    monkeypatch.setattr(os, "link", refuse)
    assert not storage.honours_conditional_writes(folder)
    assert storage.create(storage.join(folder, "object"), b"first")
    assert not storage.create(storage.join(folder, "object"), b"second")
    assert storage.leftovers(folder) == []


def test_a_place_below_a_file_cannot_be_written(folder: str) -> None:
    """A file in the way of a folder, and a folder in the way of a file, are said; neither is harmed."""
    storage.replace(storage.join(folder, "file"), b"x")
    with pytest.raises(StorageError, match="file and a folder want the same name"):
        storage.create(storage.join(folder, "file/below"), b"y")
    storage.replace(storage.join(folder, "folder/object"), b"x")
    with pytest.raises(StorageError, match="file and a folder want the same name"):
        storage.replace(storage.join(folder, "folder"), b"y")
    with pytest.raises(NotThere, match="is a folder; expected a single object"):
        storage.read(storage.join(folder, "folder"))
    assert storage.read(storage.join(folder, "file")) == b"x"


def test_nothing_lies_under_a_name_that_no_file_can_have(folder: str) -> None:
    """Asking is no failure of the store, whether it is empty or not; writing says that it cannot be."""
    address = storage.join(folder, "a" * 300)
    for _ in range(2):
        assert storage.stored(address) is None and not storage.exists(address)
        with pytest.raises(NotThere, match="Nothing lies at"):
            storage.read(address)
        with pytest.raises(StorageError, match="too long"):
            storage.replace(address, b"x")
        storage.replace(storage.join(folder, "b"), b"x")


def test_a_file_system_that_refuses_is_an_error_of_ours() -> None:
    """The kernel's own denies even its owner."""
    with pytest.raises(StorageError, match="/proc/unmuffle"):
        storage.create("file:///proc/unmuffle/object", b"x")


def test_a_listing_follows_links_but_not_in_circles(folder: str, tmp_path: Path) -> None:
    """Sources are often linked together; a link to nothing is no object, a loop no endless one."""
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.flac").write_bytes(b"x")
    (tmp_path / "store" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "store" / "circle").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "broken").symlink_to(tmp_path / "nothing")
    assert [stored.address for stored in storage.listing(folder)] == [storage.join(folder, "linked/a.flac")]


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal must not look like a corpus without shards."""

    def refuse(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(NotAllowed, match="refuses"):
        storage.listing(folder)


# ---- buckets --------------------------------------------------------------------------------------------------------


def test_a_listing_goes_on_after_the_first_page(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers answer by the thousand; here by the three."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    for key in range(8):
        storage.replace(f"{s3_store}/{key}", b"")
    page = bucket.client().list_objects_v2(Bucket=s3_store.removeprefix("s3://"))
    assert len(page["Contents"]) == 3 and page["IsTruncated"]
    assert [stored.address for stored in storage.listing(s3_store)] == [f"{s3_store}/{key}" for key in range(8)]


def test_a_missing_bucket_is_named(s3_store: str) -> None:
    """Listing, reading and writing say which bucket and which server, and what to look at."""
    for attempt in (
        lambda: storage.listing("s3://nobody-has-this/x"),
        lambda: storage.read("s3://nobody-has-this/x"),
        lambda: storage.create("s3://nobody-has-this/x", b""),
    ):
        with pytest.raises(NotThere, match=r"no bucket 'nobody-has-this' at http://127.*AWS_ENDPOINT_URL"):
            attempt()


def test_a_bucket_without_permission_says_which_variables_to_set(
    s3_store: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that checks credentials refuses ours, in reading and in writing."""

    def after(requests: str) -> None:
        address, kind = f"{s3_endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        reset = urllib.request.Request(address, data=requests.encode(), headers=kind)
        urllib.request.urlopen(reset).close()

    monkeypatch.setattr(storage, "_honoured", {})
    after("0")
    try:
        for attempt in (
            lambda: storage.read(f"{s3_store}/x"),
            lambda: storage.create(f"{s3_store}/x", b""),
            lambda: storage.replace(f"{s3_store}/x", b""),
            lambda: storage.listing(s3_store),
            lambda: storage.exists(f"{s3_store}/x"),
        ):
            with pytest.raises(NotAllowed, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
                attempt()
    finally:
        after("inf")


def test_uploading_without_permission_says_so_too(s3_store: str, tmp_path: Path) -> None:
    """boto3's helper for files hides the answer; ours does not."""
    (tmp_path / "file").write_bytes(b"x")
    with Stubber(bucket.client()) as stub:
        stub.add_client_error("put_object", "AccessDenied", http_status_code=403)
        with pytest.raises(NotAllowed, match="AccessDenied"):
            storage.upload(tmp_path, s3_store)


def test_missing_credentials_say_which_variables_to_set(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked of a server."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(NotAllowed, match="AWS_ACCESS_KEY_ID"):
        storage.read(f"{s3_store}/x")


def test_a_store_that_does_not_answer_is_unreachable(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the endpoint: the variable that names it is said."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:9.*AWS_ENDPOINT_URL"):
        storage.read(f"{s3_store}/x")


@pytest.mark.parametrize("endpoint", ["no address", "http://"])
def test_an_endpoint_that_is_none_is_a_bad_setting(
    s3_store: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt variable is named, not traced."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises((BadSetting, StoreUnreachable), match="AWS_ENDPOINT_URL"):
        storage.read(f"{s3_store}/x")


def test_a_server_that_keeps_failing_is_unreachable(s3_store: str) -> None:
    """500 and 503 after all attempts."""
    for code, status in [("InternalError", 500), ("SlowDown", 503)]:
        with Stubber(bucket.client()) as stub:
            stub.add_client_error("get_object", code, http_status_code=status)
            with pytest.raises(StoreUnreachable, match=f"{status} {code}"):
                storage.read(f"{s3_store}/x")


def test_a_body_that_breaks_off_is_read_again(s3_store: str) -> None:
    """boto3 repeats requests but not bodies; a second, whole one is what the reader gets."""
    with Stubber(bucket.client()) as stub:
        stub.add_response("get_object", {"Body": _body(b"hal", 4)})
        stub.add_response("get_object", {"Body": _body(b"half", 4)})
        assert storage.read(f"{s3_store}/x") == b"half"


def test_bodies_that_always_break_off_are_no_answer(s3_store: str) -> None:
    """Half an object is never returned."""
    with Stubber(bucket.client()) as stub:
        for _ in range(bucket.ATTEMPTS):
            stub.add_response("get_object", {"Body": _body(b"hal", 4)})
        with pytest.raises(StoreUnreachable):
            storage.read(f"{s3_store}/x")


def _body(data: bytes, promised: int) -> botocore.response.StreamingBody:
    return botocore.response.StreamingBody(io.BytesIO(data), promised)


def test_a_body_with_another_checksum_is_read_again(s3_store: str) -> None:
    """What the network changed is no answer; a second, right one is what the reader gets."""
    storage.replace(f"{s3_store}/x", b"right")
    bodies = [b"wrong", b"right"]

    def changed(http_response: Any = None, parsed: Any = None, **_: Any) -> None:
        parsed["Body"]._raw_stream = io.BytesIO(bodies.pop(0))

    bucket.client().meta.events.register("after-call.s3.GetObject", changed)
    try:
        assert storage.read(f"{s3_store}/x") == b"right"
        assert bodies == []
        bodies += [b"wrong"] * bucket.ATTEMPTS
        with pytest.raises(StoreUnreachable, match="checksum"):
            storage.read(f"{s3_store}/x")
    finally:
        bucket.client().meta.events.unregister("after-call.s3.GetObject", changed)


@pytest.mark.long
def test_a_server_that_fails_now_and_then_is_read_and_written_as_ever(
    s3_store: str, faulty_proxy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, resets before and after the work is done, answers that break off: every promise is kept."""
    monkeypatch.setattr(bucket, "PARTS", TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
    proxy, chance = faulty_proxy(0.1), random.Random(0)
    objects = {f"{s3_store}/many/{key:02}": chance.randbytes(chance.choice((10, 100_000))) for key in range(8)}
    for address, data in objects.items():
        assert storage.create(address, data) or storage.read(address) == data
        assert not storage.create(address, b"another")
    assert {stored.address: stored.size for stored in storage.listing(f"{s3_store}/many")} == {
        address: len(data) for address, data in objects.items()
    }
    assert storage.read_many(objects) == list(objects.values())
    assert [storage.read_range(address, 3, 5) for address in objects] == [data[3:8] for data in objects.values()]
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "large").write_bytes(chance.randbytes(22 << 20))
    storage.upload(tmp_path / "up", f"{s3_store}/version")
    storage.local_copy(f"{s3_store}/version", tmp_path / "down")
    assert (tmp_path / "down" / "large").read_bytes() == (tmp_path / "up" / "large").read_bytes()
    counts = json.loads(urllib.request.urlopen(f"{proxy}/-/counts").read())
    assert counts.keys() == {"answered", "503", "reset before", "reset after", "cut short"}


@pytest.fixture
def large(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Bytes enough to go up in parts."""
    monkeypatch.setattr(bucket, "IN_PARTS", 5 << 20)
    monkeypatch.setattr(bucket, "PARTS", TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
    return random.Random(0).randbytes(6 << 20)


def test_large_objects_go_up_in_parts(s3_store: str, large: bytes) -> None:
    """Of which a lost one alone is sent again; the tag of the object says how many there were."""
    assert storage.write_once(f"{s3_store}/x", large)
    assert not storage.write_once(f"{s3_store}/x", large)
    head = bucket.client().head_object(Bucket=s3_store.removeprefix("s3://"), Key="x")
    assert head["ETag"].endswith('-2"')
    assert storage.read(f"{s3_store}/x") == large


@pytest.mark.parametrize("done", [True, False])
def test_an_upload_whose_last_answer_was_lost_is_done_if_the_object_is_ours(
    s3_store: str, large: bytes, done: bool
) -> None:
    """Asked for again, the server knows of no such upload: an error unless what lies there is what we sent."""
    storage.replace(f"{s3_store}/x", bytes(len(large)))
    refusal = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}

    def lost(**_: Any) -> None:
        raise botocore.exceptions.ClientError(refusal, "CompleteMultipartUpload")

    when = "after-call" if done else "before-call"
    bucket.client().meta.events.register(f"{when}.s3.CompleteMultipartUpload", lost)
    try:
        if done:
            storage.replace(f"{s3_store}/x", large)
        else:
            with pytest.raises(NotThere):
                storage.replace(f"{s3_store}/x", large)
    finally:
        bucket.client().meta.events.unregister(f"{when}.s3.CompleteMultipartUpload", lost)
    assert storage.read(f"{s3_store}/x") == (large if done else bytes(len(large)))


def test_a_server_without_conditional_writes_is_found_out(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """501 to the condition, as Swift answers."""
    monkeypatch.setattr(storage, "_honoured", {})
    with Stubber(bucket.client()) as stub:
        stub.add_client_error("put_object", "NotImplemented", http_status_code=501)
        assert not storage.honours_conditional_writes(s3_store)


def test_a_conflict_is_looked_at_again(s3_store: str) -> None:
    """409 means that another write was under way: it lost to what lies there, or the place is free after all."""
    storage.honours_conditional_writes(s3_store)
    free: dict[str, Any] = {"service_error_code": "404", "http_status_code": 404}
    busy: dict[str, Any] = {"service_error_code": "ConditionalRequestConflict", "http_status_code": 409}
    with Stubber(bucket.client()) as stub:
        stub.add_client_error("put_object", **busy)
        stub.add_client_error("head_object", **free)
        stub.add_response("put_object", {})
        assert storage.create(f"{s3_store}/x", b"")
        stub.add_client_error("put_object", **busy)
        stub.add_response("head_object", {})
        assert not storage.create(f"{s3_store}/x", b"")


def test_create_is_one_conditional_put(s3_store: str) -> None:
    """Never in parts, on which some servers ignore the condition, however large the object."""
    storage.honours_conditional_writes(s3_store)
    data = bytes(20 << 20)
    with Stubber(bucket.client()) as stub:
        name = s3_store.removeprefix("s3://")
        stub.add_response("put_object", {}, {"Bucket": name, "Key": "x", "Body": data, "IfNoneMatch": "*"})
        assert storage.create(f"{s3_store}/x", data)
        stub.assert_no_pending_responses()


def test_a_key_cannot_climb_out_of_the_folder_it_is_copied_to(s3_store: str, tmp_path: Path) -> None:
    """Keys may hold two dots; files outside the folder must not be written."""
    bucket.client().put_object(Bucket=s3_store.removeprefix("s3://"), Key="a/../../escaped", Body=b"x")
    with pytest.raises(StorageError, match="outside"):
        storage.local_copy(f"{s3_store}/a", tmp_path / "one" / "two")
    assert not list(tmp_path.rglob("escaped"))


def test_clients_are_kept_but_not_across_settings_or_a_fork(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One per process and environment, the same in every thread."""
    first, seen = bucket.client(), []
    threads = [threading.Thread(target=lambda: seen.append(bucket.client())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(client is first for client in seen) and len(seen) == 4
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    assert bucket.client() is not first
    monkeypatch.setattr(os, "getpid", lambda: process)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert bucket.client() is not first
