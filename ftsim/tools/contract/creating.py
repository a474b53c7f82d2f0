"""Checks that create: one trainer job, its checkpoints, promoted models; all deleted again at the end."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from emulator.http.schemas import (
    ACCEPTED,
    CREATED_MODEL,
    EMPTY,
    FAILED,
    INFO,
    JOB,
    OPERATION,
    PROMOTED,
    ROW,
    SAVED,
    SESSION,
    STEP,
    UPDATE,
    Schema,
    obj,
    page,
)
from ftsim.tools.contract.reading import check_rows
from ftsim.tools.contract.session import Session, Skip

READY_S = 3600.0
OPERATION_S = 1800.0
TOKENS = (11, 12, 13, 14)


@dataclass
class CreatedJob:
    """The state that the checks of one run share: the job that was made, the model on its trainer, the next number."""

    session: Session
    base_model: str
    shape: str | None = None
    poll_s: float = 5.0
    name: str = field(default_factory=lambda: f"ftsim-contract-{secrets.token_hex(4)}")
    model_id: str = ""
    seq: int = 0
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    session_id: str = ""
    sampler: str = ""
    """The name of the sampler checkpoint that was saved."""
    slowest_s: float = 0.0
    """The longest poll so far."""
    deployment_shape: str | None = None
    deployed: bool = False

    @property
    def job(self) -> str:
        return f"accounts/{self.session.account}/rlorTrainerJobs/{self.name}"

    @property
    def deployment(self) -> str:
        return f"accounts/{self.session.account}/deployments/{self.name}"

    def create_job(self) -> Any:
        config = {"baseModel": self.base_model, "loraRank": 8, "learningRate": 1e-4}
        query = {"rlorTrainerJobId": self.name}
        query |= {"trainingShape": self.shape} if self.shape else {"skipValidations": "true"}
        body = {
            "serviceMode": True,
            "keepAlive": False,
            "dataset": "",
            "displayName": self.name,
            "trainingConfig": config,
        }
        return self.session.ask("POST", f"/v1/accounts/{self.session.account}/rlorTrainerJobs", params=query, json=body)

    def ask(self, verb: str, body: dict[str, Any]) -> httpx.Response:
        path = f"/training/v1/rlorTrainerJobs/{self.session.account}/{self.name}/api/v1/{verb}"
        return self.session.ask("POST", path, json=body)

    def call(self, verb: str, body: dict[str, Any], schema: Schema) -> Any:
        return self.session.expect(self.ask(verb, body), schema) or {}

    def send(self, verb: str, **body: Any) -> Any:
        """Send a numbered operation; its promise."""
        if not self.model_id:
            raise Skip("there is no model on the trainer")
        self.seq += 1
        return self.call(verb, {"model_id": self.model_id, "seq_id": self.seq, **body}, ACCEPTED)

    def submit(self, verb: str, schema: Schema, **body: Any) -> Any:
        """A numbered operation, and its result compared with `schema`."""
        return self.result(self.send(verb, **body), schema)

    def result(self, accepted: Any, schema: Schema) -> Any:
        """Poll a promise until it is settled (WIRE 2.6)."""
        answer, slowest = polled(lambda asked: self.call("retrieve_future", asked, EMPTY), accepted, OPERATION_S)
        self.slowest_s = max(self.slowest_s, slowest)
        self.session.compare(answer, schema)
        return answer

    def compute(self, verb: str, schema: Schema, *, loss_fn_config: dict[str, Any] | None = None, **inputs: Any) -> Any:
        """A forward or forward_backward of one datum; `inputs` are further tensors, None leaves a usual one out."""
        tensors = {
            "target_tokens": {"data": list(TOKENS[1:]), "dtype": "int64", "shape": [3]},
            "weights": {"data": [1.0, 1.0, 1.0], "dtype": "float32", "shape": [3]},
            **inputs,
        }
        datum = {
            "model_input": {"chunks": [{"type": "encoded_text", "tokens": list(TOKENS[:-1])}]},
            "loss_fn_inputs": {name: tensor for name, tensor in tensors.items() if tensor is not None},
        }
        asked: dict[str, Any] = {"data": [datum], "loss_fn": "cross_entropy"}
        asked |= {} if loss_fn_config is None else {"loss_fn_config": loss_fn_config}
        return self.submit(verb, schema, **{f"{verb}_input": asked})

    def adam(self, learning_rate: float) -> dict[str, float]:
        """The settings of an optimizer step."""
        rest = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.0, "grad_clip_norm": 0.0}
        return {"learning_rate": learning_rate, **rest}

    def create_model(self, number: int) -> dict[str, Any]:
        """Create the model of this number, with an adapter; the settled promise."""
        lora = {"rank": 8, "alpha": 32, "train_unembed": True, "train_mlp": True, "train_attn": True}
        asked = {"session_id": self.session_id, "model_seq_id": number, "base_model": self.base_model}
        accepted = self.call("create_model", {**asked, "lora_config": lora, "type": "create_model"}, ACCEPTED)
        return dict(self.result(accepted, CREATED_MODEL))

    def save_sampler(self, name: str) -> dict[str, Any]:
        kind = {"checkpoint_type": "base", "type": "save_weights_for_sampler"}
        return dict(self.submit("save_weights_for_sampler", SAVED, path=name, **kind))

    def list_rows(self) -> list[dict[str, Any]]:
        answer = self.session.get(f"/v1/{self.job}/checkpoints", page("checkpoints", ROW), pageSize=200) or {}
        return list(answer.get("checkpoints") or [])


def polled(fetch: Callable[[dict[str, Any]], Any], accepted: Any, within_s: float) -> tuple[Any, float]:
    """Poll a promise until it is settled (WIRE 2.6): the result, and how long the longest poll took."""
    deadline, slowest = time.monotonic() + within_s, 0.0
    while (began := time.monotonic()) < deadline:
        answer = fetch({"request_id": accepted.get("request_id", "")})
        slowest = max(slowest, time.monotonic() - began)
        if answer.get("type") != "try_again":
            return answer, slowest
    raise TimeoutError(f"no result within {within_s:.0f} s")


@contextlib.contextmanager
def deleted_at_the_end(stage: CreatedJob) -> Iterator[CreatedJob]:
    """Whatever happens, the deployment, the job and the models are deleted."""
    try:
        yield stage
    finally:
        models = f"/v1/accounts/{stage.session.account}/models/{stage.name}"
        paths = [f"/v1/{stage.deployment}?ignoreChecks=true"] if stage.deployed else []
        for path in (*paths, f"/v1/{stage.job}", models, f"{models}-untouched"):
            answer = stage.session.ask("DELETE", path)
            if not answer.is_success and answer.status_code != 404:
                stage.session.differs(f"cleaning up {path}", "deleted", f"{answer.status_code}: delete it by hand")


def create(stage: CreatedJob) -> None:
    """Create a trainer job and wait until it runs."""
    stage.session.report.created = True
    made = stage.session.expect(stage.create_job(), JOB) or {}
    stage.session.must("body.name", stage.job, made.get("name"))
    wait_for_state(stage, "JOB_STATE_RUNNING", failed=("JOB_STATE_FAILED", "JOB_STATE_DELETED"))


def wait_for_state(stage: CreatedJob, wanted: str, failed: tuple[str, ...]) -> None:
    """Read the job until it is in a state; raises TimeoutError."""
    deadline = time.monotonic() + READY_S
    while (state := (stage.session.get(f"/v1/{stage.job}", JOB) or {}).get("state")) != wanted:
        if state in failed or time.monotonic() > deadline:
            raise TimeoutError(f"the job is {state}, not {wanted}")
        time.sleep(stage.poll_s)


def create_again(stage: CreatedJob) -> None:
    stage.session.refused(stage.create_job(), 409, 6)


def open_model(stage: CreatedJob) -> None:
    """Open a session and a model with an adapter."""
    sent = {"tags": [], "user_metadata": {}, "sdk_version": "0.23.0", "type": "create_session"}
    session_id = stage.session_id = str(stage.call("create_session", sent, SESSION).get("session_id", ""))
    stage.call("session_heartbeat", {"session_id": session_id, "type": "session_heartbeat"}, EMPTY)
    told = {"events": [], "platform": "test", "sdk_version": "0.23.0", "session_id": session_id}
    stage.session.must("body.status", "accepted", stage.call("telemetry", told, EMPTY).get("status"))
    stage.model_id = str(stage.create_model(number=0).get("model_id", ""))
    stage.call("get_info", {"model_id": stage.model_id, "type": "get_info"}, INFO)


def step(stage: CreatedJob) -> None:
    """A forward_backward and an optimizer step."""
    done = stage.compute("forward_backward", STEP)
    logprobs = [((one.get("logprobs") or {}).get("data") or []) for one in done.get("loss_fn_outputs") or []]
    stage.session.must("body.loss_fn_outputs[].logprobs.data lengths", [3], [len(found) for found in logprobs])
    stage.submit("optim_step", UPDATE, adam_params=stage.adam(1e-4), type="optim_step")


def resend(stage: CreatedJob) -> None:
    """The same call again is the same promise."""
    stage.seq += 1
    body = {"model_id": stage.model_id, "seq_id": stage.seq, "path": "ftsim-resent", "overwrite": False}
    ids = {stage.call("save_weights", {**body, "type": "save_weights"}, ACCEPTED).get("request_id") for _ in range(2)}
    stage.session.must("request ids of one call sent twice", 1, len(ids))
    stage.result({"request_id": ids.pop()}, SAVED)


def bad_datum(stage: CreatedJob) -> None:
    """A bad payload fails its own promise and nothing else."""
    data = [{"model_input": {"chunks": [{"type": "encoded_text", "tokens": [11]}]}, "loss_fn_inputs": {}}]
    failed = stage.submit("forward_backward", FAILED, forward_backward_input={"data": data, "loss_fn": "cross_entropy"})
    stage.session.must("body.category", "user", failed.get("category"))


def save(stage: CreatedJob) -> None:
    """A resumable and a sampler checkpoint are listed, as the kinds that they are."""
    saved = stage.submit("save_weights", SAVED, path="ftsim-state", overwrite=False, type="save_weights")
    stage.session.must("body.path", "ftsim-state", saved.get("path"))
    name = stage.sampler = "ftsim-sampler-0a0a0a0a"
    stage.save_sampler(name)
    rows = stage.list_rows()
    check_rows(stage.session, rows)
    stage.rows = {str(row["name"]).rsplit("/", 1)[1]: row for row in rows}
    expected = {"ftsim-state": "CHECKPOINT_TYPE_TRAINING_LORA", name: "CHECKPOINT_TYPE_INFERENCE_LORA"}
    for row, kind in expected.items():
        stage.session.must(
            f"checkpointType of {row}", kind, stage.rows.get(row, {}).get("checkpointType", "not listed")
        )


def load(stage: CreatedJob) -> None:
    """Weights and optimizer come back."""
    stage.submit("load_weights", EMPTY, path="ftsim-state", optimizer=True, type="load_weights")
    failed = stage.submit("load_weights", FAILED, path="ftsim-none", optimizer=True, type="load_weights")
    stage.session.must("body.category", "user", failed.get("category"))


def promote_refused(stage: CreatedJob) -> None:
    """A training state is not promotable."""
    stage.session.refused(_promote(stage, "ftsim-state"), 400)


def promote(stage: CreatedJob) -> None:
    """A sampler checkpoint becomes a model."""
    name = next((row for row, facts in stage.rows.items() if facts.get("promotable")), None)
    if name is None:
        raise Skip("no row is promotable")
    body = stage.session.expect(_promote(stage, name), PROMOTED) or {}
    operation = body.get("operation") or {"done": True}
    deadline = time.monotonic() + OPERATION_S
    while not operation.get("done") and time.monotonic() < deadline:
        time.sleep(stage.poll_s)
        operation = stage.session.get(f"/v1/{operation['name']}", OPERATION) or {}
    path = f"/v1/accounts/{stage.session.account}/models/{stage.name}"
    details = obj({"name": {"type": "string"}, "kind": {"const": "HF_PEFT_ADDON"}, "peftDetails": obj({})})
    stage.session.get(path, details)


def delete(stage: CreatedJob) -> None:
    """A deleted job stays readable with its rows; deleting again is no error; its id is burnt."""
    for _ in range(2):
        stage.session.must("status", True, stage.session.ask("DELETE", f"/v1/{stage.job}").is_success)
    found = stage.session.get(f"/v1/{stage.job}", JOB) or {}
    if found.get("state") not in ("JOB_STATE_DELETED", "JOB_STATE_DELETING"):
        stage.session.differs("body.state", "JOB_STATE_DELETED", found.get("state"))
    stage.session.must("rows of a deleted job", bool(stage.rows), bool(stage.list_rows()))


def promotion(stage: CreatedJob, model_id: str) -> dict[str, Any]:
    """The body of a promotion of one of the job's rows."""
    return {
        "output_model": f"accounts/{stage.session.account}/models/{model_id}",
        "trainer_job_id": stage.job,
        "base_model": stage.base_model,
        "async_promotion": True,
    }


def _promote(stage: CreatedJob, row: str) -> Any:
    path = f"/v1/accounts/{stage.session.account}/checkpoints/{row}:promote"
    return stage.session.ask("POST", path, json=promotion(stage, stage.name))
