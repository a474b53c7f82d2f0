"""Connections that are sealed by a secret: who is let in, and what happens to a message that somebody has touched."""

import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from emulator.backend import BackendError
from ftsim.compute.workers import rendezvous, sealed
from ftsim.compute.workers.ranks import backend_for, place
from ftsim.compute.workers.sealed import NotTrustedError, Sealed

RUN: list[str] = []


def note(text: str) -> None:
    RUN.append(text)


class Booby:
    """A message that says when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return note, ("unpickled",)


@pytest.fixture
def pair() -> Iterator[tuple[Sealed, Sealed, socket.socket, socket.socket]]:
    """Two ends under one key, and their sockets."""
    one, other = socket.socketpair()
    yield Sealed(one, b"key", accepted=True), Sealed(other, b"key", accepted=False), one, other
    one.close()
    other.close()


Ends = tuple[Sealed, Sealed, socket.socket, socket.socket]


def test_messages_go_both_ways(pair: Ends) -> None:
    up, down, *_ = pair
    for message in ({"a": [1, 2]}, b"x" * 100_000, None):
        sending = threading.Thread(target=down.send, args=(message,))
        sending.start()
        assert up.recv() == message
        sending.join()
        up.send(message if message is None else "short")
        down.recv()
    down.close()
    with pytest.raises(EOFError):
        up.recv()


def frame(sender: Sealed, receiving: socket.socket, message: Any) -> bytes:
    sender.send(message)
    return receiving.recv(1 << 16)


@pytest.mark.parametrize("how", ["flipped", "repeated", "dropped", "reflected", "forged"])
def test_a_message_that_was_touched_is_not_even_unpickled(pair: Ends, how: str) -> None:
    up, down, one, other = pair
    RUN.clear()
    sent = frame(down, one, Booby())
    if how == "flipped":
        other.sendall(sent[:-1] + bytes([sent[-1] ^ 1]))
    elif how == "repeated":
        other.sendall(sent)
        up.recv()
        assert RUN.pop() == "unpickled"
        other.sendall(sent)
    elif how == "dropped":
        other.sendall(frame(down, one, Booby()))
    elif how == "reflected":
        one.sendall(sent)
        with pytest.raises(NotTrustedError, match="not what was sent"):
            down.recv()
        assert RUN == []
        return
    else:
        content = pickle.dumps(Booby())
        other.sendall(struct.pack(">Q32s", len(content), bytes(32)) + content)
    with pytest.raises(NotTrustedError, match="not what was sent"):
        up.recv()
    assert RUN == []


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def accept(listening: socket.socket, secret: str, found: list[Any]) -> None:
    opened, _ = listening.accept()
    try:
        found.append(sealed.accepted(opened, secret))
    except (OSError, EOFError) as error:
        found.append(error)
        opened.close()


@pytest.mark.parametrize(("ours", "theirs"), [("a", "a"), ("a", "b")])
def test_both_ends_prove_that_they_know_the_secret(listening: socket.socket, ours: str, theirs: str) -> None:
    found: list[Any] = []
    accepting = threading.Thread(target=accept, args=(listening, ours, found))
    accepting.start()
    if ours == theirs:
        client = sealed.connected(listening.getsockname(), theirs)
        accepting.join()
        client.send("hello")
        assert found[0].recv() == "hello"
        client.close()
        found[0].close()
        return
    with pytest.raises(NotTrustedError, match="another secret"):
        sealed.connected(listening.getsockname(), theirs)
    accepting.join()
    assert isinstance(found[0], NotTrustedError)


def test_who_listens_has_to_prove_it_too(listening: socket.socket) -> None:
    def pretend() -> None:
        opened, _ = listening.accept()
        opened.sendall(b"ftsim-node-1\n" + bytes(32))
        opened.recv(64)
        opened.sendall(bytes(32))
        opened.close()

    pretending = threading.Thread(target=pretend)
    pretending.start()
    with pytest.raises(NotTrustedError, match="does not know the secret of this node"):
        sealed.connected(listening.getsockname(), "secret")
    pretending.join()


def test_endpoints_are_read_as_torchrun_reads_them() -> None:
    assert rendezvous.endpoint("trainer-0.svc:29500") == ("trainer-0.svc", 29500)
    assert rendezvous.endpoint("10.0.0.1") == ("10.0.0.1", 29400)
    assert rendezvous.endpoint("[::1]:7") == ("::1", 7)
    assert rendezvous.endpoint("[::1]") == ("::1", 29400)
    for wrong in ("", ":1", "host:", "host:x", "host:70000"):
        with pytest.raises(ValueError, match="no rendezvous endpoint"):
            rendezvous.endpoint(wrong)


def test_ranks_talk_over_what_their_devices_have() -> None:
    assert backend_for("cpu", nccl=False) == "gloo"
    assert backend_for("cuda", nccl=True) == "cpu:gloo,cuda:nccl"
    with pytest.raises(BackendError, match="this torch lacks"):
        backend_for("cuda", nccl=False)
    with pytest.raises(BackendError, match="ranks on mps devices"):
        backend_for("mps", nccl=True)
    assert place("cpu", 3, 0) == "cpu"
    assert [place("cuda", rank, 2) for rank in range(2)] == ["cuda:0", "cuda:1"]
    with pytest.raises(BackendError, match="this machine has 2 devices for ranks"):
        place("cuda", 2, 2)
    with pytest.raises(BackendError, match="would all compute on cuda:0"):
        place("cuda:0", 0, 2)
