#!/usr/bin/env bash
# transformers 5.24.0, tokenizers 0.23.3 (seen on 2026-11-30, Python 3.11)
#
# A tokenizer with a template for plain chats and one named tool_use gets one new template in place of both, and is saved into its folder
# again. The new one goes into chat_template.jinja; the old additional_chat_templates/tool_use.jinja stays. The tokenizer that is
# opened from the folder has both: plain chats are rendered by the new template, and chats with tools by the old one. A
# template that was set to None comes back whole. The tokenizer in memory did as it was told, so a training run and what is
# served of its folder part: the same messages, other tokens.
#
# We had expected the folder to open to what was saved into it. The cure is an empty folder for each save, or to delete
# additional_chat_templates and chat_template.jinja first.
#
# Output seen:
#   in memory: plain "new", with tools "new"
#   opened:    plain "new", with tools "old, tools"
#   set to None and saved: "old"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q transformers==5.24.0 tokenizers==0.23.3 jinja2
cat > look.py <<'PY'
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TOOL = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}


def fresh(template):
    words = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    made.chat_template = template
    return made


def rendered(tokenizer, **settings):
    return tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, **settings)


tokenizer = fresh({"default": "old", "tool_use": "old, tools"})
tokenizer.save_pretrained("both")
tokenizer.chat_template = "new"
tokenizer.save_pretrained("both")
opened = AutoTokenizer.from_pretrained("both")
memory = [rendered(tokenizer), rendered(tokenizer, tools=[TOOL])]
folder = [rendered(opened), rendered(opened, tools=[TOOL])]
print('in memory: plain "{}", with tools "{}"'.format(*memory))
print('opened:    plain "{}", with tools "{}"'.format(*folder))

tokenizer = fresh("old")
tokenizer.save_pretrained("none")
tokenizer.chat_template = None
tokenizer.save_pretrained("none")
none = AutoTokenizer.from_pretrained("none").chat_template
print(f'set to None and saved: "{none}"')
if (memory, folder, none) != (["new", "new"], ["new", "old, tools"], "old"):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
