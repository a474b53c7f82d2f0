#!/usr/bin/env bash
# fireworks-ai 1.2.28 (seen on 2026-11-28, Python 3.11)
#
# The SDK's learning-rate schedules (`LinearSchedule`, `CosineSchedule`, `WSDSchedule` with `compute_lr`) count optimizer
# steps from 1 and reach their lowest rate at the last step, not after it. `min_lr_ratio` is 0 unless it is set, so
#   - the last step of every run has the learning rate 0: its rows are paid for and change nothing;
#   - a run of one step trains nothing at all, a run of two trains half of what one expects of it;
#   - `WSDSchedule` on a short run does the same: its decay is at least one step long;
#   - a run that is cut in the middle and planned anew by the steps that are left ends with a dead step of its own.
# The schedules of transformers (`get_cosine_schedule_with_warmup`) count from 0 and reach 0 only after the last step.
#
# We had guessed that the last step would have a small rate, as with transformers. The cure is `min_lr_ratio` above 0, or
# to ask for `total_steps + 1`.
#
# Output seen:
#   linear: 1 step [0.0], 2 steps [0.5, 0.0], 4 steps [0.75, 0.5, 0.25, 0.0]
#   cosine: 1 step [0.0], 2 steps [0.5, 0.0], 4 steps [0.854, 0.5, 0.146, 0.0]
#   wsd: 1 step [0.0], 2 steps [1.0, 0.0], 4 steps [1.0, 1.0, 1.0, 0.0]
#   constant: 1 step [1.0], 2 steps [1.0, 1.0], 4 steps [1.0, 1.0, 1.0, 1.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q "fireworks-ai[training-sdk]==1.2.28"
cat > look.py <<'PY'
from fireworks.training.sdk import compute_lr, parse_lr_scheduler_spec

last = {}
for name in ("linear", "cosine", "wsd", "constant"):
    spec = parse_lr_scheduler_spec({"type": name})
    rates = {n: [round(compute_lr(spec, step, 1.0, total_steps=n), 3) for step in range(1, n + 1)] for n in (1, 2, 4)}
    last[name] = {found[-1] for found in rates.values()}
    print(f"{name}: " + ", ".join(f"{n} step{'s' if n > 1 else ''} {found}" for n, found in rates.items()))
expected = {"linear": {0.0}, "cosine": {0.0}, "wsd": {0.0}, "constant": {1.0}}
if last != expected:
    raise SystemExit(f"the behaviour has changed: last rates are {last}")
PY
venv/bin/python look.py
