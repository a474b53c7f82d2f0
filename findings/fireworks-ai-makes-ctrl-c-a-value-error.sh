#!/usr/bin/env bash
# fireworks-ai 1.2.28 (Python 3.11): Ctrl-C while the training client hands over a request comes out as a ValueError.
#
# A call such as `save_state` gives a coroutine to the client's own thread and returns a future. Where the interrupt comes
# after that thread has begun the coroutine and before the call returns, the client closes it; its last lines reset a
# context variable of another context, and their ValueError takes the place of the KeyboardInterrupt. Of 181 interrupts at
# random moments of a supervised run, 5 ended so.
# `except Exception` (a retry, "the save failed, go on") then swallows a Ctrl-C; a notebook's cell shows an error of a
# library. The request may be out already: then the service writes the checkpoint of a call that is told to have failed. A step
# that was cut off in this way leaves a client whose later calls do not return: make a new one.
#
# Guessed before: KeyboardInterrupt, with nothing sent or everything.
#
# Output seen:
#   raised: ValueError ... was created in a different Context
#   behind it: GeneratorExit, KeyboardInterrupt
#   the service was asked for: save_weights
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q 'fireworks-ai[training-sdk]==1.2.28'
cat > "$folder/show.py" <<'PYTHON'
"""A stub of the gateway, a client on it, and Ctrl-C at the moment named above."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["TINKER_TELEMETRY"] = "0"
warnings.simplefilter("ignore")
from fireworks.training.sdk import FiretitanServiceClient

asked = []


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        call = self.path.rpartition("/")[2]
        asked.append(call)
        if call == "save_weights":
            time.sleep(1)  # it writes
        made = {"model_id": "m", "request_id": call, "type": "create_model"}
        data = json.dumps({"session_id": "s"} if call == "create_session" else made).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
threading.Thread(target=server.serve_forever, daemon=True).start()
hand_over = asyncio.run_coroutine_threadsafe


def interrupted(coroutine, loop):
    """Ctrl-C once the request is out, before the call returns."""
    future = hand_over(coroutine, loop)
    if threading.current_thread() is threading.main_thread():  # the client's own thread hands over, too
        while "save_weights" not in asked:
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
    return future


service = FiretitanServiceClient(base_url=f"http://127.0.0.1:{server.server_port}", api_key="fw_none")
client = service.create_training_client(base_model="accounts/a/models/m", lora_rank=8)
asked.clear()
asyncio.run_coroutine_threadsafe = interrupted
try:
    client.save_state("step-10")
    chain = [None]
except BaseException as error:
    chain = [error]
while chain[-1] is not None and chain[-1].__context__ is not None:
    chain.append(chain[-1].__context__)
kinds, said = [type(error).__name__ for error in chain], str(chain[0])
print(f"raised: {kinds[0]} ... {said[said.find('was created') :]}")
print(f"behind it: {', '.join(kinds[1:])}")
print(f"the service was asked for: {', '.join(asked)}")
as_seen = kinds == ["ValueError", "GeneratorExit", "KeyboardInterrupt"] and asked == ["save_weights"]
sys.stdout.flush()
os._exit(0 if as_seen else 1)  # the client's threads are of no more use
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null || { echo "the behaviour has changed"; exit 1; }
