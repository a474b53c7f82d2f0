"""The protobuf messages of tinker 0.25 and later: steps travel to a trainer, and results back, in these.

The schema is built here with the protobuf library; numbers and types of the fields are the client's own.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the library is imported with the first message: few programs send any
    from google.protobuf.descriptor_pb2 import DescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

PACKAGE = "ftsim_tinker"
_SCALARS = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
    "enum": 5,  # an enum travels as its number, and only numbers are looked at here
}
"""Numbers of the types of fields, as descriptors have them (FieldDescriptorProto.Type)."""
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3
FLOAT32, INT64, INT32 = 1, 2, 3
"""Numbers of the element types of a tensor."""
STOP, LENGTH = 0, 1
"""Numbers of the reasons why a sequence ended."""

# A line a field: number, name, type; `optional`, `repeated`, `oneof GROUP` or `map` before the type.
_SCHEMA = """
SparseCsr
    1 values bytes
    2 crow_indices bytes
    3 col_indices bytes
Tensor
    1 dense oneof encoding bytes
    2 sparse_csr oneof encoding SparseCsr
    3 dtype enum
    4 shape repeated int64
EncodedTextChunk
    1 tokens bytes
ImageDimensions
    1 width uint32
    2 height uint32
ImageChunk
    1 data bytes
    2 format string
    3 expected_tokens optional int32
    4 override_dimensions optional ImageDimensions
DmelChunk
    1 dmel bytes
Chunk
    1 encoded_text oneof chunk EncodedTextChunk
    2 image oneof chunk ImageChunk
    3 dmel oneof chunk DmelChunk
Span
    1 sequence_id string
    2 offset int64
    3 length int64
ProvenanceSpan
    1 prompt_tokens oneof kind Span
    2 sampled_tokens oneof kind Span
Datum
    1 model_input repeated Chunk
    2 loss_fn_inputs map Tensor
    3 model_input_spans repeated ProvenanceSpan
    4 loss_fn_input_spans repeated ProvenanceSpan
LossConfigValue
    1 number oneof value double
    2 text oneof value string
ForwardBackwardRequest
    1 model_id string
    2 seq_id int32
    3 data repeated Datum
    4 loss_fn string
    5 loss_fn_config map double
    6 forward_only bool
    7 loss_fn_config_v2 map LossConfigValue
BatchedTensor
    1 data bytes
    2 offsets bytes
    3 dtype enum
    4 trailing_shape repeated int64
ArrayRecord
    1 type_tag string
    2 fields map BatchedTensor
    3 num_datums int64
ForwardBackwardOutput
    1 loss_fn_output_type string
    2 loss_fn_outputs repeated ArrayRecord
    3 metrics map double
TopkLogprobs
    1 token_ids bytes
    2 logprobs bytes
    3 k uint32
    4 length uint32
SampledSequence
    1 stop_reason enum
    2 tokens bytes
    3 logprobs optional bytes
    4 topk_sampled_logprobs optional TopkLogprobs
SampleResponse
    1 sequences repeated SampledSequence
    2 prompt_logprobs optional bytes
    3 topk_prompt_logprobs optional TopkLogprobs
    4 prompt_cache_hit_tokens int32
"""


@cache
def message(name: str) -> type[Any]:
    """The class of a message, made at first use."""
    from google.protobuf import message_factory

    made: type[Any] = message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))
    return made


@cache
def _pool() -> "DescriptorPool":
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto3")
    for line in _SCHEMA.strip("\n").splitlines():
        if not line.startswith(" "):
            made = file.message_type.add(name=line)
        else:
            number, name, *how, kind = line.split()
            _add(made, int(number), name, how, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add(made: "DescriptorProto", number: int, name: str, how: list[str], kind: str) -> None:
    field: Any = made.field.add(name=name, number=number)
    field.label = _OPTIONAL
    if how == ["map"]:
        entry = made.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _type(entry.field.add(name="key", number=1), "string")
        _type(entry.field.add(name="value", number=2), kind)
        field.label, field.type = _REPEATED, _MESSAGE
        field.type_name = f".{PACKAGE}.{made.name}.{entry.name}"
        return
    _type(field, kind)
    if how == ["repeated"]:
        field.label = _REPEATED
    elif how:
        group = how[1] if how[0] == "oneof" else f"_{name}"
        groups = [one.name for one in made.oneof_decl]
        if group not in groups:
            made.oneof_decl.add(name=group)
            groups.append(group)
        field.oneof_index = groups.index(group)
        field.proto3_optional = how[0] == "optional"


def _type(field: Any, kind: str) -> None:
    if (scalar := _SCALARS.get(kind)) is not None:
        field.type = scalar
    else:
        field.type, field.type_name = _MESSAGE, f".{PACKAGE}.{kind}"
