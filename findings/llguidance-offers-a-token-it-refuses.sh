#!/usr/bin/env bash
# llguidance 1.9.1, tokenizers 0.22.1 (seen on 2026-11-28, Python 3.11)
#
# A grammar asks for the text "<call>" and the vocabulary has "<call>" as one added token, not marked special. The mask of
# the first step offers that token and no other; to take it is an error ("doesn't satisfy the grammar"), after which the
# matcher has stopped: a sampler that does what the mask says ends there, with an answer that the grammar does not have.
# Added tokens that look like markers are special to llguidance whatever the tokenizer says, so their text cannot match.
#
# We had expected that a token which the mask offers can be taken. The cure is to name the token in the grammar by its id,
# <[ID]>, and not by its text.
#
# Output seen:
#   as text: offered ['<call>'], taken: False
#   by id:   offered ['<call>'], taken: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q llguidance==1.9.1 tokenizers==0.22.1
cat > look.py <<'PY'
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_tokens([AddedToken("<call>", special=False, normalized=False)])
tokenizer.add_special_tokens(["<end>"])
call = tokenizer.token_to_id("<call>")
own = LLTokenizer(tokenizer.to_str(), eos_token=tokenizer.token_to_id("<end>"))


def look(grammar):
    matcher = LLMatcher(own, grammar, log_level=0)
    mask = int.from_bytes(matcher.compute_bitmask(), "little")
    offered = [tokenizer.decode([at], skip_special_tokens=False) for at in range(own.vocab_size) if mask >> at & 1]
    return offered, matcher.consume_token(call)


text, by_id = look('start: "<call>" "x"'), look(f'start: <[{call}]> "x"')
print(f"as text: offered {text[0]}, taken: {text[1]}")
print(f"by id:   offered {by_id[0]}, taken: {by_id[1]}")
if text != (["<call>"], False) or by_id != (["<call>"], True):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
