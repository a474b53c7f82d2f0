"""Lets no socket of a program leave this machine."""

import socket
from ipaddress import ip_address
from typing import Any

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def _check(address: Any) -> None:
    if isinstance(address, tuple) and address[0] != "localhost" and not ip_address(address[0]).is_loopback:
        raise RuntimeError(f"a connection to {address[0]} left this machine")


def connect(self: socket.socket, address: Any) -> None:
    _check(address)
    _connect(self, address)


def connect_ex(self: socket.socket, address: Any) -> int:
    _check(address)
    return _connect_ex(self, address)


def stay() -> None:
    """Refuse connections to other machines from now on."""
    setattr(socket.socket, "connect", connect)  # noqa: B010 (a method may not be assigned to)
    setattr(socket.socket, "connect_ex", connect_ex)  # noqa: B010
