"""`ftsim run --map URL=FILE`: what libraries ask for is read from files, and nothing else is reached."""

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import httpx
import pytest

from ftsim.process import mapping
from ftsim.process.environment import SHIMS
from tests.conftest import Ftsim

ROWS = '{"text": "one"}\n{"text": "two"}\n'
ASK = """
import asyncio, json, socket, time, urllib.request
import aiohttp, fsspec, httpx, httpx2, requests, urllib3

def told(ask):
    began = time.monotonic()
    try:
        return ask()
    except Exception as error:
        why, cause = str(error), error
        while cause := cause.__cause__ or cause.__context__:
            why += str(cause)
        return [type(error).__module__.partition(".")[0], type(error).__name__, why, time.monotonic() - began]

async def with_aiohttp(url):
    async with aiohttp.ClientSession() as session, session.get(url, params={"a": "1"}) as answer:
        assert not str(answer.url).startswith("http://127"), answer.url
        return await answer.text()

async def with_async_httpx(url):
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).text

def with_requests(url):
    answer = requests.get(url)
    assert answer.url == url == answer.request.url
    return answer.text

def with_urllib(url):
    with urllib.request.urlopen(url) as answer:
        assert answer.url == url
        return answer.read().decode()

def with_httpx(url):
    answer = httpx.get(url)
    assert str(answer.url) == url
    return answer.text

def with_fsspec(url):
    with fsspec.open(url, "r") as file:
        return file.read()

def part(url):
    with fsspec.open(url, "rb", block_size=8) as file:
        file.seek(-15, 2)
        return file.read(14).decode()

ways = {
    "urllib": with_urllib,
    "urllib3": lambda url: urllib3.PoolManager(retries=False).request("GET", url).data.decode(),
    "requests": with_requests,
    "httpx": with_httpx,
    "httpx2": lambda url: httpx2.get(url).text,
    "async httpx": lambda url: asyncio.run(with_async_httpx(url)),
    "aiohttp": lambda url: asyncio.run(with_aiohttp(url)),
    "fsspec": with_fsspec,
}
found = {
    name: [told(lambda: way(url)) for url in ("https://data.example/sets/rows.jsonl", "https://one.example:8443/a")]
    + [told(lambda: way("https://elsewhere.example/rows.jsonl"))]
    for name, way in ways.items()
}
found["part"] = part("https://data.example/sets/rows.jsonl")
missing = ("none", "..%2Fsecret", "")
found["missing"] = [requests.get("https://data.example/sets/" + rest).status_code for rest in missing]
found["beside"] = told(lambda: requests.get("https://data.example/setsrows.jsonl").text)
found["sent"] = requests.post("https://data.example/sets/rows.jsonl", data=b"x").status_code
found["socket"] = told(lambda: socket.create_connection(("192.0.2.1", 80)))
print(json.dumps(found))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sets"
    made.mkdir()
    (made / "rows.jsonl").write_text(ROWS)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "one").write_text("one file")
    return made


def run(program: str, *pairs: str) -> Any:
    env = os.environ | mapping.variables(pairs) | {"PYTHONPATH": str(SHIMS)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_library_reads_the_mapped_files_and_reaches_nothing_else(folder: Path) -> None:
    pairs = (f"https://data.example/sets={folder}", f"https://one.example:8443/a={folder.parent / 'one'}")
    found = run(ASK, *pairs)
    for name in ("urllib", "urllib3", "requests", "httpx", "httpx2", "async httpx", "aiohttp", "fsspec"):
        rows, one, refused = found[name]
        assert (rows, one) == (ROWS, "one file"), name
        library, kind, why, seconds = refused
        assert library == {"urllib": "urllib", "async httpx": "httpx", "fsspec": "builtins"}.get(name, name), refused
        assert "Error" in kind
        assert "elsewhere.example is not this machine" in why, (name, why)
        assert "ftsim run --map https://elsewhere.example/PATH=FILE" in why, name
        assert seconds < 2
    assert found["part"] == ROWS[-15:-1]
    assert found["missing"] == [404, 404, 404]
    assert "data.example is not this machine" in found["beside"][2]
    assert found["sent"] == 405
    assert "192.0.2.1 is not this machine" in found["socket"][2]


def test_a_child_process_has_the_same_addresses(folder: Path) -> None:
    child = "import urllib.request as web; print(web.urlopen('https://data.example/sets/rows.jsonl').read())"
    forked = (
        "import json, os, subprocess, sys, urllib.request as web\n"
        "url = 'https://data.example/sets/rows.jsonl'\n"
        "web.urlopen(url).read()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os._exit(0 if web.urlopen(url).read() else 1)\n"
        f"said = subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True)\n"
        "print(json.dumps([os.waitpid(pid, 0)[1], said.stdout.strip()]))\n"
    )
    assert run(forked, f"https://data.example/sets={folder}") == [0, repr(ROWS.encode())]


def test_nothing_is_wrapped_unless_it_is_asked_for() -> None:
    program = (
        "import json, socket, sys; print(json.dumps(['ftsim_mapped' in sys.modules, socket.getaddrinfo.__module__]))"
    )
    assert run(program) == [False, "socket"]
    assert mapping.variables(()) == {}


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("https://data.example", "is not URL=FILE"),
        ("data.example/a=b", "is not URL=FILE"),
        ("s3://bucket/a=b", "is not URL=FILE"),
        ("https://data.example/a?b", "is not URL=FILE"),
        ("https://data.example/a?=b", "leave out what stands behind"),
        ("https://data.example/a=no/such/file", "there is no file or folder"),
    ],
)
def test_a_pair_that_is_none_is_one_clear_line(ftsim: Ftsim, tmp_path: Path, pair: str, says: str) -> None:
    program = tmp_path / "program.py"
    program.write_text("")
    done = ftsim("run", "--map", pair, str(program))
    assert done.exit_code == 2
    assert says in done.output
    assert done.output.startswith("ftsim: --map")


def test_proxies_are_left_out_with_a_map_alone() -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example", "all_proxy": "x", "NO_PROXY": "localhost"}
    assert mapping.without_proxies(environment) == environment
    mapped = environment | {mapping.MAP: "[]"}
    assert mapping.without_proxies(mapped) == {"NO_PROXY": "localhost", mapping.MAP: "[]"}


@pytest.fixture
def url(folder: Path) -> str:
    spec = spec_from_file_location("ftsim_mapped_server", SHIMS / "ftsim_mapped_server.py")
    assert spec is not None
    assert spec.loader is not None
    server = module_from_spec(spec)
    spec.loader.exec_module(server)
    return str(server.start(lambda path: str(folder / "rows.jsonl") if path == "/0/rows" else None)) + "/0/rows"


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        ("bytes=0-3", 206, ROWS[:4]),
        ("bytes=16-", 206, ROWS[16:]),
        ("bytes=-5", 206, ROWS[-5:]),
        ("bytes=5-9999", 206, ROWS[5:]),
        ("bytes=999-", 416, ""),
        ("bytes=-", 416, ""),
        ("lines=1-2", 200, ROWS),
    ],
)
def test_a_part_of_a_file(url: str, sent: str, status: int, body: str) -> None:
    answer = httpx.get(url, headers={"Range": sent}, trust_env=False)
    assert (answer.status_code, answer.text) == (status, body)


def test_the_head_of_a_file_and_its_tag(url: str) -> None:
    head = httpx.head(url, trust_env=False)
    assert (head.status_code, head.headers["Content-Length"], head.text) == (200, str(len(ROWS)), "")
    tag = head.headers["ETag"]
    assert httpx.get(url, headers={"If-None-Match": tag}, trust_env=False).status_code == 304
    assert httpx.get(url.replace(url.split("/")[3], "guess"), trust_env=False).status_code == 404


@pytest.mark.skipif(find_spec("datasets") is None, reason="needs the package datasets: tox -e programs")
@pytest.mark.slow
def test_data_sets_are_loaded_from_the_mapped_files(folder: Path, tmp_path: Path) -> None:
    program = f"""
        import json, os
        os.environ["HF_HOME"] = {str(tmp_path / "home")!r}
        from datasets import load_dataset
        loaded = load_dataset("json", data_files="https://data.example/sets/rows.jsonl", split="train")
        print(json.dumps(list(loaded["text"])))
    """
    assert run(program, f"https://data.example/sets={folder}") == ["one", "two"]
