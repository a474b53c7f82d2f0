#!/usr/bin/env bash
# tinker 0.38.0 (numpy 2.4.6, Python 3.11): the inputs of a datum given as lists are changed in silence where the same
# numbers in an array are kept or refused.
#
#   - a list of floats under `target_tokens` loses its fractions (1.9 becomes token 1, -0.5 becomes token 0); an array of
#     the same numbers stays float32, so that a server can refuse it
#   - `compute_logprobs` answers None for the first token; a list with this None under `logprobs` becomes NaN, which
#     travels to the trainer, while numpy itself makes no float array of it
#   - a list under a name that the client does not know (`loss_mask`) is a KeyError; an array under it is sent
#
# Guessed before: the list is refused, or becomes what the array becomes.
#
# Output seen:
#   floats as a list: int64 [1, 2, 0]
#   floats as an array: float32 [1.9, 2.5, -0.5]
#   logprobs as a list: float32 [nan, -1.0]
#   loss_mask as a list: KeyError
#   loss_mask as an array: int64 [1, 0, 1]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tinker==0.38.0 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
from tinker import types

PROMPT = types.ModelInput.from_ints([5, 6, 7])


def become(name, value):
    try:
        datum = types.Datum(model_input=PROMPT, loss_fn_inputs={name: value})
    except Exception as error:
        return type(error).__name__
    made = datum.loss_fn_inputs[name]
    return f"{made.dtype} {[round(float(one), 3) if made.dtype == 'float32' else int(one) for one in made.data]}"


seen = {
    "floats as a list": become("target_tokens", [1.9, 2.5, -0.5]),
    "floats as an array": become("target_tokens", np.array([1.9, 2.5, -0.5])),
    "logprobs as a list": become("logprobs", [None, -1.0]),
    "loss_mask as a list": become("loss_mask", [1, 0, 1]),
    "loss_mask as an array": become("loss_mask", np.array([1, 0, 1])),
}
for what, it in seen.items():
    print(f"{what}: {it}")
expected = ["int64 [1, 2, 0]", "float32 [1.9, 2.5, -0.5]", "float32 [nan, -1.0]", "KeyError", "int64 [1, 0, 1]"]
sys.exit(0 if list(seen.values()) == expected else "the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>&1 | grep -v '^$'
