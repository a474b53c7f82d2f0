"""Steps of tinker's own service, by protobuf and by JSON: the CPU time that the server takes for each."""

import itertools
import statistics
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson

from ftsim.tools.bench.console import cpu_s
from ftsim.tools.bench.measure import Result
from ftsim.tools.bench.stand import Stand
from ftsim.tools.bench.workload import ADAM

MEDIA = "application/x-protobuf"
ROUNDS, STEPS = 12, 15
"""Blocks of each form, which take turns, and the steps of a block."""
_ADAM = ("learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm")


class Steps:
    """A LoRA run on `/tinker`, which is stepped by requests as the client sends them."""

    def __init__(self, http: httpx.Client, rows: list[list[int]]) -> None:
        self._http, self._rows = http, rows
        self._numbers = itertools.count(1)
        session = self._asked("create_session", {"tags": [], "sdk_version": "0.38.0"})["session_id"]
        made = {"session_id": session, "model_seq_id": 0, "base_model": "Qwen/Qwen3-8B", "lora_config": {"rank": 8}}
        self.model = orjson.loads(self._result(self._asked("create_model", made)))["model_id"]

    def by_json(self) -> None:
        """One step, its batch and its results as JSON."""
        sent = {"data": [_datum(row) for row in self._rows], "loss_fn": "cross_entropy"}
        body = {"model_id": self.model, "seq_id": next(self._numbers), "forward_backward_input": sent}
        self._step(orjson.dumps(body), "application/json", "application/json")

    def by_protobuf(self) -> None:
        """The same as messages of protobuf."""
        self._step(self._message(next(self._numbers)), MEDIA, f"{MEDIA}, application/json")

    def _step(self, body: bytes, media: str, accepted: str) -> None:
        answer = self._http.post("forward_backward", content=body, headers={"Content-Type": media})
        optim = {
            "model_id": self.model,
            "seq_id": next(self._numbers),
            "adam_params": {key: ADAM[key] for key in _ADAM},
        }
        update = self._asked("optim_step", optim)
        self._result(answer.raise_for_status().json(), accepted)
        self._result(update)

    def _message(self, number: int) -> bytes:
        from emulator.http.tinker.messages import FLOAT32, INT64, message

        sent = message("ForwardBackwardRequest")(model_id=self.model, seq_id=number, loss_fn="cross_entropy")
        for row in self._rows:
            datum = sent.data.add()
            datum.model_input.add().encoded_text.tokens = array("i", row[:-1]).tobytes()
            target, weights = datum.loss_fn_inputs["target_tokens"], datum.loss_fn_inputs["weights"]
            target.dense, target.dtype = array("q", row[1:]).tobytes(), INT64
            for tensor in (target, weights):
                tensor.shape.append(len(row) - 1)
            weights.dense, weights.dtype = array("f", [1.0] * (len(row) - 1)).tobytes(), FLOAT32
        return bytes(sent.SerializeToString())

    def _asked(self, verb: str, body: dict[str, Any]) -> Any:
        return self._http.post(verb, json=body).raise_for_status().json()

    def _result(self, accepted: dict[str, Any], media: str = "application/json") -> bytes:
        """The bytes of an operation's result, in the form that is accepted; raises RuntimeError for a failure."""
        asked = {"request_id": accepted["request_id"]}
        while True:
            answer = self._http.post("retrieve_future", json=asked, headers={"Accept": media}).raise_for_status()
            if answer.headers["content-type"] == MEDIA:
                return answer.content
            said = answer.json()
            if "error" in said:
                raise RuntimeError(str(said["error"]))
            if said.get("type") != "try_again":
                return answer.content


def _datum(row: list[int]) -> dict[str, Any]:
    count = len(row) - 1
    return {
        "model_input": {"chunks": [{"type": "encoded_text", "tokens": row[:-1]}]},
        "loss_fn_inputs": {
            "target_tokens": {"data": row[1:], "dtype": "int64", "shape": [count]},
            "weights": {"data": [1.0] * count, "dtype": "float32", "shape": [count]},
        },
    }


def tinker_protobuf(stand: Stand) -> Iterator[Result]:
    """CPU time of the server for a step of 8 × 128 tokens by protobuf, against the same step by JSON."""
    key, pid = stand.server.api_key, stand.server.pid
    url = f"{stand.server.url}/tinker/api/v1/"
    with httpx.Client(base_url=url, headers={"X-API-Key": f"tml-{key}"}, timeout=60, trust_env=False) as http:
        steps = Steps(http, stand.rows)
        for _ in range(5):
            steps.by_json()
            steps.by_protobuf()
        found = [(_cpu(pid, steps.by_protobuf), _cpu(pid, steps.by_json)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) * 1e3 for side in zip(*found, strict=True))
    parts = {"protobuf_cpu_ms": ours, "json_cpu_ms": theirs}
    yield Result("tinker_protobuf", ours / theirs, "x", 1.15, parts=parts)


def _cpu(pid: int, step: Callable[[], None]) -> float:
    """CPU seconds of a process per step, over a block of them."""
    before = cpu_s(pid)
    for _ in range(STEPS):
        step()
    return (cpu_s(pid) - before) / STEPS
