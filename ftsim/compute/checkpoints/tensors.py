"""Tensors as one safetensors file; what the disk says comes out as OSError, as with every other file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_CODE = re.compile(r"\(os error (\d+)\)")


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors; raises OSError when the disk does not take them."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        if (found := _CODE.search(str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
