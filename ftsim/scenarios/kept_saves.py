"""Failures of keeping what was saved: a name that is used again, a trainer that goes meanwhile, a copy that expires."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario("B14", "the same sampler name gives the same path: what an open sampler answers changes")
def a_sampler_name_is_used_twice(stage: Stage) -> Report:
    """The second save under a name takes the place and the path of the first; who kept the path has other weights."""
    service = stage.serverless()
    client = service.create_lora_training_client(BASE, rank=4)
    train(client, 0)
    first = client.save_weights_for_sampler_ext("eval")
    sampler = service.create_sampling_client(model_path=first.path)
    before = _likelihood(sampler)
    train(client, 1, 2)
    second = client.save_weights_for_sampler_ext("eval")
    after = _likelihood(sampler)
    claim(first.path == second.path, f"two paths: {first.path}, {second.path}")
    claim(abs(after - before) > 1e-4, f"the open sampler should answer with the newer weights: {before}, {after}")
    own = client.save_weights_for_sampler_ext("eval-3")
    claim(own.path != second.path, "a name of its own has a path of its own")
    stage.quirks.set("sampler.on_duplicate", "conflict")
    told = refusal(client.save_weights_for_sampler_ext, "eval")
    claim("already exists" in str(told), f"refused with {told}")
    return Report(
        sees=[
            f"both saves answer {first.path}; the SDK only warns",
            f"a sampler that was opened before gives its prompt {before:.4f}, then {after:.4f}",
        ],
        exchanges=stage.exchanges("save_weights_for_sampler")[:2],
        right=["a name that was never used: eval-3", f"a server that refuses it: {str(told)[:120]}"],
    )


def _likelihood(sampler: Any) -> float:
    """The log-probability of a fixed text by a sampler's weights."""
    from ftsim.training.sdk import types

    settings = types.SamplingParams(max_tokens=1, temperature=0.0)
    text = types.ModelInput.from_ints([1, 4, 7, 10])
    told = sampler.sample(text, 1, settings, include_prompt_logprobs=True).result()
    return float(sum(value or 0.0 for value in told.prompt_logprobs))


@scenario("B15", "the trainer is deleted while a sampler save runs: the save fails and leaves no row")
def the_trainer_is_deleted_during_a_save(stage: Stage) -> Report:
    """Deleting a trainer does not wait for the export that it is writing."""
    client = stage.client()
    train(client, 0)
    stage.quirks.set("save.duration_s", 30.0, job="job-1")
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(client.save_weights_for_sampler_ext, "final", checkpoint_type="base")
        while not stage.exchanges("save_weights_for_sampler"):
            time.sleep(0.01)
        stage.http.delete(f"/v1/{stage.job_name('job-1')}")
        error = refusal(saving.result)
    left = stage.rows("job-1")
    claim("stopped" in str(error) and not left, f"the save says {error}, the rows are {left}")
    careful = stage.client("job-2")
    train(careful, 0)
    stage.checkpoints(careful, "job-2").save("final", resumable=False, promotable=True)
    listed = [row["name"] for row in stage.manager.list_checkpoints("job-2")]
    stage.manager.delete("job-2")
    kept = stage.checkpoints(careful, "job-2").promote_latest("kept", BASE)
    return Report(
        sees=[f"the save's future: {str(error)[:160]}", "the deleted job lists no checkpoint"],
        exchanges=stage.exchanges("save_weights_for_sampler", "delete_job")[:2],
        right=[f"waits for the save, finds {listed[0]} in the list, and deletes then: {kept['name']}"],
    )


_HOUR = 3600


@scenario("B16", "the only copy of the result expires before it is served")
def the_only_copy_expires(stage: Stage) -> Report:
    """A result that was saved with a short lifetime is gone when somebody comes to serve it."""
    stage.quirks.set("save.ttl", "accept")
    client = stage.client()
    train(client, 0)
    stage.ask(client, "save_weights_for_sampler", path="final", checkpoint_type="base", ttl_seconds=_HOUR)
    deployments.deploy(stage)
    stage.clock.advance(_HOUR + 1)
    served = deployments.load(stage, "final", timeout_seconds=5)
    gone = deployments.first_error(stage)
    claim(not served and "not found" in gone and not stage.rows("job-1"), f"an hour later: {served}, {gone}")
    stage.checkpoints(client).save("state", data_consumed=8)
    stage.ask(client, "save_weights_for_sampler", path="copy", checkpoint_type="base", ttl_seconds=_HOUR)
    stage.clock.advance(_HOUR + 1)
    again = stage.client()
    stage.checkpoints(again).resume()
    claim(deployments.load(stage, deployments.save(again, "copy-2")), deployments.first_error(stage))
    return Report(
        sees=[f"an hour after the run: {gone}"],
        exchanges=stage.exchanges("save_weights_for_sampler", "hot_load_status")[:2],
        right=["a training state without a lifetime first: from it the copy is exported again, and served"],
    )
