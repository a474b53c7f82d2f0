"""A server of a program's mapped files, in a thread of the program; `ftsim_mapped` starts it when it is needed."""

from __future__ import annotations

import mimetypes
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def start(file_of: Callable[[str], str | None]) -> str:
    """Serve on loopback, under a word that only this process knows; returns the address."""
    word = secrets.token_hex(16)

    class Handler(_Files):
        find = staticmethod(file_of)
        prefix = f"/{word}"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="ftsim-map", daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/{word}"


class _Files(BaseHTTPRequestHandler):
    """GET and HEAD of a file, whole or a part of it."""

    protocol_version = "HTTP/1.1"
    find: Callable[[str], str | None]
    prefix: str

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Refuse every other method."""
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def _refuse(self) -> None:
        self.close_connection = True  # what is sent is not read
        self._say(405, b"ftsim: a mapped address can be read, and nothing can be sent to it", {"Allow": "GET, HEAD"})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on the program's stderr."""

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        file = self.find(path[len(self.prefix) :]) if path.startswith(self.prefix + "/") else None
        if file is None:
            self._say(404, b"ftsim: the address is mapped to a folder that has no such file", body=body)
            return
        with open(file, "rb") as opened:
            facts = os.fstat(opened.fileno())
            tag = f'"{facts.st_size:x}-{facts.st_mtime_ns:x}"'
            kind, packed = mimetypes.guess_type(file)
            told = {
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream" if packed or not kind else kind,
                "ETag": tag,
                "Last-Modified": formatdate(facts.st_mtime, usegmt=True),
            }
            if self.headers.get("If-None-Match") == tag:
                self._say(304, b"", told)
                return
            self._send(opened, facts.st_size, told, body)

    def _send(self, opened: BinaryIO, size: int, told: dict[str, str], body: bool) -> None:
        """Send the part that was asked for; more than one part is answered by the whole."""
        first, last, status = 0, size - 1, 200
        if found := _RANGE.fullmatch(self.headers.get("Range", "")):
            begin, end = found.groups()
            if begin:
                first, last = int(begin), min(int(end), size - 1) if end else size - 1
            elif end:
                first = max(0, size - int(end))
            if first > last or not (begin or end):
                self._say(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            status, told = 206, told | {"Content-Range": f"bytes {first}-{last}/{size}"}
        self.send_response(status)
        for name, value in {**told, "Content-Length": str(last - first + 1)}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            opened.seek(first)
            if status == 200:
                shutil.copyfileobj(opened, self.wfile)
            else:
                self.wfile.write(opened.read(last - first + 1))

    def _say(self, status: int, text: bytes, more: dict[str, str] | None = None, body: bool = True) -> None:
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Type", (more or {}).get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if body:
            self.wfile.write(text)
