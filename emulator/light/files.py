"""The folders that the light backend writes and reads, of each kind that `emulator.core.kinds` tells apart."""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.backend import BackendError

SIZE = 4
"""Weights of a model: one logit for each token that it can draw."""
CONTEXT = 4096
TENSOR = "model.embed_tokens.weight"
ADAPTER = "base_model.model.model.layers.0.self_attn.q_proj"
DISCLOSURE = "written by the light backend of ftsim: four numbers, no model"
_STATE = "__0_0.distcp"


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, Sequence[int], bytes]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; `tensors` maps a name to (dtype, shape, bytes)."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(data for _, _, data in tensors.values()))


def read_tensors(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Bytes by tensor name, and the metadata; raises BackendError."""
    try:
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        data = raw[8 + length :]
        return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}, metadata
    except (OSError, ValueError, struct.error, AttributeError, KeyError, TypeError) as error:
        raise BackendError(f"{path.parent.name}: {path.name} does not open: {error}") from error


def pack(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def unpack(data: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def write_base(
    folder: Path, weights: Sequence[float] = (0.0,) * SIZE, model_type: str = "qwen3", *, moe: bool = False
) -> Path:
    """Full weights, laid out as Hugging Face lays them out."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_config(folder, model_type, moe=moe)
    write_safetensors(folder / "model.safetensors", {TENSOR: ("F32", [SIZE, 1], pack(weights))})
    return folder


def write_delta(
    folder: Path, old: Sequence[float], new: Sequence[float], model_type: str = "qwen3", *, moe: bool = False
) -> Path:
    """An arc_v2 delta: the zstd frame of (old XOR new), with the Adler-32 checksum of new."""
    import zstandard

    folder.mkdir(parents=True, exist_ok=True)
    before, after = pack(old), pack(new)
    frame = zstandard.compress(bytes(a ^ b for a, b in zip(before, after, strict=True)))
    _write_config(folder, model_type, moe=moe)
    checksum = {TENSOR: str(zlib.adler32(after))}
    write_safetensors(folder / "model.safetensors", {TENSOR: ("U8", [len(frame)], frame)}, checksum)
    return folder


def write_adapter(folder: Path, rank: int = 8, added: Sequence[float] = (0.0,) * SIZE, base: str = "") -> Path:
    """A LoRA adapter, laid out as PEFT lays it out, whose product B·A is `added`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"r": rank, "lora_alpha": 32, "target_modules": ["q_proj"], "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "ftsim": DISCLOSURE}))
    narrow = [1.0] + [0.0] * (rank - 1)
    wide = [value for row in added for value in (row, *[0.0] * (rank - 1))]
    tensors = {
        f"{ADAPTER}.lora_A.weight": ("F32", [rank, 1], pack(narrow)),
        f"{ADAPTER}.lora_B.weight": ("F32", [SIZE, rank], pack(wide)),
    }
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


def write_training(folder: Path, state: Mapping[str, Any] | None = None, rank: int = 0) -> Path:
    """A resumable state under the file names of `torch.distributed.checkpoint`; `rank` 0 means full-parameter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _STATE).write_text(json.dumps(state or {"weights": [0.0] * SIZE}))
    (folder / ".metadata").write_text("shards: 1")
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    lora = {"rank": rank} if rank else None
    (folder / "training_state.json").write_text(json.dumps({"files": files, "lora": lora, "ftsim": DISCLOSURE}))
    return folder


def read_training(folder: Path, rank: int) -> dict[str, Any]:
    """Read back what `write_training` was given; raises BackendError for another rank or another backend's state."""
    try:
        lora = json.loads((folder / "training_state.json").read_bytes())["lora"]
        state = json.loads((folder / _STATE).read_bytes())
        state["weights"] = [float(value) for value in state["weights"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(
            f"{folder.name} is no state that the light backend saved: load it where it was saved ({error})"
        ) from None
    if (found := lora["rank"] if lora else 0) != rank:
        raise BackendError(f"the checkpoint has LoRA rank {found}, the model {rank} (0 is full-parameter)")
    return dict(state)


def read_weights(folder: Path) -> list[float]:
    """The weights of a folder that `write_base` wrote; raises BackendError."""
    tensors, _ = read_tensors(folder / "model.safetensors")
    if len(data := tensors.get(TENSOR, b"")) != 4 * SIZE:
        raise BackendError(f"{folder.name} is no model of the light backend: it wants {SIZE} float32 in {TENSOR}")
    return unpack(data)


def read_adapter(folder: Path, rank: int | None = None) -> list[float]:
    """Read what an adapter adds to the weights; raises BackendError, also for another rank than `rank`."""
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    wide = unpack(tensors.get(f"{ADAPTER}.lora_B.weight", b""))
    found = len(wide) // SIZE
    if not found:
        raise BackendError(f"{folder.name} is no adapter of the light backend: it has no {ADAPTER}.lora_B.weight")
    if rank is not None and rank != found:
        raise BackendError(f"the adapter has rank {found}, the model {rank}")
    return wide[::found]


def after_delta(folder: Path, before: Sequence[float]) -> tuple[list[float], bool]:
    """The weights once a delta is applied to `before`, and whether their checksum is the one in the delta."""
    import zstandard

    tensors, checksums = read_tensors(folder / "model.safetensors")
    try:
        mask = zstandard.decompress(tensors[TENSOR])
        after = bytes(a ^ b for a, b in zip(pack(before), mask, strict=True))
    except (zstandard.ZstdError, KeyError, ValueError) as error:
        raise BackendError(f"{folder.name} is no delta of the light backend: {error}") from error
    return unpack(after), str(zlib.adler32(after)) == checksums.get(TENSOR)


def _write_config(folder: Path, model_type: str, *, moe: bool) -> None:
    config = {"model_type": model_type, "max_position_embeddings": CONTEXT, "architectures": ["Unigram"]}
    experts = {"num_experts": 1} if moe else {}
    (folder / "config.json").write_text(json.dumps({**config, **experts, "ftsim": DISCLOSURE}))
