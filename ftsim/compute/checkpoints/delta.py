"""Deltas between two sets of full weights, through the vendor's codec (WIRE 5.6)."""

import bz2
import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.checkpoints.source import write_small
from ftsim.compute.checkpoints.tensors import split, write_index
from ftsim.compute.quiet import quiet

Format = Literal["arc_v1", "arc_v2", "arc_v3"]
_ARC3_ENVELOPE = b"ARC3_ENVELOPE\0"
_INSTEAD = "send a full snapshot (checkpoint_type base)"


def write_delta(
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    folder: Path,
    files: Mapping[str, bytes],
    format: Format = "arc_v2",
    **config: Any,
) -> None:
    """Write what turns `old` into `new` (CPU tensors, alike in name, type, shape) beside the small `files`.

    A file of weights has one of differences, under its name.

    `config` entries replace those of config.json, as in the folder of the full weights.
    """
    from fireworks_delta_compression import delta_compress_dicts_to_file

    shards = split(new)
    try:
        for name, part in shards.items():
            before = dict(old) if len(shards) == 1 else {key: old[key] for key in part if key in old}
            delta_compress_dicts_to_file(src=before, dst=part, diff_file=str(folder / name), compression_format=format)
    except ValueError as error:
        raise BackendError(f"no delta can be made: {error}") from error
    write_index(folder, shards)
    write_small(folder, files, **config)


def apply_delta(
    served: Mapping[str, Mapping[str, Tensor]], delta: Path, format: Format = "arc_v2"
) -> dict[str, dict[str, Tensor]]:
    """Apply `delta` to the tensors in `served`, by weight file; raises `BackendError`.

    On files the codec overwrites in place and checks each sum too late (FAILURES E11), and syncs what it wrote; tensor
    by tensor it makes new ones, so that nothing that is served ever changes.
    """
    if not served or sorted(served) != sorted(path.name for path in delta.glob("*.safetensors")):
        raise BackendError(f"the delta is none of the served weights, its weight files are others: {_INSTEAD}")
    return {name: _applied(tensors, delta / name, format) for name, tensors in served.items()}


def _applied(served: Mapping[str, Tensor], shard: Path, format: Format) -> dict[str, Tensor]:
    from fireworks_delta_compression import delta_decompress_dict_from_file

    if format == "arc_v3":
        _refuse_code(shard)
    try:
        with quiet():  # torch warns that it shares a buffer which cannot be written
            made = delta_decompress_dict_from_file(src=dict(served), diff_file=str(shard), compression_format=format)
    except Exception as error:  # the codec raises RuntimeError around its own kinds, KeyError, safetensors errors
        why = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise BackendError(
            f"the delta does not apply to the served weights, {_INSTEAD}: {shard.name}: {why}"
        ) from error
    return {name: made[name] for name in served}


def _refuse_code(shard: Path) -> None:
    """arc_v3 payloads are pickles that the codec opens freely; let pass only those made of plain values."""
    import zstd
    from safetensors.torch import load_file

    try:
        payloads = load_file(shard)
    except Exception as error:  # safetensors raises its own type
        raise BackendError(f"the delta cannot be read, {_INSTEAD}: {shard.name}: {error}") from error
    for name, value in payloads.items():
        payload = value.numpy().tobytes()
        if not payload.startswith(_ARC3_ENVELOPE):
            continue
        try:
            envelope = _PlainValues(BytesIO(payload[len(_ARC3_ENVELOPE) :])).load()
            unpack = bz2.decompress if envelope["codec"] == "bz2" else zstd.decompress
            _PlainValues(BytesIO(unpack(envelope["data"]))).load()
        except Exception as error:  # a pickle can fail in any way
            raise BackendError(f"{shard.name}: the delta of {name} is not plain data: {error}") from None


class _PlainValues(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a delta")
