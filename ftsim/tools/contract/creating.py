"""Checks that create: one trainer job, its checkpoints, one promoted model; all deleted again at the end."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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

    @property
    def job(self) -> str:
        return f"accounts/{self.session.account}/rlorTrainerJobs/{self.name}"

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

    def call(self, verb: str, body: dict[str, Any], schema: Schema) -> Any:
        path = f"/training/v1/rlorTrainerJobs/{self.session.account}/{self.name}/api/v1/{verb}"
        return self.session.expect(self.session.ask("POST", path, json=body), schema) or {}

    def submit(self, verb: str, schema: Schema, **body: Any) -> Any:
        """A numbered operation, and its result compared with `schema`."""
        if not self.model_id:
            raise Skip("there is no model on the trainer")
        self.seq += 1
        accepted = self.call(verb, {"model_id": self.model_id, "seq_id": self.seq, **body}, ACCEPTED)
        return self.result(accepted, schema)

    def result(self, accepted: Any, schema: Schema) -> Any:
        """Poll a promise until it is settled (WIRE 2.6)."""
        deadline = time.monotonic() + OPERATION_S
        while time.monotonic() < deadline:
            answer = self.call("retrieve_future", {"request_id": accepted.get("request_id", "")}, EMPTY)
            if answer.get("type") != "try_again":
                self.session.compare(answer, schema)
                return answer
        raise TimeoutError(f"no result within {OPERATION_S:.0f} s")

    def list_rows(self) -> list[dict[str, Any]]:
        answer = self.session.get(f"/v1/{self.job}/checkpoints", page("checkpoints", ROW), pageSize=200) or {}
        return list(answer.get("checkpoints") or [])


@contextlib.contextmanager
def deleted_at_the_end(stage: CreatedJob) -> Iterator[CreatedJob]:
    """Whatever happens, the job and the model are deleted."""
    try:
        yield stage
    finally:
        account = stage.session.account
        for path in (f"/v1/{stage.job}", f"/v1/accounts/{account}/models/{stage.name}"):
            answer = stage.session.ask("DELETE", path)
            if not answer.is_success and answer.status_code != 404:
                stage.session.differs(f"cleaning up {path}", "deleted", f"{answer.status_code}: delete it by hand")


def create(stage: CreatedJob) -> None:
    """Create a trainer job and wait until it runs."""
    stage.session.report.created = True
    made = stage.session.expect(stage.create_job(), JOB) or {}
    stage.session.must("body.name", stage.job, made.get("name"))
    deadline = time.monotonic() + READY_S
    while (state := (stage.session.get(f"/v1/{stage.job}", JOB) or {}).get("state")) != "JOB_STATE_RUNNING":
        if state in ("JOB_STATE_FAILED", "JOB_STATE_DELETED") or time.monotonic() > deadline:
            raise TimeoutError(f"the job does not run: {state}")
        time.sleep(stage.poll_s)


def create_again(stage: CreatedJob) -> None:
    stage.session.refused(stage.create_job(), 409, 6)


def open_model(stage: CreatedJob) -> None:
    """Open a session and a model with an adapter."""
    sent = {"tags": [], "user_metadata": {}, "sdk_version": "0.23.0", "type": "create_session"}
    session_id = stage.call("create_session", sent, SESSION).get("session_id")
    stage.call("session_heartbeat", {"session_id": session_id, "type": "session_heartbeat"}, EMPTY)
    told = {"events": [], "platform": "test", "sdk_version": "0.23.0", "session_id": session_id}
    stage.session.must("body.status", "accepted", stage.call("telemetry", told, EMPTY).get("status"))
    lora = {"rank": 8, "alpha": 32, "train_unembed": True, "train_mlp": True, "train_attn": True}
    asked = {"session_id": session_id, "model_seq_id": 0, "base_model": stage.base_model, "lora_config": lora}
    accepted = stage.call("create_model", {**asked, "type": "create_model"}, ACCEPTED)
    stage.model_id = str(stage.result(accepted, CREATED_MODEL).get("model_id", ""))
    stage.call("get_info", {"model_id": stage.model_id, "type": "get_info"}, INFO)


def step(stage: CreatedJob) -> None:
    """A forward_backward and an optimizer step."""
    data = [
        {
            "model_input": {"chunks": [{"type": "encoded_text", "tokens": list(TOKENS[:-1])}]},
            "loss_fn_inputs": {
                "target_tokens": {"data": list(TOKENS[1:]), "dtype": "int64", "shape": [3]},
                "weights": {"data": [1.0, 1.0, 1.0], "dtype": "float32", "shape": [3]},
            },
        }
    ]
    done = stage.submit("forward_backward", STEP, forward_backward_input={"data": data, "loss_fn": "cross_entropy"})
    logprobs = [((one.get("logprobs") or {}).get("data") or []) for one in done.get("loss_fn_outputs") or []]
    stage.session.must("body.loss_fn_outputs[].logprobs.data lengths", [3], [len(found) for found in logprobs])
    adam = {
        "learning_rate": 1e-4,
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-12,
        "weight_decay": 0.0,
        "grad_clip_norm": 0.0,
    }
    stage.submit("optim_step", UPDATE, adam_params=adam, type="optim_step")


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
    name = "ftsim-sampler-0a0a0a0a"
    stage.submit("save_weights_for_sampler", SAVED, path=name, checkpoint_type="base", type="save_weights_for_sampler")
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


def _promote(stage: CreatedJob, row: str) -> Any:
    account = stage.session.account
    body = {
        "output_model": f"accounts/{account}/models/{stage.name}",
        "trainer_job_id": stage.job,
        "base_model": stage.base_model,
        "async_promotion": True,
    }
    return stage.session.ask("POST", f"/v1/accounts/{account}/checkpoints/{row}:promote", json=body)
