"""Bodies of the gateway that are more than a line (WIRE 2.2, 2.4, 2.6)."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from emulator.core.clock import SECOND
from emulator.core.errors import SERVERLESS, error_body
from emulator.http.web import Reply
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.trainer import PARTS, LiveModel
from emulator.state.entities import Checkpoint

CLIENT_CONFIG: Mapping[str, Any] = {
    "pjwt_auth_enabled": False,
    "credential_default_source": "api_key",
    "sample_dispatch_bytes_semaphore_size": 10 * 1024 * 1024,
    "inflight_response_bytes_semaphore_size": 50 * 1024 * 1024,
    "parallel_fwdbwd_chunks": True,
    "proto_write_fwdbwd": False,
    "proto_compress_fwdbwd": False,
    "fwd_via_fwdbwd": False,
    "billing_exception_max_pause_duration_sec": 3600,
    "sample_no_retries": False,
    "sample_enable_stuck_detection": True,
    "sample_max_concurrent_requests": 2000,
    "use_pyqwest_transport": False,
}


def token(now: int) -> str:
    """An unsigned JWT that is good for an hour: nothing here checks it, clients only read `exp`."""
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "emulator", "exp": now // SECOND + 3600})
    return ".".join([*(base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts), ""])


def info(model: LiveModel) -> dict[str, Any]:
    facts = model.info
    return {
        "type": "get_info",
        "model_id": model.id,
        "model_name": facts.model_name,
        "is_lora": facts.lora_rank > 0,
        "lora_rank": facts.lora_rank,
        "model_data": {"arch": facts.arch, "model_name": facts.model_name, "tokenizer_id": facts.tokenizer_id},
    }


def weights_info(row: Checkpoint) -> dict[str, Any]:
    lora = {"lora_rank": row.lora_rank, **dict.fromkeys(PARTS, True), **row.trained}
    return {"base_model": row.base_model, "is_lora": row.lora_rank > 0, **(lora if row.lora_rank else {})}


def try_again(promise: Promise) -> dict[str, Any]:
    return {"type": "try_again", "request_id": promise.request_id, "queue_state": "active"}


def scripted(answer: str, promise: Promise, asked: Mapping[str, Any]) -> Response | None:
    """The answer of the quirk `futures.answer` instead of the real one, None where it does not apply (F15)."""
    waiting = try_again(promise)
    if answer in ("paused_capacity", "paused_rate_limit"):
        return Reply({**waiting, "queue_state": answer})
    if answer == "try_again":
        return Reply(waiting)
    if answer == "complete_metadata" and asked.get("allow_metadata_only"):
        return Reply({"status": "complete_metadata", "response_payload_size": len(promise.payload or b"")})
    if answer == "refuse_metadata" and "allow_metadata_only" in asked:
        return _refused(promise, 400, {"code": 3, "message": "unknown field allow_metadata_only", "details": []})
    if answer == "408":
        return Reply(waiting, 408)
    if answer == "empty_400":
        return Response(status_code=400)
    if answer in ("capacity_exhausted", "recovery_required"):  # FAILURES F17: words that say, come again
        said = f"{answer}: the pooled trainer cannot go on with this model now"
        return Reply({"error": {"code": answer, "type": "conflict_error", "message": said}}, 409)
    if answer.isdigit():
        said = f"injected fault: retrieve_future answers {answer}"
        return _refused(promise, int(answer), {"code": 2, "message": said, "details": []})
    return None


def _refused(promise: Promise, status: int, envelope: Mapping[str, Any]) -> Response:
    pooled = "/trainingSessions/" in promise.owner
    return Reply(error_body(SERVERLESS if pooled else "", status, envelope), status)
