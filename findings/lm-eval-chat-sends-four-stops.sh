#!/usr/bin/env bash
# lm-eval 0.4.13 (seen on 2026-11-29, Python 3.11)
#
# HumanEval ends an answer at one of five strings, "\nclass", "\ndef", "\n#", "\nif" and "\nprint". `local-completions` sends
# all five, and the end of the turn. `local-chat-completions` sends the first four and cuts nothing itself, so that an answer
# runs on behind "\nprint" to the limit, and what is scored is another program; no warning tells of it. Four is the limit of
# one service, and the server asked here has none. The end of the turn, which is put last, is lost with any task that has four.
#
# We had expected the strings of the task to be sent, or the answer to be cut at them afterwards. The cure is
# `local-completions`, or a filter of the task that cuts.
#
# Output seen:
#   local-completions: 6 stop strings, answer '    return 1'
#   local-chat-completions: 4 stop strings, answer '    return 1\nprint(f())\nprint(g())'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q 'lm-eval[api]==0.4.13'
cat > look.py <<'PY'
import importlib.resources
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRITTEN = "    return 1\nprint(f())\nprint(g())"
asked = []


class Server(BaseHTTPRequestHandler):
    """A model that always writes one text, cut where the first stop string of the request stands."""

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked.append(sent["stop"])
        text = WRITTEN[: min((at for one in sent["stop"] if (at := WRITTEN.find(one)) >= 0), default=len(WRITTEN))]
        choice = {"index": 0, "text": text, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice]}).encode()
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
os.environ |= {"OPENAI_API_KEY": "k", "NO_PROXY": "127.0.0.1"}

import yaml
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

task = (importlib.resources.files("lm_eval") / "tasks/humaneval/humaneval.yaml").read_text().replace("!function ", "")
until = yaml.safe_load(task)["generation_kwargs"]["until"]
MODELS = {
    "local-completions": (LocalCompletionsAPI, "completions", "def f():"),
    "local-chat-completions": (LocalChatCompletion, "chat/completions", JsonChatStr('[{"role": "user", "content": "f"}]')),
}
seen = []
for name, (kind, path, prompt) in MODELS.items():
    settings = {"model": "m", "tokenizer_backend": None, "eos_string": "<end>", "tokenized_requests": False}
    model = kind(base_url=f"{address}/{path}", **settings)
    one = Instance(request_type="generate_until", doc={}, arguments=(prompt, {"until": list(until)}), idx=0)
    (answer,) = model.generate_until([one], disable_tqdm=True)
    print(f"{name}: {len(asked[-1])} stop strings, answer {answer!r}")
    seen.append((asked[-1], answer))
expected = [([*until, "<end>"], "    return 1"), (until[:4], WRITTEN)]
sys.exit(0 if len(until) == 5 and seen == expected else "the behaviour has changed")
PY
venv/bin/python look.py
