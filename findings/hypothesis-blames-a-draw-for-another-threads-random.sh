#!/usr/bin/env bash
# hypothesis 6.170.15 (seen on 2026-11-30, Python 3.11)
#
# A property draws numbers and checks nothing that could fail; its strategies use no randomness of their own. Another thread of
# the process calls `random.random()` now and then, as clients of HTTP do for the pause before a request is tried again. When
# such a call falls into a draw, hypothesis compares the state of the global generator before and after, and warns that the
# *strategy* used the random module. Where warnings are errors (`-W error`, as many suites have it) the example fails, does not
# fail again, and the test ends as flaky: now and then, on a busy machine, with the words of a draw that is innocent.
#
# We had expected the check to look at the thread that draws. The cure is a filter for the one message:
# `filterwarnings = ["error", "ignore:Do not use the .random. module"]`, or `-W` with the backticks of the message itself.
#
# Output seen:
#   alone: 1 passed
#   beside a thread that uses random: the property is said to be flaky, HypothesisDeprecationWarning
#   with the filter: 1 passed
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q hypothesis==6.170.15 pytest==9.2.0
cat > test_draws.py <<'PY'
import os
import random
import threading
import time

from hypothesis import given, settings, strategies as st


def test_numbers_are_drawn():
    leave = threading.Event()

    def jitter():
        while not leave.is_set():
            random.random()
            time.sleep(0.0005)

    thread = threading.Thread(target=jitter)
    if "BESIDE" in os.environ:
        thread.start()

    @settings(max_examples=500, database=None, derandomize=True, deadline=None)
    @given(st.data())
    def draws(data):
        assert isinstance(data.draw(st.lists(st.integers())), list)

    try:
        draws()
    finally:
        leave.set()
PY
alone=$(venv/bin/pytest -q -W error test_draws.py | tail -1 | cut -d' ' -f1-2)
beside=$(BESIDE=1 venv/bin/pytest -q -W error test_draws.py || true)
cured=$(BESIDE=1 venv/bin/pytest -q -W error -W 'ignore:Do not use the `random` module' test_draws.py | tail -1 | cut -d' ' -f1-2)
grep -Eqi "flaky" <<< "$beside" && said="said to be flaky" || said="not said to be flaky"
grep -q "HypothesisDeprecationWarning" <<< "$beside" && said="$said, HypothesisDeprecationWarning"
printf '%s\n' "alone: $alone" "beside a thread that uses random: the property is $said" "with the filter: $cured"
if [ "$alone|$said|$cured" != "1 passed|said to be flaky, HypothesisDeprecationWarning|1 passed" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
