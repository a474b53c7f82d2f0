#!/usr/bin/env bash
# dspy 3.4.1 (seen on 2026-11-29, Python 3.11)
#
# Four answers to one prompt are asked for, to vote or to choose among, with a seed so that the run can be repeated:
# `lm(prompt, n=4, seed=7)`. Under `openai/` and `hosted_vllm/` dspy leaves `n` out and sends four requests with the same seed.
# A server that keeps its word about seeds, as vLLM does, gives four times one answer: the vote is unanimous, the best of four
# is the first, and each request pays for the prompt. Under `fireworks_ai/` one request with n 4 is sent.
#
# We had expected one request with n, or seeds that differ. The cure is to ask n times with a seed of one's own for each.
#
# Output seen:
#   openai/m: 4 requests, n [None, None, None, None], seed [7, 7, 7, 7], 1 different answers
#   hosted_vllm/m: 4 requests, n [None, None, None, None], seed [7, 7, 7, 7], 1 different answers
#   fireworks_ai/accounts/a/models/m: 1 requests, n [4], seed [7], 4 different answers
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q dspy==3.4.1
cat > look.py <<'PY'
import json
import os
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Server(BaseHTTPRequestHandler):
    """Draws as a server with seeds does: one seed and one prompt give the same choices, which differ among themselves."""

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked.append(sent)
        chance = random.Random(f"{sent['seed']} {sent['messages']}")
        said = [
            {"index": at, "message": {"role": "assistant", "content": str(chance.random())}, "finish_reason": "stop"}
            for at in range(sent.get("n", 1))
        ]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({**head, "choices": said, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/v1"
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1", "DSPY_CACHEDIR": os.path.abspath("cache")}

import dspy

seen = []
for model in ("openai/m", "hosted_vllm/m", "fireworks_ai/accounts/a/models/m"):
    asked.clear()
    answers = dspy.LM(model, api_base=address, api_key="k", cache=False, temperature=1.0)("Which?", n=4, seed=7)
    n, seeds = [one.get("n") for one in asked], [one.get("seed") for one in asked]
    print(f"{model}: {len(asked)} requests, n {n}, seed {seeds}, {len(set(answers))} different answers")
    seen.append((n, seeds, len(set(answers))))
expected = [([None] * 4, [7] * 4, 1), ([None] * 4, [7] * 4, 1), ([4], [7], 4)]
sys.exit(0 if seen == expected else "the behaviour has changed")
PY
venv/bin/python look.py
