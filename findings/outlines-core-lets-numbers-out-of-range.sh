#!/usr/bin/env bash
# outlines_core 0.2.14 (seen on 2026-11-29, Python 3.11)
#
# `build_regex_from_schema` turns a JSON schema into the expression that constrained decoding follows. Of an integer it keeps
# the type alone: minimum, maximum, exclusiveMinimum and multipleOf are left out, as are `not` and `uniqueItems`, without an
# error or a warning, while minItems and maxLength of the same draft are honoured. An answer that decoding was held to
# fails the very schema it was held to, and a reward that validates it sees a model that "cannot count".
#
# We had expected that a keyword is honoured or refused. The cure is to validate the answer, or to list the allowed numbers
# in an enum.
#
# Output seen:
#   minimum 5: takes 3: True
#   maximum 5: takes 9: True
#   multipleOf 5: takes 7: True
#   not const 3: takes 3: True
#   uniqueItems: takes [1, 1]: True
#   enum [5, 10]: takes 3: False
#   minItems 2: takes [1]: False
#   maxLength 2: takes "abc": False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q outlines_core==0.2.14 jsonschema==4.26.0
cat > look.py <<'PY'
import json
import re

from jsonschema import Draft202012Validator
from outlines_core.json_schema import build_regex_from_schema

integers = {"type": "array", "items": {"type": "integer"}}
cases = {
    "minimum 5": ({"type": "integer", "minimum": 5}, "3", True),
    "maximum 5": ({"type": "integer", "maximum": 5}, "9", True),
    "multipleOf 5": ({"type": "integer", "multipleOf": 5}, "7", True),
    "not const 3": ({"type": "integer", "not": {"const": 3}}, "3", True),
    "uniqueItems": (integers | {"uniqueItems": True}, "[1, 1]", True),
    "enum [5, 10]": ({"enum": [5, 10]}, "3", False),
    "minItems 2": (integers | {"minItems": 2}, "[1]", False),
    "maxLength 2": ({"type": "string", "maxLength": 2}, '"abc"', False),
}
changed = False
for name, (schema, text, seen) in cases.items():
    assert not Draft202012Validator(schema).is_valid(json.loads(text)), name
    taken = re.fullmatch(build_regex_from_schema(json.dumps(schema)), text) is not None
    print(f"{name}: takes {text}: {taken}")
    changed |= taken is not seen
if changed:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
