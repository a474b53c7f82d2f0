#!/usr/bin/env bash
# numpy 2.4.6 (seen on 2026-11-29, Python 3.11)
#
# A run draws from one `default_rng(seed)` and spawns a child of it for each worker at the beginning of each epoch. It keeps
# `rng.bit_generator.state`, "the state of the PRNG", and a resumed run sets it on a new `default_rng(seed)`. What the generator
# itself draws then goes on as it should. Its children do not: how many were spawned lies in the seed sequence beside it, so
# the resumed run hands the workers the streams of the first epoch again: the same noise, the same crops, the same samples.
#
# We had expected the children to go on, too, as they do in a generator that was pickled. The cure is to pickle the generator, or to
# spawn as many children as there were and throw them away.
#
# Output seen:
#   epochs 0 and 1: [15, 941] [426, 182]
#   state set, the next number of the generator itself is equal: True
#   state set, epoch 1: [15, 941]
#   pickled, epoch 1: [426, 182]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q numpy==2.4.6
cat > look.py <<'PY'
import pickle

import numpy


def workers(rng):
    return [int(child.integers(1000)) for child in rng.spawn(2)]


rng = numpy.random.default_rng(1)
first = workers(rng)
rng.integers(1000)
state, pickled = rng.bit_generator.state, pickle.dumps(rng)
print("epochs 0 and 1:", first, workers(rng))
resumed = numpy.random.default_rng(1)
resumed.bit_generator.state = state
print("state set, the next number of the generator itself is equal:", resumed.integers(1000) == rng.integers(1000))
print("state set, epoch 1:", workers(resumed))
print("pickled, epoch 1:", workers(pickle.loads(pickled)))
PY
venv/bin/python look.py | tee seen
cat > expected <<'TXT'
epochs 0 and 1: [15, 941] [426, 182]
state set, the next number of the generator itself is equal: True
state set, epoch 1: [15, 941]
pickled, epoch 1: [426, 182]
TXT
diff expected seen && echo "as described"
