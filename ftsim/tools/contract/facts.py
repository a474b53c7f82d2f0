"""Checks on a trainer job that settle what docs/wire.md only infers (`marks`). They use the job of `creating`."""

from typing import Any

from emulator.http.schemas import CREATED_MODEL, EMPTY, FAILED, JOB, LINKS, PROMOTED, ROW, STEP, UPDATE, page
from ftsim.tools.contract.creating import TOKENS, CreatedJob, promotion, wait_for_state
from ftsim.tools.contract.session import Skip

HOLD_S = 45.0
"""Seconds after which a client gives up waiting for the headers of one poll (WIRE 2.6)."""
LONGEST_SAMPLER = 55
"""One more than fits 63 characters with what the service adds to a sampler's name."""
ACCELERATORS = ("NVIDIA_", "AMD_", "ACCELERATOR_TYPE_")


def no_rows_yet(stage: CreatedJob) -> None:
    """A job without checkpoints has an empty list."""
    answer = stage.session.get(f"/v1/{stage.job}/checkpoints", page("checkpoints", ROW), pageSize=200) or {}
    stage.session.must("body.checkpoints", [], answer.get("checkpoints") or [])


def created_once(stage: CreatedJob) -> None:
    """The same create_model again is the same model."""
    again = stage.create_model(number=0)
    stage.session.must("body.model_id", stage.model_id, again.get("model_id"))


def idle_step(stage: CreatedJob) -> None:
    """An optimizer step without gradients does not fail."""
    stage.submit("optim_step", UPDATE, adam_params=stage.adam(0.0), type="optim_step")


def forward_changes_nothing(stage: CreatedJob) -> None:
    """A forward takes tensors that its loss does not use, answers the same again, and leaves gradients alone."""
    mask = {"data": [1.0, 1.0, 1.0], "dtype": "float32", "shape": [3]}
    first = _logprobs(stage.compute("forward", STEP, loss_mask=mask))
    stage.compute("forward_backward", STEP)
    stage.session.must(
        "logprobs of a forward after a forward_backward", first, _logprobs(stage.compute("forward", STEP))
    )
    stage.submit("optim_step", UPDATE, adam_params=stage.adam(0.0), type="optim_step")


def weights_are_ones(stage: CreatedJob) -> None:
    """Absent weights count as ones."""
    weighed, plain = stage.compute("forward_backward", STEP), stage.compute("forward_backward", STEP, weights=None)
    for name in ("loss:sum", "loss"):
        found = [(one.get("metrics") or {}).get(name) for one in (weighed, plain)]
        stage.session.must(f"body.metrics.{name} without weights", found[0], found[1])
    stage.submit("optim_step", UPDATE, adam_params=stage.adam(0.0), type="optim_step")


def unknown_loss_setting(stage: CreatedJob) -> None:
    """A setting of a loss that does not exist fails its call."""
    failed = stage.compute("forward_backward", FAILED, loss_fn_config={"no_such_setting": 1.0})
    stage.session.must("body.category", "user", failed.get("category"))


def result_again(stage: CreatedJob) -> None:
    """A result can be fetched twice."""
    accepted = stage.send("optim_step", adam_params=stage.adam(0.0), type="optim_step")
    first, second = stage.result(accepted, UPDATE), stage.result(accepted, UPDATE)
    stage.session.must("the result, fetched again", first, second)


def names_of_saves(stage: CreatedJob) -> None:
    """A name with a slash fails; a sampler's name may have 55 characters; a used one takes the place of the first."""
    failed = stage.submit("save_weights", FAILED, path="ftsim/slash", overwrite=False, type="save_weights")
    stage.session.must("body.category of a name with a slash", "user", failed.get("category"))
    long = "l" * LONGEST_SAMPLER
    paths = [stage.save_sampler(name).get("path") for name in (long, "ftsim-twice", "ftsim-twice")]
    stage.session.must("body.path of a name used twice", paths[1], paths[2])


def saved_again(stage: CreatedJob) -> None:
    """A training state under a used name is refused at another step."""
    stage.compute("forward_backward", STEP)
    stage.submit("optim_step", UPDATE, adam_params=stage.adam(1e-4), type="optim_step")
    failed = stage.submit("save_weights", FAILED, path="ftsim-state", overwrite=False, type="save_weights")
    stage.session.must("body.category", "user", failed.get("category"))


def sampler_is_no_state(stage: CreatedJob) -> None:
    """A sampler checkpoint cannot be loaded as a training state."""
    failed = stage.submit("load_weights", FAILED, path=stage.sampler, optimizer=True, type="load_weights")
    stage.session.must("body.category", "user", failed.get("category"))


def restore_reference(stage: CreatedJob) -> None:
    """The restoreReference of a training state is what any job loads it by."""
    found = stage.rows.get("ftsim-state", {}).get("restoreReference")
    stage.session.must("restoreReference of ftsim-state", f"cross_job://{stage.name}/ftsim-state", found)


def accelerator_seconds(stage: CreatedJob) -> None:
    """The keys of a job's acceleratorSeconds are types of accelerators, its values whole numbers as strings."""
    found = (stage.session.get(f"/v1/{stage.job}", JOB) or {}).get("acceleratorSeconds")
    if not found:
        raise Skip("the job says no acceleratorSeconds")
    odd = {key: value for key, value in found.items() if not key.startswith(ACCELERATORS) or not str(value).isdigit()}
    stage.session.must("body.acceleratorSeconds", {}, odd)


def both_spellings(stage: CreatedJob) -> None:
    """A promotion is read in snake_case and in camelCase: the same row is refused for the same reason."""
    account, told = stage.session.account, []
    for body in (
        {"output_model": f"accounts/{account}/models/{stage.name}", "base_model": stage.base_model},
        {"outputModel": f"accounts/{account}/models/{stage.name}", "baseModel": stage.base_model},
    ):
        answer = stage.session.ask("POST", f"/v1/{stage.job}/checkpoints/ftsim-state:promote", json=body)
        told.append((answer.status_code, stage.session.message(answer)))
    stage.session.must("the refusal in both spellings", told[0], told[1])
    stage.session.must("status", 400, told[0][0])


def untouched_adapter(stage: CreatedJob) -> None:
    """Weights that no step has changed are promoted."""
    untouched = stage.create_model(number=1)
    stage.session.compare(untouched, CREATED_MODEL)
    trained, stage.model_id, seq, stage.seq = stage.model_id, str(untouched.get("model_id", "")), stage.seq, 0
    try:
        stage.save_sampler("ftsim-untouched")
        body = promotion(stage, f"{stage.name}-untouched")
        answer = stage.session.ask("POST", f"/v1/{stage.job}/checkpoints/ftsim-untouched:promote", json=body)
        stage.session.expect(answer, PROMOTED)
        unloaded = stage.call("unload_model", {"model_id": stage.model_id, "type": "unload_model"}, EMPTY)
        stage.result(unloaded, EMPTY)
        failed = stage.submit("optim_step", FAILED, adam_params=stage.adam(0.0), type="optim_step")
        stage.session.must("body.category after unload_model", "user", failed.get("category"))
    finally:
        stage.model_id, stage.seq = trained, seq


def refused_jobs(stage: CreatedJob) -> None:
    """A job of an unknown model is refused, and one of an unknown shape is 404."""
    path = f"/v1/accounts/{stage.session.account}/rlorTrainerJobs"
    unknown = "accounts/fireworks/models/ftsim-contract-no-such-thing"
    for number, (query, model, expected) in enumerate(
        (
            ({"skipValidations": "true"}, unknown, (400, 404)),
            ({"trainingShape": unknown.replace("models", "trainingShapes")}, stage.base_model, (404,)),
        )
    ):
        name = f"{stage.name}-{number}"
        body = {"serviceMode": True, "dataset": "", "trainingConfig": {"baseModel": model, "loraRank": 8}}
        answer = stage.session.ask("POST", path, params={"rlorTrainerJobId": name, **query}, json=body)
        if answer.is_success:
            stage.session.ask("DELETE", f"{path}/{name}")
        stage.session.must(
            f"status of a job of {model} with {query}: one of {expected}", True, answer.status_code in expected
        )


def files_of_the_model(stage: CreatedJob) -> None:
    """A promoted adapter can be downloaded as a PEFT folder."""
    path = f"/v1/accounts/{stage.session.account}/models/{stage.name}:getDownloadEndpoint"
    answer = stage.session.ask("GET", path)
    links = (stage.session.expect(answer, LINKS) or {}).get("filenameToSignedUrls") or {}
    lacking = {"adapter_config.json", "adapter_model.safetensors"} - {name.rpartition("/")[2] for name in links}
    stage.session.must("files that are lacking", [], sorted(lacking))


def model_nobody_serves(stage: CreatedJob) -> None:
    """A completion of a model that does not exist is refused with 400."""
    unknown = f"accounts/{stage.session.account}/models/ftsim-contract-no-such-thing"
    asked = {"model": unknown, "prompt": list(TOKENS), "max_tokens": 1}
    answer = stage.session.ask("POST", "/inference/v1/completions", json=asked)
    stage.session.must("status", 400, answer.status_code)


def polls_in_time(stage: CreatedJob) -> None:
    """No poll for a result was held for 45 s, after which clients give up."""
    stage.session.must(f"the longest poll is under {HOLD_S:g} s", True, stage.slowest_s < HOLD_S)


def cancelled_and_resumed(stage: CreatedJob) -> None:
    """A cancelled job is CANCELLED and has no trainer; resumed, it runs again and has lost its models."""
    stage.session.must(
        "status of :cancel", True, stage.session.ask("POST", f"/v1/{stage.job}:cancel", json={}).is_success
    )
    wait_for_state(stage, "JOB_STATE_CANCELLED", failed=("JOB_STATE_FAILED", "JOB_STATE_DELETED"))
    body = {"model_id": stage.model_id, "type": "get_info"}
    stage.session.must("get_info of a cancelled job succeeds", False, stage.ask("get_info", body).is_success)
    answer = stage.session.ask("POST", f"/v1/{stage.job}:resume", json={})
    stage.session.must("status of :resume", True, answer.is_success)
    wait_for_state(stage, "JOB_STATE_RUNNING", failed=("JOB_STATE_FAILED", "JOB_STATE_DELETED"))
    stage.session.must("get_info of a lost model succeeds", False, stage.ask("get_info", body).is_success)


def retired_creates(stage: CreatedJob) -> None:
    """New data sets answer 501, new managed jobs 400; none of these can be created with what is sent."""
    account = f"/v1/accounts/{stage.session.account}"
    dataset = {"datasetId": stage.name, "dataset": {"displayName": stage.name, "userUploaded": {}}}
    stage.session.refused(stage.session.ask("POST", f"{account}/datasets", json=dataset), 501, 12)
    managed = {"displayName": stage.name, "dataset": f"accounts/{stage.session.account}/datasets/{stage.name}"}
    managed |= {"baseModel": stage.base_model}
    for kind in ("supervisedFineTuningJobs", "dpoJobs"):
        answer = stage.session.ask("POST", f"{account}/{kind}", json=managed)
        stage.session.must(f"status of a new one of {kind}", 400, answer.status_code)
        stage.session.told(f"the refusal of a new one of {kind}", stage.session.message(answer))


def _logprobs(done: dict[str, Any]) -> list[Any]:
    return [((one.get("logprobs") or {}).get("data") or []) for one in done.get("loss_fn_outputs") or []]
