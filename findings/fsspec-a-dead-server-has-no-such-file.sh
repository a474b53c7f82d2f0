#!/usr/bin/env bash
# fsspec 2026.9.0, aiohttp 3.14.5 (seen on 2026-11-28, Python 3.11)
#
# A file over HTTP whose server does not answer (nobody listens on its port), or answers 500, is taken for a file that is
# not there: `fsspec.open` raises FileNotFoundError with nothing but the URL in its text, the real reason is only its
# `__cause__`; `exists` says False, without an error or a warning. So `if not fs.exists(url)` begins anew while a server is
# down, and `except FileNotFoundError` takes a failure of the network for the end of a list of shards.
# Reading the whole with `cat` is not so: it raises the library's own error.
#
# We had expected a connection error from all three, as `cat` gives one.
#
# Output seen:
#   nobody listens: open FileNotFoundError from ClientConnectorError, exists False, cat ClientConnectorError from ConnectionRefusedError
#   status 500: open FileNotFoundError from ClientResponseError, exists False, cat ClientResponseError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q fsspec==2026.9.0 aiohttp==3.14.5
cat > look.py <<'PY'
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec


class Broken(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def named(ask):
    try:
        return repr(ask())
    except Exception as error:
        cause = error.__cause__
        return type(error).__name__ + (f" from {type(cause).__name__}" if cause else "")


def opened(url):
    with fsspec.open(url, "rb") as file:
        return file.read()


with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    free = taken.getsockname()[1]
server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
threading.Thread(target=server.serve_forever, daemon=True).start()
fs = fsspec.filesystem("http")
for name, port in (("nobody listens", free), ("status 500", server.server_port)):
    url = f"http://127.0.0.1:{port}/state/latest"
    print(f"{name}: open {named(lambda: opened(url))}, exists {named(lambda: fs.exists(url))}, cat {named(lambda: fs.cat(url))}")
PY
venv/bin/python look.py | tee out
expected='nobody listens: open FileNotFoundError from ClientConnectorError, exists False, cat ClientConnectorError from ConnectionRefusedError
status 500: open FileNotFoundError from ClientResponseError, exists False, cat ClientResponseError'
[ "$(cat out)" = "$expected" ] || { echo "the behaviour has changed"; exit 1; }
