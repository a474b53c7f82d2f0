"""Deltas between two sets of full weights, through the vendor's codec (WIRE 5.6)."""

import bz2
import pickle
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from emulator.backend import BackendError
from ftsim.checkpoints import companions, hf

Format = Literal["arc_v1", "arc_v2", "arc_v3"]
_ARC3_ENVELOPE = b"ARC3_ENVELOPE\0"


def write_delta(
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    folder: Path,
    files: Mapping[str, bytes],
    format: Format = "arc_v2",
) -> None:
    """Write what turns `old` into `new` (CPU tensors, alike in name, type, shape) beside the small `files`."""
    from fireworks_delta_compression import delta_compress_dicts_to_file

    try:
        delta_compress_dicts_to_file(
            src=dict(old), dst=dict(new), diff_file=str(folder / hf.WEIGHTS), compression_format=format
        )
    except ValueError as error:
        raise BackendError(f"no delta can be made: {error}") from error
    companions.write(folder, files)


def apply_delta(held: Path, delta: Path, folder: Path, format: Format = "arc_v2") -> None:
    """Write into the empty `folder` the weights that `delta` makes of those in `held`.

    The codec overwrites in place and checks each sum too late (FAILURES E11), so it works on a copy: on `BackendError`
    nothing that was held has changed and `folder` holds no weights.
    """
    from fireworks_delta_compression import delta_decompress_inplace

    shards = sorted(path.name for path in held.glob("*.safetensors"))
    if not shards or shards != sorted(path.name for path in delta.glob("*.safetensors")):
        raise BackendError(f"{delta.name} is no delta of what is held: its weight files are others")
    for name in shards:
        if format == "arc_v3":
            _refuse_code(delta / name)
        shutil.copyfile(held / name, folder / name)
    try:
        for name in shards:
            delta_decompress_inplace(
                base_path=str(folder / name), diff_path=str(delta / name), compression_format=format
            )
    except Exception as error:  # the codec raises ValueError kinds, KeyError, zstd errors
        for name in shards:
            (folder / name).unlink(missing_ok=True)
        raise BackendError(f"{delta.name} does not apply to what is held: {error}") from error
    for path in delta.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)


def _refuse_code(shard: Path) -> None:
    """arc_v3 payloads are pickles that the codec opens freely; let pass only those made of plain values."""
    import zstd
    from safetensors.torch import load_file

    for name, value in load_file(shard).items():
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
