"""Kinds of checkpoint: the promotability table, and detection of a kind from the files of a blob.

The server never believes what a request called a checkpoint; it looks (WIRE 5.3, FAILURES B12). Detection reads
headers only, runs nothing it finds, never raises for what a folder contains, and answers None for whatever is not
whole: a truncated shard, a missing file, two kinds in one folder.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

TRAINING_STATE = "training_state.json"
_HEADER_LIMIT = 100_000_000
SINGLE_FILE = "model.safetensors"
WEIGHT_SPEC = "model.weight.spec.json"
_ITEM_SIZE = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
_FRAMES = {b"\x28\xb5\x2f\xfd": "arc_v2", b"ARC3": "arc_v3"}
_OTHER_HALF = {
    ".lora_A": ".lora_B",
    ".lora_B": ".lora_A",
    ".lora_embedding_A": ".lora_embedding_B",
    ".lora_embedding_B": ".lora_embedding_A",
}
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class CheckpointKind(StrEnum):
    """The values of `checkpointType` on a row (WIRE 5.3)."""

    TRAINING = "CHECKPOINT_TYPE_TRAINING"
    TRAINING_LORA = "CHECKPOINT_TYPE_TRAINING_LORA"
    INFERENCE_BASE = "CHECKPOINT_TYPE_INFERENCE_BASE"
    INFERENCE_LORA = "CHECKPOINT_TYPE_INFERENCE_LORA"
    INFERENCE_ARC_V2 = "CHECKPOINT_TYPE_INFERENCE_ARC_V2"


class Capability(NamedTuple):
    """Says what a kind is good for."""

    resumable: bool
    promotable: bool


CAPABILITIES: Mapping[CheckpointKind, Capability] = {
    CheckpointKind.TRAINING: Capability(resumable=True, promotable=False),
    CheckpointKind.TRAINING_LORA: Capability(resumable=True, promotable=False),
    CheckpointKind.INFERENCE_BASE: Capability(resumable=False, promotable=True),
    CheckpointKind.INFERENCE_LORA: Capability(resumable=False, promotable=True),
    CheckpointKind.INFERENCE_ARC_V2: Capability(resumable=False, promotable=False),
}
RESUMABLE = frozenset(kind for kind, capability in CAPABILITIES.items() if capability.resumable)
PROMOTABLE = frozenset(kind for kind, capability in CAPABILITIES.items() if capability.promotable)


class Saving(NamedTuple):
    """A row of the cheat sheet: a way of saving, and the kinds that it leaves on LoRA and on full-parameter jobs."""

    how: str
    lora: tuple[CheckpointKind, ...]
    full: tuple[CheckpointKind, ...]


_K = CheckpointKind
SAVINGS: tuple[Saving, ...] = (
    Saving("TrainingCheckpoints.save(resumable=True, promotable=False)", (_K.TRAINING_LORA,), (_K.TRAINING,)),
    Saving("TrainingCheckpoints.save(promotable=True)", (_K.INFERENCE_LORA,), (_K.INFERENCE_BASE,)),
    Saving('save_weights_for_sampler_ext(checkpoint_type="base")', (_K.INFERENCE_LORA,), (_K.INFERENCE_BASE,)),
    Saving('save_weights_for_sampler_ext(checkpoint_type="delta")', (_K.INFERENCE_LORA,), (_K.INFERENCE_ARC_V2,)),
    Saving("WeightSyncer.save_and_hotload(), first", (_K.INFERENCE_LORA,), (_K.INFERENCE_BASE,)),
    Saving("WeightSyncer.save_and_hotload(), later", (_K.INFERENCE_LORA,), (_K.INFERENCE_ARC_V2,)),
)


def resumable(kind: CheckpointKind) -> bool:
    return CAPABILITIES[kind].resumable


def promotable(kind: CheckpointKind) -> bool:
    return CAPABILITIES[kind].promotable


@dataclass(frozen=True)
class TensorHeader:
    """One entry of a safetensors header: dtype, shape, byte range within the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Shard:
    """A safetensors file whose header was read and whose length agrees with it."""

    path: Path
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str]


def read_shard(path: Path) -> Shard:
    """Parse a safetensors header and check it against the file's length; raises ValueError or OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise ValueError("shorter than a safetensors header")
        (length,) = struct.unpack("<Q", prefix)
        if length > min(_HEADER_LIMIT, size - 8):
            raise ValueError("truncated safetensors header")
        raw = json.loads(file.read(length))
    if not isinstance(raw, dict):
        raise ValueError("a safetensors header is a JSON object")
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("safetensors metadata is a JSON object of strings")
    start = 8 + length
    tensors = {key: _tensor(entry, start, size) for key, entry in raw.items()}
    reached = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != reached:
            raise ValueError("safetensors data overlaps or leaves a hole")
        reached = tensor.end
    if reached != size:
        raise ValueError("safetensors data does not fill the file")
    return Shard(path, tensors, metadata)


def _tensor(entry: Any, start: int, size: int) -> TensorHeader:
    if not isinstance(entry, dict):
        raise ValueError("a tensor entry is a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if dtype not in _ITEM_SIZE or not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError("malformed tensor entry")
    if not all(type(n) is int and n >= 0 for n in (*shape, *offsets)):
        raise ValueError("malformed tensor entry")
    begin, end = start + offsets[0], start + offsets[1]
    bits = _ITEM_SIZE[dtype]
    for extent in shape:
        bits *= extent
    if not start <= begin <= end <= size or (end - begin) * 8 != bits + (-bits % 8):
        raise ValueError("tensor bytes out of place")
    return TensorHeader(str(dtype), tuple(shape), begin, end)


def detect(folder: Path) -> CheckpointKind | None:
    """The kind of the blob in `folder`, or None when it is no whole checkpoint of exactly one kind."""
    try:
        found = [kind for look in (_training, _adapter, _weights) if (kind := look(folder)) is not None]
    except (OSError, ValueError, RecursionError):
        return None
    return found[0] if len(found) == 1 else None


def _training(folder: Path) -> CheckpointKind | None:
    """A `torch.distributed.checkpoint` folder: its metadata, its shards at full size, and what was trained."""
    if not (folder / ".metadata").exists() and not (folder / TRAINING_STATE).exists():
        return None
    state = _json_object(folder / TRAINING_STATE)
    files = state.get("files")
    if not isinstance(files, dict) or ".metadata" not in files or len(files) < 2:
        raise ValueError("a training state names its files")
    for name, size in files.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{name[:80]!r} is missing")
        if type(size) is not int or not size or (folder / name).stat().st_size != size:
            raise ValueError(f"{name[:80]!r} is not whole")
    lora = state.get("lora", False)
    if lora is None:
        return CheckpointKind.TRAINING
    if not isinstance(lora, dict) or type(lora.get("rank")) is not int or lora["rank"] < 1:
        raise ValueError("a LoRA training state has a rank")
    return CheckpointKind.TRAINING_LORA


def _adapter(folder: Path) -> CheckpointKind | None:
    """A PEFT folder: adapter_config.json with a rank, and tensors that come in A and B halves."""
    if not (folder / "adapter_config.json").exists() and not (folder / "adapter_model.safetensors").exists():
        return None
    config = _json_object(folder / "adapter_config.json")
    if type(config.get("r")) is not int or config["r"] < 1:
        raise ValueError("an adapter has a rank")
    names = set(read_shard(folder / "adapter_model.safetensors").tensors)
    if not names or not all(any(half in name for half in _OTHER_HALF) for name in names):
        raise ValueError("an adapter holds LoRA tensors only")
    if any(name.replace(half, other) not in names for name in names for half, other in _OTHER_HALF.items()):
        raise ValueError("an adapter holds both halves of every pair")
    return CheckpointKind.INFERENCE_LORA


def _weights(folder: Path) -> CheckpointKind | None:
    """A Hugging Face folder: full weights, or arc deltas under the same file names (WIRE 5.6)."""
    shards = list(_shards(folder))
    if not shards:
        return None
    config = _json_object(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ValueError("a model has a model_type")
    # Files that no index names count here too: full weights beside a delta are neither.
    read = {shard.path: shard for shard in shards}
    found = (read.get(path) or read_shard(path) for path in folder.glob("model*.safetensors"))
    if len({delta_format(shard) is not None for shard in found}) > 1:
        raise ValueError("a delta lies beside full weights")
    deltas = sum(delta_format(shard) is not None for shard in shards)
    if deltas == len(shards):
        return CheckpointKind.INFERENCE_ARC_V2
    # A model has matrices; a folder of nothing but byte streams is a delta that came to harm.
    if deltas or not any(len(tensor.shape) > 1 for shard in shards for tensor in shard.tensors.values()):
        raise ValueError("neither full weights nor deltas")
    return CheckpointKind.INFERENCE_BASE


def _shards(folder: Path) -> Iterator[Shard]:
    """The weight files that transformers would open; raises when one is missing.

    A single file wins over an index beside it. Else the index says what the files are called, and without one their
    names say how many there are.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / SINGLE_FILE).exists():
        single = read_shard(folder / SINGLE_FILE)
        if index.exists() and delta_format(single):
            raise ValueError("a delta lies beside full weights")
        yield single
        return
    weight_map = _json_object(index).get("weight_map") if index.exists() else {}
    if not isinstance(weight_map, dict) or (index.exists() and not weight_map):
        raise ValueError("an index maps weights to files")
    wanted = {str(name) for name in weight_map.values()}
    for path in folder.glob("model-*.safetensors"):
        if not index.exists() and (total := re.fullmatch(r"model-\d{5}-of-(\d{5})\.safetensors", path.name)):
            count = int(total[1])
            wanted |= {f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)}
    for name in sorted(wanted):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{name[:80]!r} is no shard name")
        shard = read_shard(folder / name)
        if any(file == name and weight not in shard.tensors for weight, file in weight_map.items()):
            raise ValueError(f"{name} lacks weights that the index places there")
        yield shard


def weight_shards(folder: Path) -> list[Shard]:
    """The headers of a folder's weight files, as `detect` reads them; raises ValueError or OSError."""
    return list(_shards(folder))


def why_no_model(folder: Path) -> str:
    """Say why a folder is no model with full weights; "" when it is one."""
    adapter = (folder / "adapter_config.json").exists()
    if not (folder / "config.json").exists():
        return (
            "it is an adapter, not a base model: put its base behind the name" if adapter else "it has no config.json"
        )
    try:
        if not list(_shards(folder)):
            return "it has no safetensors files that transformers would open"
        if adapter:
            return "transformers puts the adapter that lies in it onto its weights: take it out, merged as it may be"
        return "" if detect(folder) is CheckpointKind.INFERENCE_BASE else "it holds no full weights"
    except (OSError, ValueError, RecursionError) as error:
        return f"its weights are not whole: {error}"


def delta_format(shard: Shard) -> str | None:
    """`arc_v1`, `arc_v2` or `arc_v3` when every tensor is a checksummed compressed stream, else None.

    A tensor of arc_v3 is an envelope, or a safetensors file of its own where no encoder was better than arc_v2's.
    """
    if not shard.tensors or any(t.dtype != "U8" or len(t.shape) != 1 for t in shard.tensors.values()):
        return None
    formats = set()
    with shard.path.open("rb") as file:
        for key, tensor in shard.tensors.items():
            file.seek(tensor.begin)
            head = file.read(min(24, tensor.end - tensor.begin))
            name = _FRAMES.get(head[:4]) or ("arc_v1" if head[:2] in _ZLIB else None)
            if head[8:].startswith(b'{"__metadata__"'):
                name = "arc_v3"
            if name is None or (name != "arc_v3" and not shard.metadata.get(key, "").isdecimal()):
                return None
            formats.add(name)
    return formats.pop() if len(formats) == 1 else None


def _json_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is a JSON object")
    return value
