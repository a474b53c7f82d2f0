"""Steps and results between protobuf, as tinker speaks it, and the mappings that a trainer takes and gives."""

import base64
import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import zstandard

from emulator.core.errors import InvalidArgument, PayloadTooLarge
from emulator.http.tinker.messages import FLOAT32, INT32, INT64, LENGTH, STOP, message

MEDIA = "application/x-protobuf"
_CODES = {FLOAT32: "f", INT64: "q", INT32: "i"}
_NAMES = {FLOAT32: "float32", INT64: "int64", INT32: "int64"}
NO_TOKEN, NO_LOGPROB = 0, -99999.0
"""An empty cell of a table of likeliest tokens."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """A body as it was before it was compressed.

    Raises InvalidArgument for what is no zstandard frame or another encoding, PayloadTooLarge over `most` bytes.
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "zstd":
        raise InvalidArgument(f"Content-Encoding is {encoding[:40]!r}: send zstd, or the body as it is")
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            whole = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise InvalidArgument(f"the body is no whole zstandard frame: {error}") from None
    if len(whole) > most:
        raise PayloadTooLarge(f"the body is longer than {most} bytes once it is unpacked: send fewer datums at once")
    return whole


def step(body: bytes) -> tuple[str, dict[str, Any]]:
    """The verb and the request of a ForwardBackwardRequest: `forward` where no gradients are wanted.

    Raises InvalidArgument for bytes that are no such message.
    """
    from google.protobuf.message import DecodeError

    sent = message("ForwardBackwardRequest")()
    try:
        sent.ParseFromString(body)
    except DecodeError:
        raise InvalidArgument("the body is no ForwardBackwardRequest") from None
    batch: dict[str, Any] = {"data": [_datum(one) for one in sent.data], "loss_fn": sent.loss_fn}
    config: dict[str, Any] = dict(sent.loss_fn_config)
    for key, value in sent.loss_fn_config_v2.items():  # the newer field is the one that holds text, too
        config[key] = value.text if value.WhichOneof("value") == "text" else value.number
    if config:
        batch["loss_fn_config"] = config
    verb = "forward" if sent.forward_only else "forward_backward"
    return verb, {"model_id": sent.model_id, "seq_id": sent.seq_id, f"{verb}_input": batch}


def _datum(sent: Any) -> dict[str, Any]:
    chunks = [_chunk(one) for one in sent.model_input]
    inputs = {name: _tensor(name, value) for name, value in sent.loss_fn_inputs.items()}
    return {"model_input": {"chunks": chunks}, "loss_fn_inputs": inputs}


def _chunk(sent: Any) -> dict[str, Any]:
    kind = sent.WhichOneof("chunk")
    if kind == "encoded_text":
        return {"type": "encoded_text", "tokens": _numbers("i", sent.encoded_text.tokens, "tokens")}
    if kind == "image":
        image, made = sent.image, {"data": base64.b64encode(sent.image.data).decode(), "format": sent.image.format}
        if image.HasField("expected_tokens"):
            made["expected_tokens"] = image.expected_tokens
        if image.HasField("override_dimensions"):
            size = image.override_dimensions
            made["override_dimensions"] = {"width": size.width, "height": size.height}
        return {"type": kind, **made}
    return {"type": str(kind)}  # refused where the datum is read, by its own name


def _tensor(name: str, sent: Any) -> dict[str, Any]:
    code = _CODES.get(sent.dtype)
    if code is None:
        raise InvalidArgument(f"loss_fn_inputs.{name} has the element type {sent.dtype}: send float32 or int64")
    made: dict[str, Any] = {"dtype": _NAMES[sent.dtype], "shape": list(sent.shape)}
    if sent.WhichOneof("encoding") != "sparse_csr":
        return made | {"data": _numbers(code, sent.dense, name)}
    sparse = sent.sparse_csr
    return made | {
        "data": _numbers(code, sparse.values, name),
        "sparse_crow_indices": _numbers("q", sparse.crow_indices, name),
        "sparse_col_indices": _numbers("q", sparse.col_indices, name),
    }


def _numbers(code: str, raw: bytes, what: str) -> list[Any]:
    numbers = array(code)
    if len(raw) % numbers.itemsize:
        raise InvalidArgument(f"{what} has {len(raw)} bytes, no multiple of {numbers.itemsize}")
    numbers.frombytes(raw)
    return numbers.tolist()


def step_result(result: Mapping[str, Any]) -> bytes:
    """A ForwardBackwardOutput from what a trainer answered: a record for each run of datums that are shaped alike."""
    made = message("ForwardBackwardOutput")(loss_fn_output_type=str(result.get("loss_fn_output_type", "")))
    for name, value in (result.get("metrics") or {}).items():
        made.metrics[name] = float(value)
    for _, datums in itertools.groupby(result.get("loss_fn_outputs") or [], key=_form):
        _write(made.loss_fn_outputs.add(), list(datums))
    return bytes(made.SerializeToString())


def _form(datum: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what datums of one record have in common: names, element types, and shapes but for the first dimension."""
    return tuple((name, one["dtype"], tuple(_shape(one)[1:])) for name, one in sorted(datum.items()))


def _shape(tensor: Mapping[str, Any]) -> Sequence[int]:
    return tensor.get("shape") or [len(tensor["data"])]


def _write(record: Any, datums: Sequence[Mapping[str, Any]]) -> None:
    record.num_datums = len(datums)
    for name, first in datums[0].items():
        code, number = ("f", FLOAT32) if first["dtype"] == "float32" else ("q", INT64)
        numbers, offsets = array(code), array("q", [0])
        for datum in datums:
            numbers.extend(datum[name]["data"])
            offsets.append(len(numbers) * numbers.itemsize)
        field = record.fields[name]
        field.data, field.offsets, field.dtype = numbers.tobytes(), offsets.tobytes(), number
        field.trailing_shape.extend(_shape(first)[1:])


def sample_result(result: Mapping[str, Any]) -> bytes:
    """A SampleResponse from what `sampling` has put together."""
    made = message("SampleResponse")(prompt_cache_hit_tokens=0)
    for sequence in result["sequences"]:
        one = made.sequences.add(
            stop_reason=STOP if sequence["stop_reason"] == "stop" else LENGTH,
            tokens=array("i", sequence["tokens"]).tobytes(),
            logprobs=_floats(sequence["logprobs"]),
        )
        if (tops := sequence.get("topk_logprobs")) is not None:
            _table(one.topk_sampled_logprobs, tops)
    if (prompt := result.get("prompt_logprobs")) is not None:
        made.prompt_logprobs = _floats(prompt)
    if (tops := result.get("topk_prompt_logprobs")) is not None:
        _table(made.topk_prompt_logprobs, tops)
    return bytes(made.SerializeToString())


def _floats(values: Iterable[float | None]) -> bytes:
    """Float32 bytes; a value that is missing is not a number."""
    return array("f", (float("nan") if value is None else value for value in values)).tobytes()


def _table(made: Any, rows: Sequence[Sequence[tuple[int, float]] | None]) -> None:
    """Rows of (token, log-probability), the likeliest first, as two matrices; what a row lacks is an empty cell."""
    width = max((len(row) for row in rows if row), default=0)

    def cells() -> Iterator[tuple[int, float]]:
        for row in rows:
            yield from row or ()
            yield from [(NO_TOKEN, NO_LOGPROB)] * (width - len(row or ()))

    flat = list(cells())
    made.token_ids, made.logprobs = array("i", (one for one, _ in flat)).tobytes(), _floats(two for _, two in flat)
    made.k, made.length = width, len(rows)
