#!/usr/bin/env bash
# transformers 5.24.0, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# A model is saved into a folder as one file, model.safetensors. A later save into the same folder is written in shards: the model
# has grown past the limit, `max_shard_size` is set, or another release with a lower default writes it. The shards and their
# index are whole and new; the one file stays beside them, and `from_pretrained` prefers it. So the folder opens to the
# weights of the first save, with the config of the second and without a word. Programs that go by the index open the new ones.
# In the other order the shards are deleted, and only their index stays.
#
# We had expected the weights that were saved last: shards of an earlier save are deleted, so the old file would be. The cure is an
# empty folder for each save.
#
# Output seen:
#   saved as one file, then in shards: 1.0 is opened, 2.0 was saved last, the shards have 2.0
#   saved in shards, then as one file: 2.0 is opened, 2.0 was saved last; shards left: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q transformers==5.24.0
cat > look.py <<'PY'
import json
from pathlib import Path

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(**SIZES))


def save(folder, value, **settings):
    model.lm_head.weight.data.fill_(value)
    model.save_pretrained(folder, **settings)


def opened(folder):
    return AutoModelForCausalLM.from_pretrained(folder).lm_head.weight[0, 0].item()


save("grown", 1.0)
save("grown", 2.0, max_shard_size="4KB")
names = json.loads(Path("grown/model.safetensors.index.json").read_text())["weight_map"]
shard = load_file(Path("grown") / names["lm_head.weight"])["lm_head.weight"][0, 0].item()
first = opened("grown")
print(f"saved as one file, then in shards: {first} is opened, 2.0 was saved last, the shards have {shard}")

save("shrunk", 1.0, max_shard_size="4KB")
save("shrunk", 2.0)
left = len(list(Path("shrunk").glob("*-of-*.safetensors")))
second = opened("shrunk")
print(f"saved in shards, then as one file: {second} is opened, 2.0 was saved last; shards left: {left}")
if (first, shard, second, left) != (1.0, 2.0, 2.0, 0):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
