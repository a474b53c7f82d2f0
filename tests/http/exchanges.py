"""One exchange per endpoint, told by a fresh emulator: `python -m tests.http.exchanges` writes fixtures/wire.

Each file holds what was asked and answered under an operation id. They are the examples of the OpenAPI document and the
seeds of the fuzzer; a test tells the story again and compares.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from emulator.core.clock import SECOND, Clock
from emulator.core.endpoints import row
from emulator.http.control.managed import router as declared
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend, write_base
from tests.http.gateway.conftest import plain
from tests.http.tinker.story import told_by_tinker

FOLDER = Path(__file__).parents[2] / "fixtures" / "wire"
BIRTH = 1_793_000_000 * SECOND * 1000
"""October 2026 in nanoseconds: the clock stands there, so that the story is the same whenever it is told."""
JOB = "accounts/local/rlorTrainerJobs/j1"
DEPLOYMENT = "accounts/local/deployments/d1"
JSON = "application/json"
KEPT_DEPLOYMENT = {
    "baseModel": BASE,
    "description": "a deployment",
    "minReplicaCount": 1,
    "maxReplicaCount": 2,
    "forTraining": True,
    "acceleratorType": "NVIDIA_H200_141GB",
}


class Story:
    """Calls endpoints by their operation ids and keeps the first exchange of each."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.told: dict[str, dict[str, Any]] = {}

    def call(
        self,
        called: str,
        request: dict[str, Any] | None = None,
        /,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
        **path: str,
    ) -> Any:
        """The JSON of the answer, or its text where it is none."""
        one = row(called)
        place = one.path.format(**{"account": "local", **path})
        body: dict[str, Any] = {"json": request} if request is not None else {"content": content} if content else {}
        answer = self._http.request(one.method, place, params=query, headers=headers, **body)
        said: Any = answer.json() if answer.headers.get("content-type", "") == JSON else answer.text[:400]
        if called == "open_console":
            said = {"path": said["path"].partition("=")[0] + "=a-token-for-one-visit"}
        if called == "read_openapi":
            said = {
                key: said[key] for key in ("openapi", "info", "security")
            }  # all the rest is what this file is about
        binary = answer.headers.get("content-type", "") in ("application/zip", "application/octet-stream")
        known = {
            "operation": called,
            "method": one.method,
            "path": place,
            "query": query,
            "headers": headers,
            "request": request,
            "status": answer.status_code,
            "answer": None if binary else said,
        }
        self.told.setdefault(called, {key: value for key, value in known.items() if value is not None})
        return answer.content if binary else said


def tell(http: httpx.Client) -> dict[str, dict[str, Any]]:
    """The whole story, by operation id."""
    story = Story(http)
    _catalogue(story)
    _managed(story)
    _train(story)
    _serve(story)
    _pool(story)
    _promote(story)
    _forget(story)
    _control(story)
    told_by_tinker(story.call)
    story.call("list_quotas")
    story.call("get_quota", quota="training-runs")
    story.call("list_served_models")
    story.call("get_served_model", account="fireworks", model="qwen3-8b")
    _add_on(story)
    _upload(story)
    _account(story)
    said = {"model": BASE, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "temperature": 0.0}
    for bare in ("", "_bare"):
        story.call(f"messages{bare}", said)
        story.call(f"count_tokens{bare}", said)
    story.call("embeddings", {"model": BASE, "input": "hello", "dimensions": 4})
    story.call("input_tokens", {"model": BASE, "input": "hello"})
    story.call("responses", {"model": BASE, "input": "hello", "max_output_tokens": 2, "temperature": 0.0})
    _end(story)
    return story.told


def tell_serving(http: httpx.Client) -> None:
    """The story until a deployment serves what a job has trained."""
    story = Story(http)
    _train(story)
    _serve(story)


def _catalogue(story: Story) -> None:
    shape, deployment_shape = "qwen3-8b-128k-h200", "ds-qwen3-8b"
    story.call("list_accounts", query={"pageSize": "2"})
    story.call("get_account")
    story.call("list_models", query={"pageSize": "1"}, account="fireworks")
    story.call("get_model", account="fireworks", model="qwen3-8b")
    story.call("list_training_shapes", query={"pageSize": "1"}, account="fireworks")
    story.call("get_training_shape", account="fireworks", shape=shape)
    latest = {"filter": "latest_validated=true", "pageSize": "1"}
    found = story.call("list_training_shape_versions", query=latest, account="fireworks", shape=shape)
    version = found["trainingShapeVersions"][0]["name"].rpartition("/")[2]
    story.call("get_training_shape_version", account="fireworks", shape=shape, version=version)
    story.call("list_deployment_shapes", query={"pageSize": "1"}, account="fireworks")
    story.call("get_deployment_shape", account="fireworks", shape=deployment_shape)
    found = story.call("list_deployment_shape_versions", query=latest, account="fireworks", shape=deployment_shape)
    version = found["deploymentShapeVersions"][0]["name"].rpartition("/")[2]
    story.call("get_deployment_shape_version", account="fireworks", shape=deployment_shape, version=version)


def _managed(story: Story) -> None:
    """Data sets and managed jobs: none is there, and none is made."""
    sent = {"displayName": "mine", "dataset": "accounts/local/datasets/d9", "baseModel": BASE}
    for one in declared.declared:
        known: dict[str, Any] = {"managed": "x9"} if "managed" in one.row.parameters else {}
        story.call(one.row.operation, sent if one.body is not None else None, **known)


def _train(story: Story) -> None:
    config = {"baseModel": BASE, "loraRank": 0, "learningRate": 1e-4}
    body = {"serviceMode": True, "keepAlive": False, "dataset": "", "displayName": "a job", "trainingConfig": config}
    query = {"skipValidations": "true", "rlorTrainerJobId": "j1"}
    story.call("create_job", body, query=query)
    story.call("get_job", job="j1")
    story.call("list_jobs", query={"pageSize": "1"})
    _verbs(story, "", {"job": "j1"}, story.call("create_session", {"tags": [], "sdk_version": "1.2.28"}, job="j1"))
    story.call("list_job_checkpoints", query={"pageSize": "200"}, owner="j1")
    for managed in ("sft", "dpo"):
        story.call(f"list_{managed}_job_checkpoints", owner="j9")
        story.call(
            f"promote_of_{managed}_job",
            {"output_model": "accounts/local/models/m9", "base_model": BASE},
            owner="j9",
            checkpoint="c9",
        )


def _verbs(story: Story, before: str, path: dict[str, str], session: dict[str, Any]) -> str:
    """Every verb of a trainer; the id of the model that was trained."""

    def call(verb: str, request: dict[str, Any] | None = None) -> Any:
        named: dict[str, Any] = dict(path)
        return story.call(before + verb, request, **named)

    def result(accepted: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = call("retrieve_future", {"request_id": accepted["request_id"]})
        return found

    for verb in ("healthz", "get_server_capabilities", "list_checkpoints"):
        call(verb)
    call("client_config", {"sdk_version": "1.2.28"})
    call("auth_token", {})
    call("session_heartbeat", {"session_id": session["session_id"]})
    call("telemetry", {"events": [], "platform": "linux", "sdk_version": "1.2.28", "session_id": "s"})
    lora = {"lora_config": {"rank": 8, "alpha": 16.0}} if before else {}
    made = {"session_id": session["session_id"], "model_seq_id": 0, "base_model": BASE, **lora}
    model = result(call("create_model", made))["model_id"]
    batch = {"data": [plain(1, 2, 3)], "loss_fn": "cross_entropy"}
    numbered = {"model_id": model}
    result(call("forward", {**numbered, "seq_id": 1, "forward_input": batch}))
    result(call("forward_backward", {**numbered, "seq_id": 2, "forward_backward_input": batch}))
    result(call("optim_step", {**numbered, "seq_id": 3, "adam_params": {"learning_rate": 0.1}}))
    call("get_info", numbered)
    path_of = result(call("save_weights", {**numbered, "seq_id": 4, "path": "step-1"}))["path"]
    kind = {"path": "step-1-0123abcd", "checkpoint_type": "base"}
    result(call("save_weights_for_sampler", {**numbered, "seq_id": 5, **kind}))
    call("weights_info", {"tinker_path": path_of})
    result(call("load_weights", {**numbered, "seq_id": 6, "path": path_of, "optimizer": True}))
    call("load_adapter", {**numbered, "seq_id": 7, "adapter_path": "accounts/local/models/none"})
    for verb in ("create_sampling_session", "sample", "asample", "weight_sync"):
        call(verb, numbered)
    route = (
        {"training_run": f"accounts/local/trainingRuns/{model.partition(':')[0]}"} if before else {"base_model": BASE}
    )
    call("create_sampling_route", route)
    if not before:
        return str(model)
    call("unload_model", numbered)
    return str(model)


def _serve(story: Story) -> None:
    body = {**KEPT_DEPLOYMENT, "enableHotLoad": True, "hotLoadTrainerJob": JOB}
    story.call("create_deployment", body, query={"deploymentId": "d1"})
    story.call("get_deployment", deployment="d1")
    story.call("list_deployments", query={"pageSize": "1"})
    change = {"minReplicaCount": 1, "maxReplicaCount": 1}
    mask = {"updateMask": "min_replica_count,max_replica_count"}
    story.call("patch_deployment", change, query=mask, deployment="d1")
    story.call("scale_deployment", {"replicaCount": 1}, deployment="d1")
    headers = {"fireworks-model": BASE, "fireworks-deployment": DEPLOYMENT}
    story.call("hot_load", {"identity": "step-1-0123abcd", "reset_prompt_cache": True}, headers=headers)
    story.call("hot_load_status", headers=headers)
    story.call("hot_load_hint", {"identity": "step-1-0123abcd"}, headers=headers)
    asked = {"model": DEPLOYMENT, "prompt": [1, 2, 3], "max_tokens": 2, "temperature": 0.0}
    chat = {
        "model": DEPLOYMENT,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 2,
        "temperature": 0.0,
    }
    for bare in ("", "_bare"):
        story.call(f"completions{bare}", asked)
        story.call(f"chat_completions{bare}", chat)


def _pool(story: Story) -> None:
    session = story.call("serverless_create_session", {"tags": [], "sdk_version": "1.2.28"})
    own = {"session": session["session_id"]}
    _verbs(story, "serverless_", {}, session)
    story.call("get_session", **own)
    story.call("list_sessions")
    story.call("log_session_metrics", {"points": [{"key": "reward", "step": "1", "value": 0.5}]}, **own)
    story.call("list_session_curves", query={"metricKeys": "reward"}, **own)
    rows = story.call("list_session_checkpoints", owner=own["session"])["trainingSessionCheckpoints"]
    promotable = next(one["name"].rpartition("/")[2] for one in rows if one["promotable"])
    wanted = {"output_model": "accounts/local/models/from-session", "base_model": BASE}
    story.call("promote_of_session", wanted, owner=own["session"], checkpoint=promotable)
    sampled = {"model": f"{BASE}", "prompt": [1, 2], "max_tokens": 1, "temperature": 0.0}
    story.call("serverless_create_sampling_route", {"base_model": BASE})
    story.call("serverless_completions", sampled)
    story.call("delete_session", **own)


def _promote(story: Story) -> None:
    story.call("set_quirk", {"name": "promote.async", "value": "operation", "times": 1})
    wanted = {
        "output_model": "accounts/local/models/m1",
        "base_model": BASE,
        "trainer_job_id": JOB,
        "async_promotion": True,
    }
    done = story.call("promote", wanted, checkpoint="step-1-0123abcd")
    operation = done["operation"]["name"].rpartition("/")[2]
    story.call("get_operation", operation=operation)
    story.call(
        "promote_of_job",
        {"output_model": "accounts/local/models/m2", "base_model": BASE},
        owner="j1",
        checkpoint="step-1-0123abcd",
    )
    story.call("update_model", {"displayName": "my model"}, model="m1")
    links = story.call("get_download_endpoint", model="m1")["filenameToSignedUrls"]
    signed = httpx.URL(links["config.json"])
    story.call("download_model_file", query=dict(signed.params), model="m1", file="config.json")
    story.call("delete_model", model="m2")


def _add_on(story: Story) -> None:
    """An adapter, loaded on a deployment that takes add-ons, and unloaded."""
    body = {**KEPT_DEPLOYMENT, "enableAddons": True}
    story.call("create_deployment", body, query={"deploymentId": "d2"})
    wanted = {"model": "accounts/local/models/from-session", "deployment": "accounts/local/deployments/d2"}
    made = story.call("create_deployed_model", {**wanted, "displayName": "my adapter"})
    own = {"deployed": made["name"].rpartition("/")[2]}
    story.call("get_deployed_model", **own)
    story.call("list_deployed_models", query={"pageSize": "1"})
    story.call("update_deployed_model", {"default": True}, **own)
    story.call("delete_deployed_model", **own)
    story.call("delete_deployment", deployment="d2")


def _upload(story: Story) -> None:
    """A base model, uploaded file by file."""
    model = {"kind": "HF_BASE_MODEL", "displayName": "my base", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE"}}
    story.call("create_uploaded_model", {"modelId": "u1", "model": model})
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path.read_bytes() for path in write_base(Path(folder) / "base").iterdir()}
    sizes = {name: str(len(content)) for name, content in sorted(files.items())}
    links = story.call("get_upload_endpoint", {"filenameToSize": sizes}, model="u1")["filenameToSignedUrls"]
    for name, link in links.items():
        query = dict(httpx.URL(link).params)
        story.call("upload_model_file", query=query, content=files[name], model="u1", file=name)
    story.call("validate_upload", query={"configOnly": "true"}, model="u1")


def _account(story: Story) -> None:
    """Counters, bills, logs, and what else is told of jobs, sessions and deployments."""
    whole = {"startTime": "2026-10-01T00:00:00Z", "endTime": "2026-11-01T00:00:00Z"}
    story.call("get_billing_summary", query={**whole, "granularity": "DAILY"})
    story.call("get_account_usage", query=whole)
    story.call("query_usage_costs", {**whole, "groupBy": ["DAY", "MODEL"]})
    signed = httpx.URL(story.call("get_public_logs", job="j1")["signedUrl"])
    story.call("download_public_logs", query=dict(signed.params), job="j1")
    wanted = {"region": "US_VIRGINIA_1", "targetAvailability": "MANAGED_DURABLE"}
    story.call("sync_checkpoint", wanted, owner="j1", checkpoint="step-1")
    runs = story.call("list_training_runs", query={"pageSize": "1"})["trainingRuns"]
    story.call("get_training_run", run=runs[0]["name"].rpartition("/")[2])
    story.call("list_serverless_models", query={"pageSize": "1"})
    story.call("load_session_state", {"path": "step-1"}, session="nobody")
    story.call("get_deployment_metrics", query={"timeRange": "3600s"}, deployment="d1")
    story.call("list_deployment_shards", deployment="d1")
    story.call("get_termination_message", deployment="d1")


def _forget(story: Story) -> None:
    """The ledger of hot loads, read and reset."""
    story.call("get_ledger", deployment="d1")
    story.call("reset_ledger", deployment="d1")


def _control(story: Story) -> None:
    story.call("healthy")
    story.call("ready")
    story.call("read_state")
    story.call("read_rows", query={"owner": JOB})
    story.call("log_metrics", {"owner": JOB, "points": [{"key": "reward", "step": 1, "value": 0.5}]})
    story.call("read_curves", query={"owner": JOB})
    story.call("list_snapshots", deployment="d1")
    story.call("advance_clock", {"advance_s": 1})
    story.call("list_quirks")
    story.call("set_quirk", {"name": "http.fail", "value": 503, "times": 1, "where": {"endpoint": "promote"}})
    story.call("clear_quirks", query={"name": "http.fail"})
    story.call("read_journal", query={"limit": "1"})
    story.call("read_openapi")
    story.call("open_console")
    kept = story.call("take_snapshot")
    story.call("preempt_job", job="j1")
    story.call("end_program", program="p1")
    row = {"id": "step-1", "checkpointType": "CHECKPOINT_TYPE_TRAINING", "createTime": "2026-10-01T10:00:00Z"}
    story.call("import_rows", {"id": "lost-run", "base_model": BASE, "rows": [{**row, "step": 1}]})
    story.call("restore_snapshot", content=kept)


def _end(story: Story) -> None:
    story.call("unload_model", {"model_id": "gone"}, job="j1")
    story.call("delete_deployment", deployment="d1")
    story.call("undelete_deployment", {}, deployment="d1")
    story.call("cancel_job", {}, job="j1")
    story.call("resume_job", {}, job="j1")
    story.call("delete_job", job="j1")
    story.call("set_seed", {"seed": 7})
    story.call("reset")


@contextmanager
def running() -> Iterator[httpx.Client]:
    """A client of a fresh emulator whose clock stands."""
    with tempfile.TemporaryDirectory() as folder:
        backend = DictBackend(Path(folder) / "base")
        with (
            Emulator(backend, clock=Clock(lambda: BIRTH)) as emulator,
            httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
        ):
            yield http


def load() -> dict[str, dict[str, Any]]:
    """The exchanges of fixtures/wire by operation id."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    with running() as client:
        for operation, exchange in tell(client).items():
            (FOLDER / f"{operation}.json").write_text(json.dumps(exchange, indent=1) + "\n", "utf-8")
