#!/usr/bin/env bash
# respx 0.23.1, httpx 0.28.1 (seen on 2026-11-28, Python 3.11)
#
# A streamed answer (server-sent events of a completion) is mocked once, `Response(200, content=iter([...]))`, and asked for
# twice, as a retry or the second prompt of a test does. The first request reads the events. The second gets status 200 and a
# body of no bytes: the same exhausted iterator is handed out again, and no layer says so. httpx looks for a stream that is
# read twice only where the content is a generator: with one, the second request raises StreamConsumed.
# A client that treats an empty stream as an empty completion passes such a test with nothing in its hands.
#
# We had expected StreamConsumed for both, or the events again. The cure is a `side_effect` that builds a new Response each time.
#
# Output seen:
#   iterator: 200 b'data: 1\n\ndata: 2\n\n' then 200 b''
#   generator: 200 b'data: 1\n\ndata: 2\n\n' then StreamConsumed
#   built anew by side_effect: 200 b'data: 1\n\ndata: 2\n\n' then 200 b'data: 1\n\ndata: 2\n\n'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q respx==0.23.1 httpx==0.28.1
cat > look.py <<'PY'
import httpx
import respx

events = [b"data: 1\n\n", b"data: 2\n\n"]
whole = b"".join(events)
address = "http://service.test/v1/completions"


def ask():
    try:
        answer = httpx.get(address)
        return f"{answer.status_code} {answer.content}"
    except httpx.StreamError as error:
        return type(error).__name__


def twice(**answer):
    with respx.mock:
        respx.get(address).mock(**answer)
        return ask(), ask()


found = {
    "iterator": twice(return_value=httpx.Response(200, content=iter(events))),
    "generator": twice(return_value=httpx.Response(200, content=(event for event in events))),
    "built anew by side_effect": twice(side_effect=lambda request: httpx.Response(200, content=iter(events))),
}
for name, (first, second) in found.items():
    print(f"{name}: {first} then {second}")
if [second for _, second in found.values()] != ["200 b''", "StreamConsumed", f"200 {whole}"]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
