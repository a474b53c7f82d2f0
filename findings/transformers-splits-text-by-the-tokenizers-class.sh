#!/usr/bin/env bash
# transformers 5.24.0 (5.23.0 alike), tokenizers 0.23.3 (seen on 2026-11-29, Python 3.11)
#
# A folder has a whole tokenizer.json, with the rules that split text before it is looked up. `AutoTokenizer` takes vocabulary,
# merges and post-processor from it; normalizer and splitting rules come from the class that tokenizer_config.json names, where
# that class (Qwen2Tokenizer, GemmaTokenizer, GPT2Tokenizer, CohereTokenizer) has rules of its own. For the model type qwen2
# they are Qwen2Tokenizer's whatever class is named, PreTrainedTokenizerFast, too. No warning comes. So a vocabulary that was
# trained with other rules (digits in threes, lower case) gives other ids than tokenizers gives, and whatever reads the file by
# it; and `save_pretrained` writes a tokenizer.json with the new rules for all who come after.
#
# We had expected the ids of tokenizer.json. The cure is to open the folder by `PreTrainedTokenizerFast.from_pretrained`, and
# to name that class in tokenizer_config.json, which is enough for other model types.
#
# Output seen:
#   tokenizers on tokenizer.json: 2 tokens
#   AutoTokenizer, PreTrainedTokenizerFast named: 2 tokens
#   AutoTokenizer, Qwen2Tokenizer named: 6 tokens
#   AutoTokenizer, PreTrainedTokenizerFast named, model type qwen3: 2 tokens
#   AutoTokenizer, PreTrainedTokenizerFast named, model type qwen2: 6 tokens
#   tokenizers on what that saves: 6 tokens
#   PreTrainedTokenizerFast on the folder of model type qwen2: 2 tokens
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q transformers==5.24.0 tokenizers==0.23.3
cat > look.py <<'PY'
import json
import shutil
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TEXT = "123456"
threes = pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), behavior="isolated")
made = Tokenizer(models.BPE())
made.pre_tokenizer = pre_tokenizers.Sequence([threes, pre_tokenizers.ByteLevel(add_prefix_space=False)])
made.decoder = decoders.ByteLevel()
letters = pre_tokenizers.ByteLevel.alphabet()
made.train_from_iterator([TEXT] * 9, trainers.BpeTrainer(initial_alphabet=letters, show_progress=False))


def written(named, model_type=None):
    folder = Path("folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named}))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def count(tokenizer):
    found = tokenizer.encode(TEXT, add_special_tokens=False)
    return len(found if isinstance(found, list) else found.ids)


seen = [count(made)]
print(f"tokenizers on tokenizer.json: {seen[0]} tokens")
for named, model_type in (
    ("PreTrainedTokenizerFast", None),
    ("Qwen2Tokenizer", None),
    ("PreTrainedTokenizerFast", "qwen3"),
    ("PreTrainedTokenizerFast", "qwen2"),
):
    opened = AutoTokenizer.from_pretrained(written(named, model_type))
    seen.append(count(opened))
    print(f"AutoTokenizer, {named} named{f', model type {model_type}' if model_type else ''}: {seen[-1]} tokens")
opened.save_pretrained("saved")
seen.append(count(Tokenizer.from_file("saved/tokenizer.json")))
print(f"tokenizers on what that saves: {seen[-1]} tokens")
seen.append(count(PreTrainedTokenizerFast.from_pretrained("folder")))
print(f"PreTrainedTokenizerFast on the folder of model type qwen2: {seen[-1]} tokens")
if seen != [2, 2, 6, 2, 6, 6, 2]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
