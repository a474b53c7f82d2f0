"""Order, gaps and repetition of a model's operations (WIRE 2.7, FAILURES F13)."""

import time

import httpx
import pytest

from emulator.server import Emulator
from tests.doubles import DictBackend
from tests.http.gateway.conftest import Wire, batch


def ran(backend: DictBackend) -> list[str]:
    return [call.split()[0] for call in backend.calls if not call.startswith("create")]


@pytest.mark.parametrize("arrival", [(1, 2, 3), (2, 3, 1), (3, 2, 1), (3, 1, 2)])
def test_operations_run_by_number_not_by_arrival(wire: Wire, backend: DictBackend, arrival: tuple[int, ...]) -> None:
    verbs = {1: "forward_backward", 2: "optim_step", 3: "forward"}
    bodies = {"forward_backward": {"forward_backward_input": batch(1)}, "forward": {"forward_input": batch(2)}}
    ids = [wire.submit(verbs[seq], seq, **bodies.get(verbs[seq], {})) for seq in arrival]
    assert all("error" not in wire.result(request_id) for request_id in ids)
    assert ran(backend) == ["forward_backward", "optim_step", "forward"]


def test_a_number_that_never_comes_is_waited_for_a_moment_only(wire: Wire) -> None:
    began = time.perf_counter()
    wire.run("optim_step", 3)
    assert 1.2 < time.perf_counter() - began < 5
    began = time.perf_counter()
    wire.run("optim_step", 4)
    assert time.perf_counter() - began < 1


def test_a_straggler_behind_a_gap_still_runs(wire: Wire, backend: DictBackend) -> None:
    wire.run("optim_step", 2)
    wire.run("forward", 1, forward_input=batch(1))
    assert ran(backend) == ["optim_step", "forward"]


def test_a_repeated_call_answers_with_the_first_ones_result(wire: Wire, backend: DictBackend) -> None:
    first = wire.submit("optim_step", 1, adam_params={"learning_rate": 0.5})
    again = wire.submit("optim_step", 1, adam_params={"learning_rate": 0.5})
    assert first == again
    assert wire.result(first) == wire.result(again)
    assert ran(backend) == ["optim_step"]


def test_a_number_reused_for_something_else_is_refused_through_the_future(wire: Wire, backend: DictBackend) -> None:
    wire.run("optim_step", 1)
    for verb, body in (
        ("optim_step", {"adam_params": {"learning_rate": 9.0}}),
        ("forward", {"forward_input": batch(1)}),
    ):
        answer = wire.run(verb, 1, **body)
        assert "sequence number was reused" in str(answer["error"])
        assert answer["category"] == "user"
    assert ran(backend) == ["optim_step"]


def test_without_dedupe_a_repeated_call_runs_twice(wire: Wire, backend: DictBackend, emu: Emulator) -> None:
    emu.quirks.set("rpc.dedupe", False)
    ids = {wire.submit("optim_step", 1), wire.submit("optim_step", 1)}
    assert len([wire.result(request_id) for request_id in ids]) == 2
    assert ran(backend) == ["optim_step"] * 2


def test_without_dedupe_a_repeated_call_runs_twice_even_if_both_wait(
    wire: Wire, backend: DictBackend, emu: Emulator
) -> None:
    emu.quirks.set("rpc.dedupe", False)
    ids = [
        wire.submit(verb, seq, **body)
        for verb, seq, body in (
            ("optim_step", 2, {}),
            ("optim_step", 2, {}),
            ("forward", 1, {"forward_input": batch(1)}),
        )
    ]
    assert len(set(ids)) == 3
    assert all("error" not in wire.result(request_id) for request_id in ids)
    assert ran(backend) == ["forward", "optim_step", "optim_step"]


def test_create_model_is_idempotent_per_session(wire: Wire) -> None:
    again = wire.result(wire.post("create_model", wire.created))
    assert again["model_id"] == wire.model_id
    other = wire.result(wire.post("create_model", {**wire.created, "base_only": True}))
    assert "sequence number was reused" in str(other["error"])


def test_two_models_of_one_trainer_do_not_wait_for_each_other(wire: Wire, http: httpx.Client) -> None:
    other = Wire(http)
    stuck = wire.submit("optim_step", 7)
    began = time.perf_counter()
    other.run("optim_step", 1)
    assert time.perf_counter() - began < 1
    assert "error" not in wire.result(stuck)


def test_an_old_client_may_leave_everything_out(wire: Wire) -> None:
    done = wire.run("forward_backward", 1, forward_backward_input=batch(1, 2))
    assert done["loss_fn_output_type"] == "ArrayRecord"
    assert set(wire.run("optim_step", 2)) == {"metrics"}
    assert wire.run("save_weights_for_sampler", 3, path="s-00000000")["path"] == "s-00000000"


@pytest.mark.parametrize(
    ("verb", "body", "says"),
    [
        ("forward", {}, "missing required field 'forward_input'"),
        ("forward_backward", {"forward_backward_input": [1]}, "missing required field 'forward_backward_input'"),
        ("optim_step", {"grad_accumulation_normalization": "mean"}, "unknown grad_accumulation_normalization"),
        ("optim_step", {"adam_params": 3}, "adam_params must be an object"),
        ("save_weights", {}, "path is required"),
        ("save_weights", {"path": "../up"}, "invalid checkpoint name"),
        ("save_weights", {"path": "a/b"}, "invalid checkpoint name"),
        ("save_weights", {"path": "nul\0"}, "invalid checkpoint name"),
        ("save_weights", {"path": "x" * 300}, "invalid checkpoint name"),
        ("save_weights", {"path": "s", "ttl_seconds": 7200}, "ttl_seconds is not supported"),
        ("save_weights_for_sampler", {"path": "s", "checkpoint_type": "full"}, "unknown checkpoint_type"),
        ("save_weights_for_sampler", {"path": "s", "checkpoint_type": "merged_base"}, "merged_base needs a LoRA model"),
        ("save_weights_for_sampler", {"path": "s", "export_precision": "bf16"}, "merged_base only"),
        ("save_weights_for_sampler", {"path": "s", "checkpoint_type": "delta"}, "save base first"),
        ("load_weights", {"path": "/etc/passwd"}, "cannot load"),
        ("load_weights", {"path": "gs://bucket/x"}, "cannot load"),
        ("load_weights", {"path": "../../j2/s"}, "cannot load"),
        ("load_weights", {"path": "cross_job://nobody/s"}, "not found"),
        ("load_adapter", {"adapter_path": "accounts/local/models/a"}, "create it with a LoRA rank"),
    ],
)
def test_bad_input_fails_the_future_and_blames_the_caller(
    wire: Wire, verb: str, body: dict[str, object], says: str
) -> None:
    answer = wire.run(verb, 1, **body)
    assert says in str(answer["error"])
    assert answer["category"] == "user"
    assert "error" not in wire.run("optim_step", 2)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"seq_id": 1}', "model_id is required"),
        (b'{"model_id": "m", "seq_id": "one"}', "seq_id must be a number"),
    ],
)
def test_a_call_that_names_no_model_or_number_is_refused_at_once(
    wire: Wire, http: httpx.Client, body: bytes, says: str
) -> None:
    answer = http.post("/training/v1/rlorTrainerJobs/local/j1/api/v1/optim_step", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == 3
    assert says in answer.json()["message"]
