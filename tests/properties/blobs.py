"""Checkpoints of every kind, written by hand as plain bytes, and what can happen to them on the way to a disk."""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard
from hypothesis import strategies as st
from safetensors.numpy import save

from emulator.core.kinds import CheckpointKind

Files = dict[str, bytes]
CONFIG = json.dumps({"model_type": "qwen3", "hidden_size": 8}).encode()


class Blob(NamedTuple):
    """A whole checkpoint; removing or shortening any file in `needed` makes it torn."""

    kind: CheckpointKind
    files: Files
    needed: frozenset[str]


def write(files: Mapping[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
words = st.text("abcdefghijklmnop_", min_size=1, max_size=8)
dtypes = st.sampled_from(["float32", "float16", "int8"])


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """A few small tensors by name, at least one of them a matrix."""
    names = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    found = {f"model.{name}.weight": _tensor(draw, draw(shapes)) for name in names}
    return {**found, "model.embed.weight": _tensor(draw, (draw(st.integers(1, 6)), draw(st.integers(1, 6))))}


def _tensor(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return (rng.standard_normal(shape) * 20).astype(draw(dtypes))


@st.composite
def full(draw: st.DrawFn) -> Blob:
    """A Hugging Face folder: one shard, or several with an index."""
    held = draw(tensors())
    shards = _cut(held, draw(st.integers(1, 3)))
    files = {name: save(part) for name, part in shards.items()}
    extra = {} if len(shards) == 1 else {"model.safetensors.index.json": _index(shards)}
    return Blob(
        CheckpointKind.INFERENCE_BASE,
        {**files, **extra, "config.json": CONFIG, "tokenizer.json": b"{}"},
        frozenset({*files, "config.json"}),
    )


def _cut(held: dict[str, np.ndarray], count: int) -> dict[str, dict[str, np.ndarray]]:
    names = list(held)
    count = min(count, len(names))
    if count == 1:
        return {"model.safetensors": held}
    parts = [names[start::count] for start in range(count)]
    return {
        f"model-{number:05d}-of-{count:05d}.safetensors": {name: held[name] for name in part}
        for number, part in enumerate(parts, 1)
    }


def _index(shards: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    weight_map = {name: file for file, part in shards.items() for name in part}
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()


@st.composite
def delta(draw: st.DrawFn) -> Blob:
    """An arc_v2 or arc_v1 delta: the shards of a full model as compressed exclusive-ors with checksums (WIRE 5.6)."""
    held = draw(tensors())
    shards = _cut(held, draw(st.integers(1, 3)))
    compress = draw(st.sampled_from([zlib.compress, zstandard.ZstdCompressor().compress]))
    files = {name: _delta_shard(part, compress) for name, part in shards.items()}
    extra = {} if len(shards) == 1 else {"model.safetensors.index.json": _index(shards)}
    return Blob(
        CheckpointKind.INFERENCE_ARC_V2,
        {**files, **extra, "config.json": CONFIG},
        frozenset({*files, "config.json"}),
    )


def _delta_shard(part: Mapping[str, np.ndarray], compress: object) -> bytes:
    raw = {name: value.tobytes() for name, value in part.items()}
    streams = {name: np.frombuffer(compress(content), np.uint8) for name, content in raw.items()}  # type: ignore[operator]
    return bytes(save(streams, metadata={name: str(zlib.adler32(content)) for name, content in raw.items()}))


@st.composite
def adapter(draw: st.DrawFn) -> Blob:
    """A PEFT folder."""
    rank = draw(st.integers(1, 8))
    held = {}
    for name in draw(st.lists(words, min_size=1, max_size=3, unique=True)):
        stem = f"base_model.model.model.layers.0.{name}"
        held[f"{stem}.lora_A.weight"] = np.ones((rank, 4), np.float32)
        held[f"{stem}.lora_B.weight"] = np.zeros((6, rank), np.float32)
    config = json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 32, "target_modules": ["q_proj"]}).encode()
    files = {"adapter_config.json": config, "adapter_model.safetensors": save(held), "tokenizer.json": b"{}"}
    return Blob(CheckpointKind.INFERENCE_LORA, files, frozenset({"adapter_config.json", "adapter_model.safetensors"}))


@st.composite
def training(draw: st.DrawFn) -> Blob:
    """A folder as `torch.distributed.checkpoint` leaves it, and the state file beside it."""
    rank = draw(st.none() | st.integers(1, 8))
    files: Files = {".metadata": draw(st.binary(min_size=1, max_size=40))}
    for shard in range(draw(st.integers(1, 3))):
        files[f"__{shard}_0.distcp"] = draw(st.binary(min_size=1, max_size=60))
    state = {
        "format_version": 1,
        "base_model": "accounts/fireworks/models/qwen3-8b",
        "lora": None if rank is None else {"rank": rank, "alpha": 32.0},
        "step": draw(st.integers(0, 10**6)),
        "files": {name: len(content) for name, content in files.items()},
    }
    files["training_state.json"] = json.dumps(state).encode()
    kind = CheckpointKind.TRAINING if rank is None else CheckpointKind.TRAINING_LORA
    return Blob(kind, files, frozenset(files))


blobs = st.one_of(full(), delta(), adapter(), training())


@st.composite
def folders(draw: st.DrawFn) -> Files:
    """Anything: names that checkpoints use with contents that they do not have, and the other way round."""
    whole = draw(st.one_of(st.just({}), blobs.map(lambda blob: blob.files)))
    names = st.sampled_from([*KNOWN, *whole]) | words
    contents = st.one_of(st.binary(max_size=200), jsons, headers(), st.sampled_from(sorted(whole.values()) or [b""]))
    return {**whole, **draw(st.dictionaries(names, contents, max_size=6))}


KNOWN = (
    "config.json",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    ".metadata",
    "training_state.json",
    "__0_0.distcp",
)

_FIELDS = (
    "model_type", "r", "weight_map", "files", "lora", "rank", ".metadata", "..", "", ".", "a\x00b", "\ud800",
    "model.safetensors", "../config.json", "config.json",
)  # fmt: skip
_leaves = st.none() | st.booleans() | st.integers(-2, 10**30) | st.floats() | st.sampled_from(_FIELDS)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=8,
)
jsons = _values.map(lambda value: json.dumps(value).encode()) | st.sampled_from([b"[" * 100_000, b"1" * 10_000, b"{}"])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Bytes that begin like a safetensors file and then say what they like."""
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "U8", "BOOL", "I64", "F4", "X"]) | _leaves,
            "shape": st.lists(st.integers(-1, 4), max_size=3) | _leaves,
            "data_offsets": st.lists(st.integers(-1, 32), min_size=1, max_size=3) | _leaves,
        },
    )
    table = draw(st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "x.lora_A"]), entry | _leaves, max_size=3))
    head = json.dumps(table).encode()
    claimed = draw(st.sampled_from([len(head), len(head) + 1, 0, 2**63, 2**64 - 1]))
    return struct.pack("<Q", claimed) + head + draw(st.binary(max_size=32))


def delta_files() -> Files:
    part = {"model.embed.weight": np.ones((2, 3), np.float32)}
    return {"model.safetensors": _delta_shard(part, zstandard.ZstdCompressor().compress), "config.json": CONFIG}


def adapter_files() -> Files:
    held = {f"base_model.q.lora_{half}.weight": np.ones((2, 2), np.float32) for half in "AB"}
    return {"adapter_config.json": b'{"r": 2}', "adapter_model.safetensors": save(held)}


def training_files() -> Files:
    files = {".metadata": b"m", "__0_0.distcp": b"d"}
    state = {"lora": {"rank": 2}, "files": {name: 1 for name in files}}
    return {**files, "training_state.json": json.dumps(state).encode()}


def sharded_files() -> Files:
    shards = _cut({"a": np.ones((2, 2), np.float32), "b": np.ones((2, 2), np.float32)}, 2)
    return {
        **{name: save(part) for name, part in shards.items()},
        "model.safetensors.index.json": _index(shards),
        "config.json": CONFIG,
    }
