#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-28, Python 3.11, CPU)
#
# A program whose main thread ends while a daemon thread is inside a torch operation does not end with status 0: the process
# aborts, "terminate called without an active exception", status 134. Python 3.11 ends a daemon thread when it next takes the
# interpreter's lock, by unwinding its stack; torch takes the lock again in the destructor that ends a release of it, C++ allows
# no unwinding through a destructor, and calls std::terminate. A thread of pure Python, in the same place, is ended silently.
#
# We had expected the thread to be dropped, as any daemon thread is, and looked for a broken library when tests passed and their
# process failed. The cure is to tell such threads to stop in a function given to atexit, and to join them there.
#
# Output seen:
#   a daemon thread in python: status 0
#   a daemon thread in torch: status 134, terminate called without an active exception
#   the same, joined by atexit: status 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > ends.py <<'PY'
import atexit
import sys
import threading
import time

import torch

torch.set_num_threads(1)
stop = threading.Event()


def work():
    matrix = torch.randn(64, 64)
    while not stop.is_set():
        sum(range(100)) if sys.argv[1] == "python" else matrix @ matrix


thread = threading.Thread(target=work, daemon=True)
thread.start()
if sys.argv[1] == "joined":
    atexit.register(thread.join)
    atexit.register(stop.set)  # called first
time.sleep(0.2)
PY
cat > look.py <<'PY'
import subprocess
import sys


def status(kind):
    """The worst status of five runs: 128 and the number of the signal, as a shell says it."""
    runs = [subprocess.run([sys.executable, "ends.py", kind], capture_output=True, text=True) for _ in range(5)]
    worst = min(runs, key=lambda run: run.returncode)
    return worst.returncode if worst.returncode >= 0 else 128 - worst.returncode, worst.stderr.strip()


found = {kind: status(kind) for kind in ("python", "torch", "joined")}
print(f"a daemon thread in python: status {found['python'][0]}")
print(f"a daemon thread in torch: status {found['torch'][0]}, {found['torch'][1]}")
print(f"the same, joined by atexit: status {found['joined'][0]}")
ok = found["python"][0] == found["joined"][0] == 0 and found["torch"][0] == 134
sys.exit(0 if ok and "without an active exception" in found["torch"][1] else 1)
PY
venv/bin/python look.py
