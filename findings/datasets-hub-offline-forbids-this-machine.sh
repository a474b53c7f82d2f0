#!/usr/bin/env bash
# datasets 5.2.0, huggingface_hub 2.4.0 (seen on 2026-11-28, Python 3.11)
#
# HF_HUB_OFFLINE=1 is set to keep a run from the hub. `load_dataset` takes it for no network at all: a file on a server of
# this very machine, `data_files="http://127.0.0.1:PORT/rows.jsonl"`, is refused with OfflineModeIsEnabled. With
# `streaming=True` the same call, on the same address and under the same variable, reads the file. HF_DATASETS_OFFLINE=0
# beside it frees the first one, too, and keeps the hub shut for huggingface_hub.
#
# We had expected the variable to be about the hub, and a stream to obey what a download obeys.
#
# Output seen:
#   HF_HUB_OFFLINE=1: OfflineModeIsEnabled
#   HF_HUB_OFFLINE=1, streaming: ['one', 'two']
#   HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=0: ['one', 'two']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 huggingface_hub==2.4.0 fsspec==2026.9.0 aiohttp==3.14.5 requests==2.34.2
printf '{"text": "one"}\n{"text": "two"}\n' > rows.jsonl
cat > look.py <<'PY'
import functools
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


datasets.disable_progress_bars()
server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory="."))
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/rows.jsonl"
try:
    loaded = datasets.load_dataset("json", data_files=url, split="train", streaming=sys.argv[1] == "streaming")
    print([row["text"] for row in loaded])
except Exception as error:
    print(type(error).__name__)
PY
export HF_HOME="$folder/home" HF_HUB_OFFLINE=1
{
    echo "HF_HUB_OFFLINE=1: $(venv/bin/python look.py whole)"
    echo "HF_HUB_OFFLINE=1, streaming: $(venv/bin/python look.py streaming)"
    echo "HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=0: $(HF_DATASETS_OFFLINE=0 venv/bin/python look.py whole)"
} | tee out
expected="HF_HUB_OFFLINE=1: OfflineModeIsEnabled
HF_HUB_OFFLINE=1, streaming: ['one', 'two']
HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=0: ['one', 'two']"
[ "$(cat out)" = "$expected" ] || { echo "the behaviour has changed"; exit 1; }
