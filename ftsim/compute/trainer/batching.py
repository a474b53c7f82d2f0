"""From the JSON of a request (WIRE 2.8) to padded tensors, through numpy and without a Python loop over tokens.

A request is a list of datums of different lengths. They run in micro-batches: sorted by length, right-padded, bounded
by a token budget. Right padding needs no attention mask: a causal model never looks to the right.
"""

from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emulator.backend import BackendError
from ftsim.compute.images.pixels import Picture
from ftsim.compute.images.sight import Sight
from ftsim.compute.models.routing import RouteShape
from ftsim.compute.trainer import inputs
from ftsim.compute.trainer.inputs import Read, numbers

Array = npt.NDArray[Any]

INTEGER_TENSORS = ("target_tokens",)
FLOAT_TENSORS = ("weights", "logprobs", "advantages", "embedding_grads", "projection_grads")
MASKS = ("mask", "loss_mask")
"""Names under which clients keep a mask beside the weights that they train with."""
_UNALIGNED = ("embedding_grads", "projection_grads")
_LARGEST_TENSOR = 1 << 26


@dataclass(frozen=True)
class Limits:
    """The limits of token ids and lengths."""

    vocabulary: int
    context: int
    routes: RouteShape | None = None
    """None for a model whose experts cannot be chosen for it."""
    sight: Sight | None = None
    """None for a model that reads text alone."""


@dataclass(frozen=True)
class Datum:
    """One training example: `tokens` (T,), loss tensors (T,) or (T, K), experts if they are replayed."""

    tokens: Array
    tensors: Mapping[str, Array]
    routes: Array | None = None
    """Experts to use (T, layers, chosen), -1 where the model chooses for itself."""
    pictures: Sequence[Picture] = ()
    told: Array | None = None
    """True at the positions that are answered (T,), where its tensors came without the places of images."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class MicroBatch:
    """Datums that run together. N is the number of real positions: the datums end to end, without padding."""

    order: Sequence[int]
    """Which datum of the request each row is."""
    lengths: Sequence[int]
    input_ids: torch.Tensor  # (B, L)
    real: torch.Tensor  # (N,) where the real positions lie in the flattened (B * L)
    row: torch.Tensor  # (N,) which row each real position belongs to
    tensors: Mapping[str, torch.Tensor]  # (N,) or (N, K) each; absent when a datum of the batch lacks it
    routes: torch.Tensor | None = None  # (B * L, layers, chosen), -1 where the model chooses
    seen: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What the forward takes beside token ids where there are images."""
    told: Sequence[torch.Tensor | None] = ()
    """For each row the positions that are answered (T,), None for all; nothing at all where no row leaves any out."""

    def pick(self, padded: torch.Tensor) -> torch.Tensor:
        """The real positions of a tensor (B * L, ...)."""
        return padded if len(self.real) == len(padded) else padded[self.real]


def parse(batch: Mapping[str, Any], limits: Limits, *, trains: bool, acting: str = "weights") -> list[Datum]:
    """Every datum of a request, checked; raises `BackendError` naming the datum that is wrong.

    A forward takes well-formed tensors that nothing uses. A request that `trains` takes a mask beside its known tensors
    if the mask is 1 wherever the tensor called `acting` is not 0 (absent: everywhere), and refuses other names.
    """
    data = batch.get("data")
    if not isinstance(data, list) or not data:
        raise BackendError("'data' must be a list with at least one datum")
    datums = []
    for index, raw in enumerate(data):
        try:
            datums.append(_datum(raw, limits, trains=trains, acting=acting))
        except BackendError as error:
            raise BackendError(f"datum {index}: {error.message}") from None
    return datums


def micro_batches(
    datums: Sequence[Datum], budget: int, device: torch.device, sight: Sight | None = None
) -> Iterator[MicroBatch]:
    """Length-sorted micro-batches of at most `budget` padded tokens (one datum at least)."""
    group: list[int] = []
    for index in sorted(range(len(datums)), key=lambda i: (_signature(datums[i]), len(datums[i]))):
        alike = not group or _signature(datums[index]) == _signature(datums[group[0]])
        if group and (not alike or (len(group) + 1) * len(datums[index]) > budget):
            yield _pad(datums, group, device, sight)
            group = []
        group.append(index)
    if group:
        yield _pad(datums, group, device, sight)


def array_record(tensor: torch.Tensor, dtype: str = "float32") -> dict[str, Any]:
    """A response TensorData of a CPU tensor."""
    return {"data": tensor.reshape(-1).tolist(), "dtype": dtype, "shape": list(tensor.shape)}


def _signature(datum: Datum) -> tuple[tuple[str, tuple[int, ...]], ...]:
    replayed = () if datum.routes is None else (("routes", datum.routes.shape[1:]),)
    seen = (("images", ()),) if datum.pictures else ()
    return (*sorted((name, array.shape[1:]) for name, array in datum.tensors.items()), *replayed, *seen)


def _pad(datums: Sequence[Datum], group: Sequence[int], device: torch.device, sight: Sight | None) -> MicroBatch:
    rows = [datums[index] for index in group]
    lengths = [len(row) for row in rows]
    width = max(lengths)
    present = np.arange(width) < np.asarray(lengths)[:, None]  # (B, L)
    ids = np.zeros(present.shape, dtype=np.int64)
    ids[present] = np.concatenate([row.tokens for row in rows])
    tensors = {
        name: torch.from_numpy(np.concatenate([row.tensors[name] for row in rows])).to(device)
        for name in rows[0].tensors
        if name not in _UNALIGNED
    }
    seen: Mapping[str, torch.Tensor] = {}
    if sight is not None and rows[0].pictures:  # all of a micro-batch have them, or none
        seen = sight.inputs([(row.tokens, row.pictures) for row in rows], width, device)
    told = [None if row.told is None else torch.from_numpy(row.told) for row in rows]
    return MicroBatch(
        order=list(group),
        lengths=lengths,
        input_ids=torch.from_numpy(ids).to(device),
        real=torch.from_numpy(np.flatnonzero(present)).to(device),
        row=torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)).to(device),
        tensors=tensors,
        routes=_padded_routes(rows, present, device),
        seen=seen,
        told=told if any(one is not None for one in told) else (),
    )


def _padded_routes(rows: Sequence[Datum], present: Array, device: torch.device) -> torch.Tensor | None:
    given = [row.routes for row in rows if row.routes is not None]
    if not given:  # all of a micro-batch have them, or none
        return None
    padded = np.full((*present.shape, *given[0].shape[1:]), -1, dtype=np.int64)
    padded[present] = np.concatenate(given)
    return torch.from_numpy(padded).to(device).flatten(0, 1)


def _datum(raw: Any, limits: Limits, *, trains: bool, acting: str) -> Datum:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("model_input"), Mapping):
        raise BackendError("a datum needs a 'model_input' with chunks")
    found = _read(raw["model_input"].get("chunks"), limits)
    given = raw.get("loss_fn_inputs") or {}
    length = _length(given, found)
    tensors: dict[str, Array] = {}
    others: dict[str, Array] = {}
    for name, value in given.items():
        known = name in INTEGER_TENSORS + FLOAT_TENSORS
        if trains and not known and name not in MASKS:
            names = ", ".join((*INTEGER_TENSORS, *FLOAT_TENSORS))
            raise BackendError(f"unknown loss input {name!r}; known ones are {names}")
        (tensors if known else others)[name] = _tensor(name, value, length, limits)
    if trains:
        for name, mask in others.items():
            _check_mask(name, mask, tensors.get(acting), acting)
    return _placed(
        found, tensors, length, trains=trains, acting=acting, routes=_routes(raw["model_input"], found, limits)
    )


def _length(given: Mapping[str, Any], found: Read) -> int:
    """Numbers that the tensors of a datum have: one for each token, or those of images left out, as its targets are."""
    targets = given.get("target_tokens")
    if not found.pictures or not isinstance(targets, Mapping):
        return len(found.tokens)
    shape, data = targets.get("shape"), targets.get("data")
    first = shape[0] if isinstance(shape, list) and shape else len(data) if isinstance(data, list) else None
    return found.text if first == found.text else len(found.tokens)


def _placed(
    found: Read, tensors: dict[str, Array], length: int, *, trains: bool, acting: str, routes: Array | None
) -> Datum:
    """The datum with its tensors over all tokens; those of images are told of only where the client has sent them."""
    if not found.pictures:
        return Datum(found.tokens, tensors, routes)
    left_out = length != len(found.tokens)
    if left_out and "target_tokens" in tensors and "weights" not in tensors:
        tensors["weights"] = np.ones(tensors["target_tokens"].shape, dtype=np.float32)
    tensors = {name: value if name in _UNALIGNED else found.spread(value) for name, value in tensors.items()}
    if trains and "target_tokens" in tensors:
        inputs.check_places(found, tensors.get(acting), acting)
    return Datum(found.tokens, tensors, routes, found.pictures, ~found.seen if left_out else None)


def _routes(model_input: Mapping[str, Any], found: Read, limits: Limits) -> Array | None:
    """Experts to replay (T, layers, chosen) of a datum, None if it names none; an empty string names none."""
    if model_input.get("routing_matrix_format") not in (None, "base64_inline") or model_input.get("routing_references"):
        raise BackendError("routes kept as files are not read here: send routing_matrices as base64_inline")
    given = model_input.get("routing_matrices")
    if not isinstance(given, list | None):
        raise BackendError("'routing_matrices' must be a list of strings, one for each token")
    if not given or not any(given):
        return None
    length, shape = len(found.tokens), limits.routes
    if shape is None:
        raise BackendError("'routing_matrices' needs a model with routers of one shape; this one has none")
    if len(given) != length:
        raise BackendError(f"'routing_matrices' has {len(given)} entries but the model input has {length} tokens")
    try:
        entries = {at: a2b_base64(text, strict_mode=True) for at, text in enumerate(given) if text}
    except (ValueError, TypeError):
        at = next(at for at, text in enumerate(given) if text and not _is_base64(text))
        raise BackendError(f"'routing_matrices' at position {at} is not base64") from None
    try:
        return shape.unpack(entries, length)
    except BackendError as error:
        raise BackendError(f"'routing_matrices' at {error.message}") from None


def _is_base64(text: object) -> bool:
    try:
        a2b_base64(text, strict_mode=True)  # type: ignore[arg-type]  # it says what is none
    except (ValueError, TypeError):
        return False
    return True


def _check_mask(name: str, mask: Array, factors: Array | None, acting: str) -> None:
    """Refuse a mask that would change the loss: the losses of this trainer know none."""
    if factors is not None and factors.shape != mask.shape:
        raise BackendError(f"{name!r} has shape {list(mask.shape)}, {acting!r} has {list(factors.shape)}")
    if (mask[slice(None) if factors is None else factors != 0] != 1).any():
        raise BackendError(
            f"{name!r} leaves out positions that {acting!r} trains, and no loss here reads it: "
            f"multiply {acting!r} by it, and send the datum without it"
        )


def _read(chunks: Any, limits: Limits) -> Read:
    found = inputs.read(chunks, limits.sight)
    tokens = found.tokens
    if not len(tokens):
        raise BackendError("the model input is empty")
    if len(tokens) > limits.context:
        raise BackendError(f"{len(tokens)} tokens are longer than the context of {limits.context}")
    _in_vocabulary("token", tokens, limits)
    return found


def _tensor(name: str, value: Any, length: int, limits: Limits) -> Array:
    if not isinstance(value, Mapping) or "data" not in value:
        raise BackendError(f"{name!r} must be a tensor with 'data'")
    flat = numbers(value["data"], name, integer=name in INTEGER_TENSORS)
    shape = value.get("shape")
    if shape is not None and not (
        isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape) and 1 <= len(shape) <= 2
    ):
        raise BackendError(f"{name!r} has shape {shape!r}; expected one or two whole numbers")
    if value.get("sparse_crow_indices") is not None:
        flat = _densify(name, value, flat, shape)
    elif shape is not None:
        if int(np.prod(shape)) != flat.size:
            raise BackendError(f"{name!r} holds {flat.size} numbers but its shape is {shape}")
        flat = flat.reshape(shape)
    if name in (*INTEGER_TENSORS, *FLOAT_TENSORS, *MASKS) and name not in _UNALIGNED and len(flat) != length:
        raise BackendError(f"{name!r} has length {len(flat)} but the model input has {length} tokens")
    if name in INTEGER_TENSORS:
        _in_vocabulary(f"{name} entry", flat, limits)
    return flat


def _in_vocabulary(what: str, ids: Array, limits: Limits) -> None:
    if ids.size and not (ids.min() >= 0 and ids.max() < limits.vocabulary):
        wrong = ids[(ids < 0) | (ids >= limits.vocabulary)][0]
        raise BackendError(f"{what} {wrong} is outside the vocabulary of {limits.vocabulary}: use its tokenizer")


def _densify(name: str, value: Mapping[str, Any], data: Array, shape: list[int] | None) -> Array:
    """CSR to dense; what is missing is 0."""
    if shape is None or len(shape) != 2 or shape[0] * shape[1] > _LARGEST_TENSOR:
        raise BackendError(f"sparse {name!r} needs a two-dimensional shape of at most {_LARGEST_TENSOR} elements")
    crow = numbers(value["sparse_crow_indices"], f"{name}.sparse_crow_indices", integer=True)
    columns = numbers(value.get("sparse_col_indices"), f"{name}.sparse_col_indices", integer=True)
    steps = np.diff(crow)
    if len(crow) != shape[0] + 1 or crow[0] != 0 or crow[-1] != data.size or (steps < 0).any():
        raise BackendError(f"{name!r} has row pointers that do not fit its shape and data")
    if len(columns) != data.size or (columns.size and not (columns.min() >= 0 and columns.max() < shape[1])):
        raise BackendError(f"{name!r} has column indices that do not fit its shape and data")
    dense = np.zeros(shape, dtype=data.dtype)
    dense[np.repeat(np.arange(shape[0]), steps), columns] = data
    return dense
