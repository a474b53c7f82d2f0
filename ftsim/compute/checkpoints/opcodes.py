"""Opcodes of a pickle, for objects of classes that are not imported here."""

import struct

PROTOCOL, STOP = b"\x80\x04", b"."
NONE, FALSE = b"N", b"\x89"


def number(value: int) -> bytes:
    """An integer."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def text(value: str) -> bytes:
    """A string."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def tupled(*values: bytes) -> bytes:
    """A tuple of values."""
    return b"(" + b"".join(values) + b"t"


def listed(*values: bytes) -> bytes:
    """A list of values."""
    return b"](" + b"".join(values) + b"e"


def mapped(*pairs: bytes) -> bytes:
    """A mapping; each of `pairs` is a key and behind it a value."""
    return b"}(" + b"".join(pairs) + b"u"


def fields(*pairs: tuple[str, bytes]) -> bytes:
    """A mapping from names to values."""
    return mapped(*(text(name) + value for name, value in pairs))


def named(module: str, name: str) -> bytes:
    """The thing that a module has under a name."""
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, *values: bytes) -> bytes:
    """The result of a function of a module for these values."""
    return named(module, name) + tupled(*values) + b"R"


def made(module: str, name: str, state: bytes) -> bytes:
    """An object of a class of a module, with its state."""
    return named(module, name) + b")\x81" + state + b"b"
