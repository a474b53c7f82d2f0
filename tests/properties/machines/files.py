"""Compares the files of rows and models, and what replicas serve, with the digests that the machines expect."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def check_close(folder: Path, wanted: Mapping[str, Tensor]) -> None:
    """The files hold these tensors, up to rounding; raises AssertionError."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    assert found.keys() == wanted.keys(), f"{folder.name} holds other tensors: {sorted(found.keys() ^ wanted.keys())}"
    for name, value in found.items():
        assert torch.allclose(value, wanted[name], rtol=1e-5, atol=1e-6), f"{name} of {folder.name} is not merged"


def served(full: str, adapter: str | None) -> str:
    """Predict what `Replica.fingerprint` says of full weights and maybe an adapter, by their digests."""
    return hashlib.sha256("".join(filter(None, (full, adapter))).encode()).hexdigest()
