#!/usr/bin/env bash
# fireworks-ai 1.2.30 (seen on 2026-11-29, Python 3.11)
#
# `Fireworks()` asks https://api.fireworks.ai. With the same address written out, as base_url or in FIREWORKS_BASE_URL, the
# calls of inference go to other paths of it: /v1/chat/completions instead of /inference/v1/chat/completions. Any address counts
# as another one, so behind a proxy or a recorder the paths are not those of the service that it stands before; and no one
# address gives both halves their paths, since with /inference at its end the control plane is asked under /inference too.
# Whoever sets the variable for the control plane, where it changes nothing, moves the chats.
#
# We had expected that the default written out is the default. The cure behind a proxy is two clients, one per half.
#
# Output seen:
#   not written: /inference/v1/chat/completions, /v1/accounts/a/models
#   by argument: /v1/chat/completions, /v1/accounts/a/models
#   by variable: /v1/chat/completions, /v1/accounts/a/models
#   with /inference: /inference/v1/chat/completions, /inference/v1/accounts/a/models
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q fireworks-ai==1.2.30
cat > look.py <<'PY'
import os
import sys

import httpx
from fireworks import Fireworks

os.environ.pop("FIREWORKS_BASE_URL", None)
DEFAULT = "https://api.fireworks.ai"


def paths(**settings):
    """The paths that are asked for; nothing leaves this process."""
    asked = []

    def answer(request):
        asked.append(request.url.path)
        assert f"{request.url.scheme}://{request.url.host}" == DEFAULT
        return httpx.Response(200, json={"choices": [], "models": []})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = Fireworks(api_key="k", http_client=http, **settings)
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        client.models.list(account_id="a")
    return asked


seen = {"not written": paths(), "by argument": paths(base_url=DEFAULT)}
os.environ["FIREWORKS_BASE_URL"] = DEFAULT
seen["by variable"] = paths()
seen["with /inference"] = paths(base_url=f"{DEFAULT}/inference")
for what, it in seen.items():
    print(f"{what}: {', '.join(it)}")
chat, models = "/v1/chat/completions", "/v1/accounts/a/models"
moved = [chat, models]
expected = [[f"/inference{chat}", models], moved, moved, [f"/inference{chat}", f"/inference{models}"]]
sys.exit(0 if list(seen.values()) == expected else "the behaviour has changed")
PY
venv/bin/python look.py
