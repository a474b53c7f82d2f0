"""Messages of tinker's own client, byte by byte as it writes and reads them."""

from array import array
from typing import Any

import pytest
import zstandard

from emulator.core.errors import InvalidArgument, PayloadTooLarge
from emulator.http.tinker import wire
from emulator.http.tinker.messages import INT64, LENGTH, STOP, message


def request(**fields: Any) -> Any:
    sent = message("ForwardBackwardRequest")(model_id="m", seq_id=3, loss_fn="ppo", **fields)
    datum = sent.data.add()
    datum.model_input.add().encoded_text.tokens = array("i", [5, 6]).tobytes()
    datum.model_input.add().encoded_text.tokens = array("i", [7]).tobytes()
    dense = datum.loss_fn_inputs["target_tokens"]
    dense.dense, dense.dtype = array("q", [6, 7, 8]).tobytes(), INT64
    dense.shape.append(3)
    return sent


def test_a_step_becomes_what_a_trainer_takes() -> None:
    sent = request()
    sparse = sent.data[0].loss_fn_inputs["weights"]
    sparse.dtype = 1
    sparse.shape.extend([2, 2])
    sparse.sparse_csr.values = array("f", [0.5]).tobytes()
    sparse.sparse_csr.crow_indices = array("q", [0, 1, 1]).tobytes()
    sparse.sparse_csr.col_indices = array("q", [1]).tobytes()
    sent.loss_fn_config["clip"] = 0.25
    sent.loss_fn_config_v2["clip"].number = 0.5
    sent.loss_fn_config_v2["how"].text = "token"
    verb, made = wire.step(sent.SerializeToString())
    assert verb == "forward_backward"
    assert (made["model_id"], made["seq_id"]) == ("m", 3)
    batch = made["forward_backward_input"]
    assert (batch["loss_fn"], batch["loss_fn_config"]) == ("ppo", {"clip": 0.5, "how": "token"})
    (datum,) = batch["data"]
    assert [chunk["tokens"] for chunk in datum["model_input"]["chunks"]] == [[5, 6], [7]]
    assert datum["loss_fn_inputs"]["target_tokens"] == {"dtype": "int64", "shape": [3], "data": [6, 7, 8]}
    assert datum["loss_fn_inputs"]["weights"] == {
        "dtype": "float32",
        "shape": [2, 2],
        "data": [0.5],
        "sparse_crow_indices": [0, 1, 1],
        "sparse_col_indices": [1],
    }


def test_without_gradients_it_is_a_forward() -> None:
    verb, made = wire.step(request(forward_only=True).SerializeToString())
    assert (verb, "forward_input" in made) == ("forward", True)


def test_wrong_messages_are_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="no ForwardBackwardRequest"):
        wire.step(b"\x0f not a message")
    sent = request()
    sent.data[0].loss_fn_inputs["target_tokens"].dense = b"12345"
    with pytest.raises(InvalidArgument, match="target_tokens has 5 bytes, no multiple of 8"):
        wire.step(sent.SerializeToString())
    sent.data[0].loss_fn_inputs["target_tokens"].dtype = 9
    with pytest.raises(InvalidArgument, match="target_tokens has the element type 9"):
        wire.step(sent.SerializeToString())


def test_a_compressed_body_is_unpacked_up_to_a_limit() -> None:
    packed = zstandard.ZstdCompressor().compress(b"x" * 1000)
    assert wire.unpacked(packed, "zstd", 1000) == b"x" * 1000
    assert wire.unpacked(b"plain", "", 1000) == b"plain"
    with pytest.raises(PayloadTooLarge, match="longer than 999 bytes"):
        wire.unpacked(packed, "zstd", 999)
    with pytest.raises(InvalidArgument, match="no whole zstandard frame"):
        wire.unpacked(b"plain", "zstd", 1000)
    with pytest.raises(InvalidArgument, match="send zstd"):
        wire.unpacked(packed, "br", 1000)


def tensor(values: list[float], *shape: int, dtype: str = "float32") -> dict[str, Any]:
    return {"data": values, "dtype": dtype, "shape": list(shape)}


def test_results_of_one_shape_share_a_record() -> None:
    outputs = [
        {"logprobs": tensor([-1.0, -2.0], 2)},
        {"logprobs": tensor([-3.0], 1)},
        {"logprobs": tensor([-4.0, -5.0], 1, 2)},
    ]
    result = {"loss_fn_output_type": "T", "loss_fn_outputs": outputs, "metrics": {"loss:sum": 1.5}}
    made = message("ForwardBackwardOutput").FromString(wire.step_result(result))
    assert (made.loss_fn_output_type, dict(made.metrics)) == ("T", {"loss:sum": 1.5})
    flat, wide = made.loss_fn_outputs
    assert (flat.num_datums, wide.num_datums) == (2, 1)
    field = flat.fields["logprobs"]
    assert array("f", field.data).tolist() == [-1.0, -2.0, -3.0]
    assert array("q", field.offsets).tolist() == [0, 8, 12]
    assert list(field.trailing_shape) == []
    assert list(wide.fields["logprobs"].trailing_shape) == [2]


def test_a_sample_has_its_tables() -> None:
    sequence = {"stop_reason": "length", "tokens": [4, 5], "logprobs": [-0.5, -1.5]}
    tops = {"topk_logprobs": [[(4, -0.5), (9, -2.0)], [(5, -1.5)]]}
    result = {
        "sequences": [{**sequence, **tops}, {**sequence, "stop_reason": "stop"}],
        "prompt_logprobs": [None, -0.25],
        "topk_prompt_logprobs": [None, [(7, -0.25)]],
    }
    made = message("SampleResponse").FromString(wire.sample_result(result))
    first, second = made.sequences
    assert (first.stop_reason, second.stop_reason) == (LENGTH, STOP)
    assert array("i", first.tokens).tolist() == [4, 5]
    table = first.topk_sampled_logprobs
    assert (table.length, table.k) == (2, 2)
    assert array("i", table.token_ids).tolist() == [4, 9, 5, wire.NO_TOKEN]
    assert array("f", table.logprobs).tolist()[-1] == wire.NO_LOGPROB
    assert not second.HasField("topk_sampled_logprobs")
    scores = array("f", made.prompt_logprobs)
    assert scores[0] != scores[0]
    assert scores[1] == -0.25
    assert (made.topk_prompt_logprobs.length, made.topk_prompt_logprobs.k) == (2, 1)
