#!/usr/bin/env bash
# xgrammar 0.2.9, torch 2.13.0, transformers 5.23.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# `Grammar.from_json_schema`, by which engines hold an answer to a schema. In JSON Schema a `pattern` is searched for: {"pattern":
# "b"} is met by "abc". Here it must be the whole string, so right answers cannot be said, and the model is pushed into
# others. And of what narrows a schema, minimum, multipleOf and contains are honoured, while `not`, `uniqueItems`,
# `dependentRequired`, `if`/`then` and the siblings of `$ref` are left out: no error, and no warning, though there is one for
# allOf. So an answer can fail the schema that it was held to.
#
# We had expected a search, and that a keyword is honoured or refused. The cure is to write `.*b.*`, and to validate the
# answer.
#
# Output seen:
#   pattern b, "abc": valid True, takes False
#   pattern .*b.*, "abc": valid True, takes True
#   multipleOf 5, 7: valid False, takes False
#   not string, "a": valid False, takes True
#   uniqueItems, [1, 1]: valid False, takes True
#   dependentRequired, {"a": 1}: valid False, takes True
#   if/then, {"a": 1}: valid False, takes True
#   beside $ref, 1: valid False, takes True
#   said beside: nothing
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q xgrammar==0.2.9 transformers==5.23.0 jsonschema==4.26.0
cat > look.py <<'PY'
import json

import xgrammar
from jsonschema import Draft202012Validator
from xgrammar.testing import _is_grammar_accept_string as takes

two = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
cases = {
    "pattern b": ({"type": "string", "pattern": "b"}, '"abc"', True, False),
    "pattern .*b.*": ({"type": "string", "pattern": ".*b.*"}, '"abc"', True, True),
    "multipleOf 5": ({"type": "integer", "multipleOf": 5}, "7", False, False),
    "not string": ({"not": {"type": "string"}}, '"a"', False, True),
    "uniqueItems": ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1, 1]", False, True),
    "dependentRequired": (two | {"dependentRequired": {"a": ["b"]}}, '{"a": 1}', False, True),
    "if/then": (two | {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}}, '{"a": 1}', False, True),
    "beside $ref": ({"$defs": {"x": {"type": "integer"}}, "$ref": "#/$defs/x", "minimum": 3}, "1", False, True),
}
changed = False
for name, (schema, text, *seen) in cases.items():
    found = [Draft202012Validator(schema).is_valid(json.loads(text)), takes(xgrammar.Grammar.from_json_schema(schema), text)]
    print(f"{name}, {text}: valid {found[0]}, takes {found[1]}", flush=True)
    changed |= found != seen
if changed:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py 2> beside
echo "said beside: $(grep -i warning beside || echo nothing)"
test -z "$(grep -i warning beside)"
