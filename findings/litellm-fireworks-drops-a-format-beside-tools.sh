#!/usr/bin/env bash
# litellm 1.110.2 (seen on 2026-11-29, Python 3.11)
#
# A chat is asked for with tools and with a response_format (an agent whose last answer is JSON by a schema). Under `openai/`
# both are sent. Under `fireworks_ai/` the schema is sent nowhere: neither as response_format nor as the tool that litellm
# writes for it, which the list of the caller's tools then replaces. Nothing is raised or printed, and the model answers in
# free text. Without tools the schema is sent. The tools lose their `strict`, too.
#
# We had expected both to be sent, or an UnsupportedParamsError, as for other parameters that a provider lacks. The cure is to
# send the format as `extra_body={"response_format": ...}`, which is sent as it stands.
#
# Output seen:
#   openai: ['response_format', 'tools'], tools ['look_up'], strict True
#   fireworks_ai: ['tools'], tools ['look_up'], strict None
#   fireworks_ai, extra_body: ['response_format', 'tools'], tools ['look_up'], strict None
#   fireworks_ai without tools: ['response_format']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q litellm==1.110.2
cat > look.py <<'PY'
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        choice = {"index": 0, "message": {"role": "assistant", "content": "{}"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
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
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"}

import litellm

SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"], "additionalProperties": False}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "look_up", "strict": True, "parameters": SCHEMA}}]}
MESSAGES = [{"role": "user", "content": "Hi"}]


def sent(model, **more):
    litellm.completion(model=model, messages=MESSAGES, api_base=address, api_key="k", **more)
    tools = [one["function"] for one in asked[-1].get("tools", [])]
    told = str([name for name in ("response_format", "tools") if name in asked[-1]])
    return told + (f", tools {[one['name'] for one in tools]}, strict {tools[0].get('strict')}" if tools else "")


name = "fireworks_ai/accounts/fireworks/models/kimi-k2-instruct"
seen = {
    "openai": sent("openai/m", **FORMAT, **TOOLS),
    "fireworks_ai": sent(name, **FORMAT, **TOOLS),
    "fireworks_ai, extra_body": sent(name, extra_body=FORMAT, **TOOLS),
    "fireworks_ai without tools": sent(name, **FORMAT),
}
for what, it in seen.items():
    print(f"{what}: {it}")
expected = [
    "['response_format', 'tools'], tools ['look_up'], strict True",
    "['tools'], tools ['look_up'], strict None",
    "['response_format', 'tools'], tools ['look_up'], strict None",
    "['response_format']",
]
sys.exit(0 if list(seen.values()) == expected else "the behaviour has changed")
PY
venv/bin/python look.py
