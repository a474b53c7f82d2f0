"""A connection between machines that share a secret: both ends prove that they know it, and so does every message.

Proofs are HMAC-SHA256. Nobody without the secret gets a message unpickled, or can change, drop, repeat or turn one
round on the way without an error. Nothing is encrypted: who is on the way can read.
"""

import contextlib
import hashlib
import hmac
import pickle
import secrets
import socket
import struct
from typing import Any

_GREETING = b"ftsim-node-1\n"
_NONCE, _PROOF = 32, 32
_HEAD = struct.Struct(">Q32s")
_HANDSHAKE_S = 10.0
_LARGEST = 1 << 36
"""Bytes of a message: what says more is no message of ours."""
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000))
"""Options by which a machine that has vanished is taken for dead within half a minute; some systems lack some."""


class NotTrustedError(ConnectionError):
    """The other end does not know the secret, or a message is not what was sent."""


class Sealed:
    """A connection whose messages are objects, as those of `multiprocessing.connection.Connection`."""

    def __init__(self, opened: socket.socket, key: bytes, *, accepted: bool) -> None:
        self._socket = opened
        self._key = key
        self._sending, self._receiving = (b"down", b"up") if accepted else (b"up", b"down")
        self._sent = self._received = 0
        if opened.family == socket.AF_UNIX:
            return
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    @property
    def here(self) -> str:
        """The address of this end."""
        return str(self._socket.getsockname()[0])

    @property
    def there(self) -> str:
        """The address of the other end."""
        return str(self._socket.getpeername()[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Any) -> None:
        """Send an object; raises OSError when the other end is gone."""
        content = pickle.dumps(message)
        proof = self._proof(self._sending, self._sent, content)
        self._sent += 1
        self._socket.sendall(_HEAD.pack(len(content), proof))
        self._socket.sendall(content)

    def recv(self) -> Any:
        """Wait for an object; raises EOFError when the other end has closed, OSError when it is gone."""
        size, proof = _HEAD.unpack(_read(self._socket, _HEAD.size))
        if size > _LARGEST:
            raise NotTrustedError("a message is not what was sent")
        content = _read(self._socket, size)
        if not hmac.compare_digest(proof, self._proof(self._receiving, self._received, content)):
            raise NotTrustedError("a message is not what was sent")
        self._received += 1
        return pickle.loads(content)

    def close(self) -> None:
        """Close both ways, also under a thread that waits for a message."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _proof(self, direction: bytes, number: int, content: bytes) -> bytes:
        proof = hmac.new(self._key, struct.pack(">4sQ", direction, number), hashlib.sha256)
        proof.update(content)
        return proof.digest()


def accepted(opened: socket.socket, secret: str) -> Sealed:
    """The connection of who has connected, once that has proved itself; raises OSError, EOFError."""
    opened.settimeout(_HANDSHAKE_S)
    mine = secrets.token_bytes(_NONCE)
    opened.sendall(_GREETING + mine)
    answer = _read(opened, _NONCE + _PROOF)
    nonces = mine + answer[:_NONCE]
    if not hmac.compare_digest(answer[_NONCE:], _derived(secret, b"joins", nonces)):
        raise NotTrustedError("it does not know the secret")
    opened.sendall(_derived(secret, b"accepts", nonces))
    opened.settimeout(None)
    return Sealed(opened, _derived(secret, b"messages", nonces), accepted=True)


def connected(address: tuple[str, int], secret: str) -> Sealed:
    """A connection to who listens at an address, once both have proved themselves; raises OSError, EOFError."""
    opened = socket.create_connection(address, timeout=_HANDSHAKE_S)
    try:
        greeting = _read(opened, len(_GREETING) + _NONCE)
        if not greeting.startswith(_GREETING):
            raise NotTrustedError(f"{address[0]}:{address[1]} is no rendezvous of this version of ftsim")
        mine = secrets.token_bytes(_NONCE)
        nonces = greeting[len(_GREETING) :] + mine
        opened.sendall(mine + _derived(secret, b"joins", nonces))
        try:
            proof = _read(opened, _PROOF)
        except (EOFError, ConnectionError):
            raise NotTrustedError("the emulator has another secret than this node") from None
        if not hmac.compare_digest(proof, _derived(secret, b"accepts", nonces)):
            raise NotTrustedError("who listens there does not know the secret of this node")
        opened.settimeout(None)
    except BaseException:
        opened.close()
        raise
    return Sealed(opened, _derived(secret, b"messages", nonces), accepted=False)


def _derived(secret: str, purpose: bytes, nonces: bytes) -> bytes:
    return hmac.digest(secret.encode(), purpose + b"\0" + nonces, "sha256")


def _read(opened: socket.socket, size: int) -> bytes:
    content = bytearray(size)
    view = memoryview(content)
    done = 0
    while done < size:
        count = opened.recv_into(view[done:])
        if not count:
            raise EOFError("the other end has closed")
        done += count
    return bytes(content)
