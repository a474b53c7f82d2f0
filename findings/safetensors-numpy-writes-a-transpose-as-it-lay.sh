#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6 (seen on 2026-11-29, Python 3.11)
#
# `safetensors.numpy.save_file` takes an array that is a transpose, or lies in Fortran's order, as weights do that a converter
# turned by `W.T`, and writes its bytes as they lie in memory under the array's own shape: other numbers, no error, no warning.
# 0.7.0, and all before it that we tried (back to 0.4.5), wrote the right ones. `safetensors.torch.save_file` refuses a tensor
# that is not contiguous. The docstring asks for contiguous tensors, as it did when others were written right.
#
# We had expected the numbers of the array, or the refusal of the torch half. The cure is `np.ascontiguousarray` around each.
#
# Output seen:
#   0.7.0: transpose right True, Fortran's order right True, made contiguous right True
#   0.8.0: transpose right False, Fortran's order right False, made contiguous right True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat > look.py <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

array = np.arange(6, dtype=np.float32).reshape(2, 3)
given = {"transpose": array.T, "Fortran's order": np.asfortranarray(array), "made contiguous": np.ascontiguousarray(array.T)}
save_file(given, "arrays.safetensors")
read = load_file("arrays.safetensors")
seen = [np.array_equal(read[name], value) for name, value in given.items()]
print(f"{safetensors.__version__}: " + ", ".join(f"{name} right {right}" for name, right in zip(given, seen)))
if seen != [sys.argv[1] == "right"] * 2 + [True]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/pip install -q numpy==2.4.6 safetensors==0.7.0
venv/bin/python look.py right
venv/bin/pip install -q safetensors==0.8.0
venv/bin/python look.py wrong
