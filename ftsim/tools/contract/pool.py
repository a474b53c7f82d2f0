"""Checks on the serverless pool that settle what docs/wire.md only infers (`marks`). They make no trainer job."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from emulator.http.schemas import (
    ACCEPTED,
    COMPLETION,
    CREATED_MODEL,
    EMPTY,
    FAILED,
    SAVED,
    SESSION,
    TRAINING_SESSION,
    Schema,
)
from ftsim.tools.contract.creating import OPERATION_S, TOKENS, polled
from ftsim.tools.contract.session import Session

GATEWAY = "/training/v1/serverless/api/v1/"
LONGEST_NAME = 17
PLACES = 8


@dataclass
class PoolStage:
    """The sessions that the checks of the pool have opened; all are deleted at the end."""

    session: Session
    base_model: str
    opened: list[str] = field(default_factory=list)
    saved: str = ""
    """The full path of the first training state that was saved."""
    sampler: str = ""

    def call(self, verb: str, body: dict[str, Any], schema: Schema) -> Any:
        answer = self.session.ask("POST", GATEWAY + verb, json={**body, "type": verb})
        return self.session.expect(answer, schema) or {}

    def open(self) -> str:
        """Open a session; its id."""
        told = self.call("create_session", {"tags": [], "user_metadata": {}, "sdk_version": "0.23.0"}, SESSION)
        self.opened.append(str(told.get("session_id", "")))
        return self.opened[-1]

    def model(self, session_id: str, number: int = 0, schema: Schema = CREATED_MODEL, **more: Any) -> dict[str, Any]:
        """Create a model with an adapter of rank 8; the settled promise."""
        body = {"session_id": session_id, "model_seq_id": number, "base_model": self.base_model}
        accepted = self.call("create_model", {**body, "lora_config": {"rank": 8}, **more}, ACCEPTED)
        return self.result(accepted, schema)

    def result(self, accepted: dict[str, Any], schema: Schema) -> dict[str, Any]:
        answer, _ = polled(lambda asked: self.call("retrieve_future", asked, EMPTY), accepted, OPERATION_S)
        self.session.compare(answer, schema)
        return dict(answer)

    def save(self, model_id: str, seq: int, name: str, schema: Schema = SAVED, *, sampler: bool = False) -> Any:
        verb = "save_weights_for_sampler" if sampler else "save_weights"
        return self.result(self.call(verb, {"model_id": model_id, "seq_id": seq, "path": name}, ACCEPTED), schema)

    def rows(self, session_id: str) -> Any:
        path = f"/v1/accounts/{self.session.account}/trainingSessions/{session_id}/checkpoints"
        return self.session.ask("GET", path, params={"pageSize": 200})

    def end(self, session_id: str) -> None:
        self.session.ask("DELETE", f"/v1/accounts/{self.session.account}/trainingSessions/{session_id}")
        self.opened.remove(session_id)


@contextlib.contextmanager
def ended_at_the_end(stage: PoolStage) -> Iterator[PoolStage]:
    """Whatever happens, every session is deleted."""
    try:
        yield stage
    finally:
        for session_id in list(stage.opened):
            stage.end(session_id)


def adapters_only(stage: PoolStage) -> None:
    """Full-parameter training fails; the first model binds its session to a base model."""
    session_id = stage.open()
    failed = stage.model(session_id, 0, FAILED, lora_config={"rank": 0})
    stage.session.must("body.category of rank 0", "user", failed.get("category"))
    stage.model(session_id, 1)
    failed = stage.model(session_id, 2, FAILED, base_model="accounts/fireworks/models/ftsim-contract-no-such-thing")
    stage.session.must("body.category of another base model", "user", failed.get("category"))


def names_on_the_pool(stage: PoolStage) -> None:
    """A save may be named with 17 characters and not with 18; rows say checkpointName and availability."""
    session_id = stage.open()
    model_id = str(stage.model(session_id).get("model_id", ""))
    name = "n" * LONGEST_NAME
    stage.saved = str(stage.save(model_id, 1, name).get("path", ""))
    failed = stage.save(model_id, 2, name + "n", FAILED)
    stage.session.must("body.category of 18 characters", "user", failed.get("category"))
    stage.session.told("the refusal of 18 characters", str(failed.get("error")))
    stage.sampler = str(stage.save(model_id, 3, "ftsim-sampler", sampler=True).get("path", ""))
    body = stage.rows(session_id).json()
    rows = body.get("trainingSessionCheckpoints") or []
    stage.session.must("rows", 2, len(rows))
    for key in ("checkpointName", "availability"):
        stage.session.must(f"rows that say {key}", len(rows), sum(bool(row.get(key)) for row in rows))


def state_of_a_session(stage: PoolStage) -> None:
    """A session with a trained model is READY, and says nothing of a reference."""
    path = f"/v1/accounts/{stage.session.account}/trainingSessions/{stage.opened[-1]}"
    body = stage.session.get(path, TRAINING_SESSION) or {}
    stage.session.must("body.state", "TRAINING_SESSION_STATE_READY", body.get("state"))
    unset = "TRAINING_SESSION_REFERENCE_STATE_UNSPECIFIED"
    stage.session.must("body.referenceState", unset, body.get("referenceState", unset))


def sampled_elsewhere(stage: PoolStage) -> None:
    """Another live session of the account samples what a run has saved."""
    model = f"accounts/{stage.session.account}/trainingSessions/{stage.open()}/checkpoints/{stage.sampler}"
    asked = {"model": model, "prompt": list(TOKENS), "max_tokens": 1, "temperature": 0.0}
    answer = stage.session.ask("POST", "/training/v1/serverless/inference/v1/completions", json=asked)
    stage.session.expect(answer, COMPLETION)


def rows_of_an_ended_session(stage: PoolStage) -> None:
    """Deleted, a session has no rows any more; another one loads its saves by their path."""
    session_id = stage.opened[1]
    stage.end(session_id)
    stage.session.refused(stage.rows(session_id), 404, 5)
    model_id = str(stage.model(stage.open()).get("model_id", ""))
    body = {"model_id": model_id, "seq_id": 1, "path": stage.saved, "optimizer": True}
    stage.session.differs_unless_success(stage.result(stage.call("load_weights", body, ACCEPTED), EMPTY))


def a_full_pool(stage: PoolStage) -> None:
    """The ninth run of an account is refused, also after one of the eight was unloaded."""
    for session_id in list(stage.opened):
        stage.end(session_id)
    session_id, refusals, model_id = stage.open(), [], ""
    for number in range(PLACES + 1):
        made = stage.model(session_id, number, EMPTY)
        model_id = str(made.get("model_id") or model_id)
        refusals += [number] if "error" in made else []
    stage.session.must(f"which of {PLACES + 1} runs are refused", [PLACES], refusals)
    stage.result(stage.call("unload_model", {"model_id": model_id}, EMPTY), EMPTY)
    stage.session.must("a run after an unload is refused", True, "error" in stage.model(session_id, PLACES + 1, EMPTY))
