"""The exchanges of tinker's own endpoints, a part of the story of `tests.http.exchanges`."""

from collections.abc import Callable
from typing import Any

from tests.doubles import BASE
from tests.http.gateway.conftest import plain


def told_by_tinker(call: Callable[..., Any]) -> None:
    """A program of tinker's own client: it trains, saves, samples, lists and tidies up."""
    call("tinker_healthz")
    call("tinker_capabilities")
    call("tinker_config", {"sdk_version": "0.38.0"})
    call("tinker_dynamic_config", {"sdk_version": "0.38.0"})
    call("tinker_token", {})
    session = call("tinker_create_session", {"tags": [], "sdk_version": "0.38.0"})["session_id"]
    call("tinker_heartbeat", {"session_id": session})
    telemetry = {"events": [], "platform": "Linux", "sdk_version": "0.38.0", "session_id": session}
    call("tinker_telemetry", telemetry)

    def done(accepted: dict[str, Any]) -> Any:
        return call("tinker_retrieve_future", {"request_id": accepted["request_id"]})

    made = {"session_id": session, "model_seq_id": 0, "base_model": BASE, "lora_config": {"rank": 8}}
    run = done(call("tinker_create_model", made))["model_id"]
    call("tinker_get_info", {"model_id": run})
    batch = {"data": [plain(1, 2, 3)], "loss_fn": "cross_entropy"}
    done(call("tinker_forward", {"model_id": run, "seq_id": 1, "forward_input": batch}))
    done(call("tinker_forward_backward", {"model_id": run, "seq_id": 2, "forward_backward_input": batch}))
    done(call("tinker_optim_step", {"model_id": run, "seq_id": 3, "adam_params": {"learning_rate": 0.01}}))
    path = done(call("tinker_save_weights", {"model_id": run, "seq_id": 4, "path": "half"}))["path"]
    saved = {"model_id": run, "seq_id": 5, "path": "half", "ttl_seconds": 7200}
    weights = done(call("tinker_save_sampler", saved))["path"]
    taken = {"model_id": run, "seq_id": 6, "path": "half", "ttl_seconds": 7200}
    done(call("tinker_save_external", taken))
    urls = call("tinker_external_urls", run=run, form="external_weights", name="half")["urls"]
    for name, url in sorted(urls.items())[:1]:
        query = dict(pair.split("=") for pair in url.partition("?")[2].split("&"))
        whose = {"account": "local", "run": run, "form": "external_weights", "name": "half", "file": name}
        call("tinker_checkpoint_file", query=query, **whose)
    call("tinker_archive", run=run, form="sampler_weights", name="half")
    done(call("tinker_load_weights", {"model_id": run, "seq_id": 7, "path": path, "optimizer": True}))
    call("tinker_weights_info", {"tinker_path": path})
    opened = {"session_id": session, "sampling_session_seq_id": 0, "model_path": weights}
    sampler = call("tinker_sampling_session", opened)["sampling_session_id"]
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
    asked = {"sampling_session_id": sampler, "seq_id": 0, "prompt": prompt, "num_samples": 1}
    sampled = call("tinker_asample", {**asked, "sampling_params": {"max_tokens": 2, "temperature": 0.0}})
    done(sampled)
    call("tinker_cancel_future", {"request_id": sampled["request_id"]})
    call("tinker_sampler", sampler=sampler)
    call("tinker_runs", query={"limit": "2"})
    call("tinker_run", run=run)
    call("tinker_run_checkpoints", run=run)
    call("tinker_checkpoints", query={"limit": "2"})
    call("tinker_sessions", query={"limit": "2"})
    call("tinker_session", client=session)
    of = {"run": run, "form": "sampler_weights", "name": "half"}
    call("tinker_keep_checkpoint", {"ttl_seconds": None}, **of)
    call("tinker_delete_checkpoint", **of)
    call("tinker_unload_model", {"model_id": run})
    call("tinker_finish_session", {"reason": {"type": "success"}, "detail": None}, client=session)
