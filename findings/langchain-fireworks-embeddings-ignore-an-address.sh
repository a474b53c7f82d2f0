#!/usr/bin/env bash
# langchain-fireworks 1.7.1, openai 3.57.0 (seen on 2026-11-29, Python 3.11)
#
# A program points its three models at a server of its own, a proxy say, by base_url. The chat model and the
# completion model ask it. `FireworksEmbeddings` takes the argument without a word and asks the vendor's service, with the key
# that it was given: texts leave the house, are paid for, and an index holds the vectors of another model. The variables
# FIREWORKS_BASE_URL and FIREWORKS_API_BASE, which the chat model obeys, change nothing for it either, nor for the completion
# model; and of one server the chat model wants the root, the completion model the whole path of the endpoint.
#
# We had expected an error for an argument that does not exist, or an address that is used. The cure is OpenAIEmbeddings of
# langchain-openai with base_url and check_embedding_ctx_length=False. Nothing is sent here: the clients are looked at.
#
# Output seen:
#   by argument: chat http://127.0.0.1:9, completion http://127.0.0.1:9/v1/completions, embeddings https://api.fireworks.ai/inference/v1
#   by variable: chat http://127.0.0.1:9, completion https://api.fireworks.ai/inference/v1/completions, embeddings https://api.fireworks.ai/inference/v1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q langchain-fireworks==1.7.1 openai==3.57.0
cat > look.py <<'PY'
import os
import sys
import warnings

warnings.simplefilter("error")
os.environ["FIREWORKS_API_KEY"] = "k"
HERE, THERE = "http://127.0.0.1:9", "https://api.fireworks.ai/inference/v1"

from langchain_fireworks import ChatFireworks, Fireworks, FireworksEmbeddings


def addresses(base="", whole=""):
    chat = ChatFireworks(model="m", **({"base_url": base} if base else {}))
    completion = Fireworks(model="m", **({"base_url": whole} if whole else {}))
    embeddings = FireworksEmbeddings(model="m", **({"base_url": base} if base else {}))
    found = chat._sdk_client.base_url, completion.base_url, embeddings.client.base_url
    return [str(one).rstrip("/") for one in found]


by_argument = addresses(HERE, f"{HERE}/v1/completions")
os.environ |= {"FIREWORKS_BASE_URL": HERE, "FIREWORKS_API_BASE": HERE}
by_variable = addresses()
for how, (chat, completion, embeddings) in (("argument", by_argument), ("variable", by_variable)):
    print(f"by {how}: chat {chat}, completion {completion}, embeddings {embeddings}")
seen = by_argument == [HERE, f"{HERE}/v1/completions", THERE] and by_variable == [HERE, f"{THERE}/completions", THERE]
sys.exit(0 if seen else "the behaviour has changed")
PY
venv/bin/python look.py
