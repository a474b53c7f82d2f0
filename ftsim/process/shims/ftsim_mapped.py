"""Answers addresses that were mapped to files, and lets nothing else leave this machine: `ftsim run --map URL=FILE`.

`sitecustomize` imports this only when FTSIM_MAP is set. It runs in the program's interpreter, so it needs the standard
library only. As a library is imported, the one function through which its requests go is wrapped: a mapped address
becomes one of a small server in this process, which knows HEAD, ranges and ETags. A socket to another machine is
refused with an OSError, which every library raises as its own kind of connection error.
"""

from __future__ import annotations

import errno
import importlib.machinery
import ipaddress
import json
import os
import socket
import sys
import threading
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any
from urllib.parse import unquote, urlsplit

MAP = json.loads(os.environ["FTSIM_MAP"])
"""Pairs of an address and a file or folder, the longest address first."""
_started: tuple[int, str] = (0, "")
"""The process that serves, and where."""
_starting = threading.Lock()
_PORTS = {"http": 80, "https": 443}


def served(url: str) -> str | None:
    """The address in this process that answers for a mapped one; None for any other."""
    asked = _place(url)
    for at, (base, target) in enumerate(MAP):
        scheme, host, port, path = _place(base)
        if asked[:3] != (scheme, host, port):
            continue
        stem = path.rstrip("/")
        if asked[3] == path or (os.path.isdir(target) and asked[3].startswith(stem + "/")):
            rest = asked[3][len(stem) :].lstrip("/") if os.path.isdir(target) else ""
            return f"{_serve()}/{at}/{rest}"
    return None


def _place(url: str) -> tuple[str, str, int, str]:
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname or "", port, parts.path or "/"


def file_of(path: str) -> str | None:
    """The file behind a path `/NUMBER/REST` of the server; None where there is none."""
    number, _, rest = path.lstrip("/").partition("/")
    if not number.isdigit() or int(number) >= len(MAP):
        return None
    target, names = MAP[int(number)][1], [name for name in unquote(rest).split("/") if name]
    if any(name == ".." or "\0" in name or os.sep in name for name in names):
        return None
    file = os.path.join(target, *names)
    return file if os.path.isfile(file) else None


def _serve() -> str:
    """The address at which this process serves its files, from the first time on; a forked one serves anew."""
    global _started
    with _starting:
        if _started[0] != os.getpid():
            import ftsim_mapped_server  # type: ignore[import-not-found]  # it lies beside this file

            _started = (os.getpid(), ftsim_mapped_server.start(file_of))
        return _started[1]


def refusal(host: str) -> str:
    """The words that a connection to another machine fails with."""
    return (
        f"ftsim: {host} is not this machine, and under --map nothing else is reached: map the address too, "
        f"`ftsim run --map https://{host}/PATH=FILE`, or leave --map out"
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_here(host: object) -> bool:
    """Say whether a host is this machine: a loopback address, or a name of this machine's own."""
    name = "" if host is None else str(host)
    if name in ("", "localhost", socket.gethostname()) or name.endswith(".localhost"):
        return True
    if not _is_address(name):
        return False
    address = ipaddress.ip_address(name.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _fence() -> None:
    lookup, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if not _is_here(name) and not _is_address(str(name)):  # a number is looked up by nobody
            raise socket.gaierror(socket.EAI_FAIL, refusal(str(name)))
        return lookup(host, *args, **kwargs)

    def checked(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
                raise OSError(errno.ENETUNREACH, refusal(str(address[0])))
            return method(self, address)

        return run

    socket.getaddrinfo = getaddrinfo
    setattr(socket.socket, "connect", checked(connect))  # noqa: B010 (a method may not be assigned to)
    setattr(socket.socket, "connect_ex", checked(connect_ex))  # noqa: B010


def _urllib(module: Any) -> None:
    opened = module.OpenerDirector.open

    def open(self: Any, fullurl: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        whole = fullurl if isinstance(fullurl, module.Request) else module.Request(fullurl, data)
        here = served(whole.full_url)
        if here is None:
            return opened(self, fullurl, data, *args, **kwargs)
        headers = {**whole.headers, **whole.unredirected_hdrs}
        headers.pop("Host", None)
        sent = module.Request(here, data if data is not None else whole.data, headers, method=whole.get_method())
        answer = opened(self, sent, None, *args, **kwargs)
        answer.url = whole.full_url
        return answer

    module.OpenerDirector.open = open


def _requests(module: Any) -> None:
    send = module.HTTPAdapter.send

    def sent(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        here = served(request.url)
        if here is None:
            return send(self, request, *args, **kwargs)
        moved = request.copy()
        moved.url = here
        moved.headers.pop("Host", None)
        answer = send(self, moved, *args, **kwargs)
        answer.url, answer.request = request.url, request
        return answer

    module.HTTPAdapter.send = sent


def _urllib3(module: Any) -> None:
    opened = module.PoolManager.urlopen

    def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return opened(self, method, served(url) or url, *args, **kwargs)

    module.PoolManager.urlopen = urlopen


def _httpx(module: Any) -> None:
    library = sys.modules[module.__name__.partition(".")[0]]

    def moved(request: Any) -> Any:
        here = served(str(request.url))
        if here is None:
            return request
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
        headers.insert(0, (b"Host", urlsplit(here).netloc.encode()))
        return library.Request(
            request.method, here, headers=headers, stream=request.stream, extensions=request.extensions
        )

    handle, handle_async = module.HTTPTransport.handle_request, module.AsyncHTTPTransport.handle_async_request

    def handle_request(self: Any, request: Any) -> Any:
        return handle(self, moved(request))

    async def handle_async_request(self: Any, request: Any) -> Any:
        return await handle_async(self, moved(request))

    module.HTTPTransport.handle_request = handle_request
    module.AsyncHTTPTransport.handle_async_request = handle_async_request


def _aiohttp(module: Any) -> None:
    ask = module.ClientSession._request

    async def request(self: Any, method: str, str_or_url: Any, **kwargs: Any) -> Any:
        try:
            whole = self._build_url(str_or_url)
        except (AssertionError, AttributeError, TypeError, ValueError):
            whole = str_or_url  # the library says what is wrong with it
        here = served(str(whole))
        if here is None:
            return await ask(self, method, str_or_url, **kwargs)
        answer = await ask(self, method, here, **{**kwargs, "params": None})
        if isinstance(whole, type(getattr(answer, "_url", None))):
            answer._url = answer._real_url = whole
        return answer

    module.ClientSession._request = request


HOOKS: dict[str, Callable[[Any], None]] = {
    "urllib.request": _urllib,
    "urllib3.poolmanager": _urllib3,
    "requests.adapters": _requests,
    "httpx._transports.default": _httpx,
    "httpx2._transports.default": _httpx,
    "aiohttp.client": _aiohttp,
}
"""Module -> what wraps its requests once it has been imported."""


class Finder:
    """Finds these modules as usual and wraps their requests once they have run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in HOOKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            run(module)
            HOOKS[name](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Wrap what has been imported already, and the rest as it is."""
    _fence()
    for name, hook in HOOKS.items():
        if name in sys.modules:
            hook(sys.modules[name])
    sys.meta_path.insert(0, Finder())
