"""Blobs on an S3 server: what is atomic, what a failed save leaves, what is found damaged."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator.core.errors import Damaged, FailedPrecondition, InvalidArgument, NotFound, StorageFailed, Unavailable
from emulator.state import object_blobs
from emulator.state.blobs import RECORD
from emulator.state.object_blobs import ObjectBlobs, ObjectStore
from emulator.state.places import place_of

KEY = "acct/job/step-1~0a1b2c3d"
ROOT = Path(__file__).parents[2]
MIB = 1 << 20


@pytest.fixture
def blobs(bucket: str, tmp_path: Path) -> ObjectBlobs:
    return ObjectBlobs(ObjectStore(bucket), tmp_path / "copies", home=tmp_path)


def staged(blobs: ObjectBlobs, **contents: bytes) -> Path:
    folder = blobs.stage()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def saved(blobs: ObjectBlobs, key: str = KEY, **contents: bytes) -> dict[str, str]:
    folder = staged(blobs, **contents or {"weights": b"w" * 100, "config": b"{}"})
    digests = blobs.digest(folder)
    blobs.commit(folder, key, digests, b"record")
    return digests


def elsewhere(blobs: ObjectBlobs, tmp_path: Path) -> ObjectBlobs:
    """The same blobs, for a process that has no copy."""
    return ObjectBlobs(ObjectStore(blobs.store.url), tmp_path / "other", home=tmp_path)


def test_a_blob_is_read_by_a_process_that_did_not_save_it(blobs: ObjectBlobs, tmp_path: Path) -> None:
    digests = saved(blobs)
    other = elsewhere(blobs, tmp_path)
    assert other.exists(KEY)
    folder = other.checked(KEY, digests, "row", "gone")
    assert sorted(path.name for path in folder.iterdir()) == [RECORD, "config", "weights"]
    assert (folder / "weights").read_bytes() == b"w" * 100
    assert sorted(path.name for path in other.pin(KEY).iterdir()) == [RECORD, "config", "weights"]


def test_a_large_file_goes_in_parts(blobs: ObjectBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    call = blobs.store.fs._call_s3

    async def noted(method: str, *words: Any, **how: Any) -> Any:
        calls.append(method)
        return await call(method, *words, **how)

    monkeypatch.setattr(blobs.store.fs, "_call_s3", noted)
    content = bytes(range(256)) * (120 * MIB // 256)
    digests = saved(blobs, large=content)
    assert calls.count("upload_part") >= 2
    assert elsewhere(blobs, tmp_path).checked(KEY, digests, "row", "gone").joinpath("large").read_bytes() == content


@pytest.mark.parametrize("at", range(3))
def test_a_save_that_fails_leaves_nothing_that_counts_as_a_blob(blobs: ObjectBlobs, tmp_path: Path, at: int) -> None:
    """The store takes `at` objects and no more: neither the rest nor a deletion of what it has taken."""
    folder = staged(blobs, weights=b"w", config=b"{}")
    with refusing(blobs, after=at), pytest.raises(StorageFailed, match="save again; earlier checkpoints are intact"):
        blobs.commit(folder, KEY, blobs.digest(folder), b"record")
    other = elsewhere(blobs, tmp_path)
    assert not other.exists(KEY)
    assert not blobs.path(KEY).exists()
    assert not folder.exists()
    with pytest.raises(NotFound):
        other.checked(KEY, {}, "row", "gone")
    assert other.strangers(()) == (["acct"] if at else [])
    assert other.strangers(["acct/job/other"]) == ([KEY] if at else [])


@contextmanager
def refusing(blobs: ObjectBlobs, after: int) -> Iterator[None]:
    """Let the store take so many objects or deletions, and then nothing any more."""
    left = [None] * after

    def limited(act: Callable[..., Any]) -> Callable[..., Any]:
        def called(*words: Any) -> Any:
            if not left:
                raise ConnectionError("the store is gone")
            left.pop()
            return act(*words)

        return called

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "write", "remove"):
            patch.setattr(blobs.store, name, limited(getattr(blobs.store, name)))
        yield


def test_a_save_that_fails_takes_back_what_it_can(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs.store, "write", lambda *_: (_ for _ in ()).throw(ConnectionError("the store is gone")))
    folder = staged(blobs, weights=b"w")
    with pytest.raises(StorageFailed):
        blobs.commit(folder, KEY, blobs.digest(folder), b"record")
    assert blobs.store.names() == {}


def test_a_deletion_that_is_cut_short_leaves_no_blob(blobs: ObjectBlobs, tmp_path: Path) -> None:
    saved(blobs)
    with refusing(blobs, after=1):
        blobs.delete(KEY)
    other = elsewhere(blobs, tmp_path)
    assert not other.exists(KEY)
    assert other.strangers(()) == ["acct"]
    assert not blobs.path(KEY).exists()


def test_a_damaged_copy_is_fetched_again(blobs: ObjectBlobs) -> None:
    digests = saved(blobs)
    (blobs.path(KEY) / "weights").write_bytes(b"x" * 100)
    assert (blobs.checked(KEY, digests, "row", "gone") / "weights").read_bytes() == b"w" * 100


def test_a_copy_to_promote_is_made_of_what_lies_on_the_store(blobs: ObjectBlobs, tmp_path: Path) -> None:
    digests = saved(blobs)
    other = elsewhere(blobs, tmp_path)
    folder, found = other.staged_copy(KEY, digests, "row", "gone")
    assert found == digests
    assert (folder / "weights").read_bytes() == b"w" * 100
    (other.path(KEY) / "weights").write_bytes(b"x" * 100)
    folder, _ = other.staged_copy(KEY, digests, "row", "gone")
    assert (folder / "weights").read_bytes() == b"w" * 100
    with pytest.raises(NotFound, match="gone"):
        other.staged_copy("acct/job/never~1", digests, "row", "gone")


def test_what_is_damaged_on_the_store_is_refused(blobs: ObjectBlobs, tmp_path: Path) -> None:
    digests = saved(blobs)
    blobs.damage(KEY)
    for one in (blobs, elsewhere(blobs, tmp_path)):
        with pytest.raises(Damaged, match="weights is not what was saved"):
            one.checked(KEY, digests, "row", "gone")


def test_copies_that_nobody_uses_make_room(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_blobs, "IN_USE_S", 0.0)
    blobs._copies_bytes = 250
    digests = {number: saved(blobs, f"acct/job/{number}") for number in range(4)}
    assert [blobs.path(f"acct/job/{number}").is_dir() for number in range(4)] == [False, False, True, True]
    assert blobs.checked("acct/job/0", digests[0], "row", "gone").is_dir()


def test_a_store_that_does_not_answer_is_said_to_be_away(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs.store, "exists", lambda _: (_ for _ in ()).throw(ConnectionError("refused")))
    with pytest.raises(Unavailable, match="does not answer for"):
        blobs.exists(KEY)


def test_a_place_belongs_to_one_database(bucket: str, tmp_path: Path) -> None:
    for place in (bucket, str(tmp_path / "place")):
        place_of(place).belongs_to("one")
        place_of(place).belongs_to("one")
        with pytest.raises(FailedPrecondition, match="has the blobs of another database"):
            place_of(place).belongs_to("two")


def test_a_place_with_other_things_in_it_is_refused(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    ObjectStore(bucket).write("holiday.jpg", b"")
    for place in (bucket, str(tmp_path)):
        with pytest.raises(FailedPrecondition, match="no blobs of ftsim"):
            place_of(place).belongs_to("one")


def test_a_url_that_nothing_opens_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="--blobs nonsense://x cannot be opened"):
        place_of("nonsense://x")


UPLOADING = """
import sys, threading
from pathlib import Path
from emulator.state.object_blobs import ObjectBlobs, ObjectStore
home = Path(sys.argv[2])
blobs = ObjectBlobs(ObjectStore(sys.argv[1]), home / "copies", home=home)
call, sent = blobs.store.fs._call_s3, []
async def slow(method, *words, **how):
    answer = await call(method, *words, **how)
    if method == "upload_part":
        print("a part is there", flush=True)
        threading.Event().wait()
    return answer
blobs.store.fs._call_s3 = slow
folder = blobs.stage()
(folder / "large").write_bytes(bytes(120 << 20))
(folder / "small").write_bytes(b"w")
blobs.commit(folder, sys.argv[3], {}, b"record")
"""


def test_parts_of_an_upload_that_a_kill_cut_off_are_no_blob_and_are_swept(
    blobs: ObjectBlobs, bucket: str, tmp_path: Path
) -> None:
    home = tmp_path / "killed"
    home.mkdir()
    words = [sys.executable, "-c", UPLOADING, bucket, str(home), KEY]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "a part is there\n"
    process.kill()
    process.communicate()
    assert [name for name, _, _ in blobs.store.uploads()] == [f"{KEY}/large"]
    assert not blobs.exists(KEY)
    assert f"{KEY}/large" not in blobs.store.names()
    with pytest.raises(NotFound, match="gone"):
        blobs.checked(KEY, {}, "row", "gone")
    assert blobs.unfinished(0) == {}
    (found,) = blobs.unfinished(int(time.time())).items()
    assert found[0].startswith(f"{KEY}/large (parts of an upload")
    found[1]()
    assert blobs.store.uploads() == []
    found[1]()
    digests = saved(blobs)
    assert blobs.checked(KEY, digests, "row", "gone").is_dir()


def test_an_upload_whose_part_is_refused_leaves_no_parts(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    call = blobs.store.fs._call_s3

    async def refused(method: str, *words: Any, **how: Any) -> Any:
        if method == "upload_part" and how["PartNumber"] == 2:
            raise OSError("no more")
        return await call(method, *words, **how)

    monkeypatch.setattr(blobs.store.fs, "_call_s3", refused)
    folder = staged(blobs, large=bytes(120 * MIB))
    with pytest.raises(StorageFailed, match="save again"):
        blobs.commit(folder, KEY, blobs.digest(folder), b"record")
    assert blobs.store.uploads() == []
    assert blobs.store.names() == {}
