"""Tensors of exported files by their bytes: adapters that equal their base, tensors without a place (FAILURES D20, H1).

Trainers export what they hold; engines look for a place for each tensor by its name, and what they do with one that has
none differs. Files are changed byte by byte: the header of a safetensors file says where each tensor lies.
"""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from emulator.core.kinds import TensorHeader, read_shard

ADAPTER = "adapter_model.safetensors"
_ROOT = "base_model.model."
_HEAD = f"{_ROOT}value_head."
_OTHER = "policy.module."


def change(folder: Path, how: str) -> None:
    """Give the adapter in `folder` tensors as `export.adapter_keys` says; other folders stay as they are."""
    path = folder / ADAPTER
    if how == "exact" or not path.exists():
        return
    if how == "other_prefix":
        _write(path, {name: name for name in read_shard(path).tensors}, lambda name: _OTHER + name.removeprefix(_ROOT))
        return
    names = list(read_shard(path).tensors)
    a, b = (next(name for name in names if f".lora_{half}" in name) for half in "AB")
    _write(path, {**{name: name for name in names}, f"{_HEAD}lora_A.weight": a, f"{_HEAD}lora_B.weight": b})


def without_strangers(folder: Path, target: Path) -> bool:
    """Copy the adapter's files to `target` less the tensors that have no place; False when none is left."""
    kept = {name: name for name in read_shard(folder / ADAPTER).tensors if not name.startswith((_HEAD, _OTHER))}
    for file in folder.iterdir():
        if file.is_file():
            (target / file.name).write_bytes(file.read_bytes())
    if kept:
        _write(target / ADAPTER, kept)
    return bool(kept)


def is_zero(folder: Path) -> bool:
    """Say whether the folder holds an adapter that adds nothing: every B of it is 0 (FAILURES H1)."""
    if not (folder / ADAPTER).exists():
        return False
    return not any(any(data) for name, (_, data) in _tensors(folder / ADAPTER).items() if ".lora_B" in name)


def is_same(folder: Path, base: Path) -> bool:
    """Say whether full weights equal those of `base`, tensor by tensor."""
    found = {name: one for file in sorted(folder.glob("*.safetensors")) for name, one in _tensors(file).items()}
    wanted = {name: one for file in sorted(base.glob("*.safetensors")) for name, one in _tensors(file).items()}
    return bool(found) and found == wanted


def _tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of every tensor of a file."""
    data = path.read_bytes()
    return {name: (at.dtype, data[at.begin : at.end]) for name, at in read_shard(path).tensors.items()}


def _write(path: Path, sources: Mapping[str, str], renamed: Callable[[str], str] = str) -> None:
    """Write the file anew with these tensors, name to the name that it has now."""
    shard, data = read_shard(path), path.read_bytes()
    header: dict[str, object] = {"__metadata__": dict(shard.metadata)} if shard.metadata else {}
    pieces: list[bytes] = []
    at = 0
    for name, source in sources.items():
        found: TensorHeader = shard.tensors[source]
        pieces.append(data[found.begin : found.end])
        end = at + found.end - found.begin
        header[renamed(name)] = {"dtype": found.dtype, "shape": list(found.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(pieces))
