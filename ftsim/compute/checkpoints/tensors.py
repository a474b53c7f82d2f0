"""Tensors as safetensors files; what the disk says comes out as OSError, as with every other file."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ftsim.compute.checkpoints.source import INDEX, WEIGHTS

LARGEST = 5 * 10**9
"""Bytes of a file of weights, as in the folders that transformers saves."""
_CODE = re.compile(r"\(os error (\d+)\)")


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors; raises OSError when the disk does not take them."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        if (found := _CODE.search(str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a model's weights: one file, or files of at most `LARGEST` bytes with an index; raises OSError."""
    files = split(tensors)
    for name, part in files.items():
        write(folder / name, part)
    write_index(folder, files)


def split(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each file, by its name: they follow from names, shapes and types alone."""
    if sum(value.numel() * value.element_size() for value in tensors.values()) <= LARGEST:
        return {WEIGHTS: dict(tensors)}
    from huggingface_hub import split_torch_state_dict_into_shards

    found = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=LARGEST)
    return {name: {key: tensors[key] for key in keys} for name, keys in found.filename_to_tensors.items()}


def write_index(folder: Path, files: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Say which file holds each of a model's tensors, where there is more than one."""
    if len(files) == 1:
        return
    size = sum(value.numel() * value.element_size() for part in files.values() for value in part.values())
    places = {key: name for name, part in files.items() for key in part}
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
