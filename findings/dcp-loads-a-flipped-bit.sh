#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-28, Python 3.11, CPU)
#
# torch.distributed.checkpoint writes each tensor as a zip archive with a CRC-32 for every record in it, and never compares the
# sums when it loads. One flipped bit in a .distcp file, as a bad disk or a torn copy makes it, loads without an error or a
# warning, and the run goes on from other weights. The sums on disk are right: Python's zipfile, reading the same bytes, finds
# the damage at once. torch.load on a file with the same damage is silent as well.
#
# We had expected an error from a format that carries its own sums.
#
# Output seen:
#   dcp.load of the damaged folder: no error, 1 of 4096 values differ
#   torch.load of a damaged file: no error, 1 of 4096 values differ
#   zipfile on the same bytes: BadZipFile
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import io
import warnings
import zipfile
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

warnings.simplefilter("ignore")
weights = torch.arange(4096, dtype=torch.float32)
values = weights.numpy().tobytes()


def flip(path):
    """Flip one bit in the middle of the stored values."""
    data = bytearray(path.read_bytes())
    data[data.index(values) + 4 * 2048] ^= 1
    path.write_bytes(data)
    return bytes(data)


dcp.save({"w": weights}, checkpoint_id="state", no_dist=True)
(shard,) = Path("state").glob("*.distcp")
damaged = flip(shard)
loaded = {"w": torch.zeros(4096)}
dcp.load(loaded, checkpoint_id="state", no_dist=True)
print("dcp.load of the damaged folder: no error,", int((loaded["w"] != weights).sum()), "of 4096 values differ")
torch.save({"w": weights}, "state.pt")
flip(Path("state.pt"))
print("torch.load of a damaged file: no error,", int((torch.load("state.pt")["w"] != weights).sum()), "of 4096 values differ")
try:
    archive = zipfile.ZipFile(io.BytesIO(damaged))
    for name in archive.namelist():
        archive.read(name)
    print("zipfile on the same bytes: read")
except zipfile.BadZipFile:
    print("zipfile on the same bytes: BadZipFile")
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
dcp.load of the damaged folder: no error, 1 of 4096 values differ
torch.load of a damaged file: no error, 1 of 4096 values differ
zipfile on the same bytes: BadZipFile
TXT
diff expected seen && echo "as described"
