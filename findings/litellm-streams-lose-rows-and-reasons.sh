#!/usr/bin/env bash
# litellm 1.110.2, openai 3.57.0 (seen on 2026-11-29, Python 3.11)
#
# One server, asked through `litellm.completion` whole and streamed, with log-probabilities and with two choices. Streamed,
#   - the log-probabilities of tokens without text of their own are gone: the end of the turn, the first half of a character.
#     The usage still counts four tokens, of which two have a row; an importance ratio over the rest is computed of other tokens
#   - of two choices only the first to end tells why it ended. `stream_chunk_builder` writes "stop" for the other, which the
#     server had cut by the limit: what is filtered by finish_reason lets a cut answer through
#   - `stream_chunk_builder` gives back no log-probabilities at all
# The same for every provider that speaks OpenAI's protocol (openai/, fireworks_ai/, hosted_vllm/, together_ai/ were asked).
#
# We had expected the rows and reasons of the whole answer, as the openai client that lies below streams them. The cure is to
# ask for whole answers where rows or reasons are read, or to read the stream with the openai client.
#
# Output seen:
#   whole: rows of ['Hi', '', 'é', '<end>'], reasons ['length', 'length']
#   openai's stream: rows of ['Hi', '', 'é', '<end>'], reasons ['length', 'length']
#   litellm's stream: rows of ['Hi', 'é'], reasons ['length', None], 4 tokens counted
#   built from it: rows of [], reasons ['length', 'stop']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q litellm==1.110.2 openai==3.57.0
cat > look.py <<'PY'
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROWS = [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []} for token in ("Hi", "", "é", "<end>")]
TEXTS = ["Hi", "", "é", ""]


def chunks(n):
    for text, row in zip(TEXTS, ROWS):
        for at in range(n):
            yield {"choices": [{"index": at, "delta": {"content": text}, "logprobs": {"content": [row]}, "finish_reason": None}]}
    for at in range(n):
        yield {"choices": [{"index": at, "delta": {}, "finish_reason": "length"}]}
    yield {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4 * n, "total_tokens": 3 + 4 * n}}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        head, n = {"id": "c", "created": 1, "model": "m"}, asked.get("n", 1)
        if asked.get("stream"):
            lines = [json.dumps({**head, "object": "chat.completion.chunk", **one}) for one in chunks(n)]
            body, kind = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]), "text/event-stream"
        else:
            message = {"role": "assistant", "content": "".join(TEXTS)}
            said = [{"index": at, "message": message, "logprobs": {"content": ROWS}, "finish_reason": "length"} for at in range(n)]
            usage = {"prompt_tokens": 3, "completion_tokens": 4 * n, "total_tokens": 3 + 4 * n}
            body, kind = json.dumps({**head, "object": "chat.completion", "choices": said, "usage": usage}), "application/json"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/v1"
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"}

import litellm
import openai

litellm.suppress_debug_info = True
MESSAGES = [{"role": "user", "content": "Hi"}]
SENT = {"messages": MESSAGES, "logprobs": True}


def told(parts, tokens=None):
    """Tokens of the first choice that have a row, and the reason of each choice."""
    rows, reasons = [], [None, None]
    for choice in (one for part in parts for one in part.choices):
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        if choice.index == 0 and (found := getattr(choice, "logprobs", None)):
            found = found if isinstance(found, dict) else found.model_dump()
            rows += [row["token"] for row in found["content"]]
    return f"rows of {rows}, reasons {reasons}" + (f", {tokens} tokens counted" if tokens else "")


seen = {}
for model in ("openai/m", "fireworks_ai/accounts/a/models/m", "hosted_vllm/m", "together_ai/m"):
    ask = lambda **more: litellm.completion(model=model, api_base=address, api_key="k", **SENT, **more)
    one = list(ask(stream=True, stream_options={"include_usage": True}))
    two = list(ask(n=2, stream=True))
    seen[model] = [told([ask(n=2)]), told(two, one[-1].usage.completion_tokens), told([litellm.stream_chunk_builder(two)])]
with openai.OpenAI(base_url=address, api_key="k") as client:
    below = told(client.chat.completions.create(model="m", n=2, stream=True, **SENT))
whole, streamed, built = seen["openai/m"]
print(f"whole: {whole}\nopenai's stream: {below}\nlitellm's stream: {streamed}\nbuilt from it: {built}")
alike = all(one == seen["openai/m"] for one in seen.values())
expected = [
    "rows of ['Hi', '', 'é', '<end>'], reasons ['length', 'length']",
    "rows of ['Hi', 'é'], reasons ['length', None], 4 tokens counted",
    "rows of [], reasons ['length', 'stop']",
]
sys.exit(0 if alike and [whole, streamed, built] == expected and below == whole else "the behaviour has changed")
PY
venv/bin/python look.py
