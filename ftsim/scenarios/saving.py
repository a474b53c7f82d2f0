"""Failures of saving: lost replies, types that are refused or ignored, saves that are never made."""

import logging
import time
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, short, train
from ftsim.testing.clients import RATE, batch


@scenario("B2", "the answer to a save is lost: the retry is told that the name exists")
def the_reply_to_a_save_is_lost(stage: Stage) -> Report:
    """The save is made, its answer is lost, and the same request comes again."""
    client = stage.client()
    stage.quirks.set("rpc.dedupe", False)
    stage.quirks.set("save.on_duplicate", "strict")
    with stage.fake_time():
        _lose(stage)
        stage.time.meanwhile = lambda: _until_saved(stage)
        error = refusal(lambda: client.save_state("step-0").result())
        claim("already exists" in str(error), f"the retry ends with {error}")
        claim([row.id for row in stage.rows("job-1")] == ["step-0"], "the save should have been made")
        ours = stage.checkpoints(stage.client("job-2"), "job-2")
        _lose(stage)
        ours.save("step-0", data_consumed=8)
        claim(ours.cursors.recorded() == {"step-0": 8}, f"our cursors are {ours.cursors.recorded()}")
        stage.quirks.set("rpc.dedupe", True)
        _lose(stage)
        stage.client("job-3").save_state("step-0").result()
    return Report(
        sees=[f"the save fails: {str(error)[:140]}", "and the list shows step-0"],
        exchanges=stage.exchanges("save_weights")[:2],
        right=[
            "TrainingCheckpoints looks for the row before it believes a failed save",
            "a server that keeps (model_id, seq_id) answers the retry with the first result",
        ],
    )


def _until_saved(stage: Stage) -> None:
    """The client waits a second before it asks again, time enough for the trainer to save."""
    for _ in range(500):
        if stage.rows("job-1"):
            return
        time.sleep(0.01)


def _lose(stage: Stage) -> None:
    stage.quirks.set("http.lose_reply", "after", endpoint="save_weights", times=1)


_WEEK = 7 * 24 * 3600


@scenario("B5", "ttl_seconds on a save: refused, or the checkpoint is gone when the run wants to resume")
def a_time_to_live_is_refused_or_passes(stage: Stage) -> Report:
    """Time to live: shown in old documents, refused here, with a minimum elsewhere, after which the row is gone."""
    client = stage.client()
    told = refusal(client.save_state, "step-1", ttl_seconds=_WEEK)
    claim(isinstance(told, NotImplementedError), f"the SDK says {told!r}")
    default = stage.ask(client, "save_weights", path="step-1", ttl_seconds=_WEEK)
    stage.quirks.set("save.ttl", "min_3600")
    short = stage.ask(client, "save_weights", path="step-1", ttl_seconds=60)
    claim("error" in default and "3600" in short.get("error", ""), f"the server answers {default}, {short}")
    stage.ask(client, "save_weights", path="step-1", ttl_seconds=_WEEK)
    before = len(stage.rows("job-1"))
    stage.clock.advance(_WEEK + 1)
    gone = refusal(lambda: client.load_state("step-1").result())
    claim((before, len(stage.rows("job-1"))) == (1, 0) and "not found" in str(gone), f"a week later: {gone}")
    ours = stage.checkpoints(client)
    ours.save("step-0", data_consumed=0)
    stage.clock.advance(_WEEK + 1)
    claim(stage.checkpoints(client).resume(), "our checkpoint is gone too")
    return Report(
        sees=[
            f"the SDK: {str(told).splitlines()[0]}",
            f"this server: {default['error']}; another one: {short['error']}",
            f"where it is taken, a week later: {str(gone)[:120]}",
        ],
        exchanges=stage.exchanges("save_weights")[:3],
        right=["TrainingCheckpoints never sends ttl_seconds: its row is there a week later"],
    )


@scenario("B6", "a save in a pipelined loop holds more updates than its cursor says")
def a_save_in_a_pipelined_loop(stage: Stage) -> Report:
    """Requests run in the order they were sent: a save that is sent after the next batch holds that batch too."""
    stage.quirks.set("optim.slow_s", 0.05)
    client = stage.client()
    first = _submit(client, 0)
    second = _submit(client, 1)
    first.result()
    client.save_state("step-1").result()
    cursor = 1
    second.result()
    saved = stage.rows("job-1")[0].step
    claim((saved, cursor) == (2, 1), f"the state is of step {saved}")
    drained = stage.client("job-2")
    train(drained, 0)
    stage.checkpoints(drained, "job-2").save("step-1", data_consumed=1)
    claim(stage.rows("job-2")[0].step == 1, "a drained save should be of step 1")
    return Report(
        sees=[f"saved after batch 1 was awaited, cursor {cursor}; the state has {saved} updates: batch 2 comes twice"],
        exchanges=stage.exchanges("optim_step", "save_weights")[:3],
        right=["wait for everything that was submitted, then save: one update, cursor 1"],
    )


def _submit(client: Any, number: int) -> Any:
    from ftsim.training.sdk import types

    client.forward_backward(batch(number), "cross_entropy")
    return client.optim_step(types.AdamParams(learning_rate=RATE))


@scenario("B7", "an error of the last save is swallowed: the run 'completed' and left nothing")
def the_error_of_the_last_save_is_swallowed(stage: Stage) -> Report:
    """The last save fails and the program only logs it."""
    client = stage.client()
    train(client, 0)
    stage.quirks.set("http.fail", 400, endpoint="save_weights_for_sampler")
    outcome = _naive_run(client)
    rows = stage.manager.list_checkpoints("job-1")
    claim(outcome == "completed" and not rows, f"the run {outcome}, the rows are {rows}")
    ours = refusal(stage.checkpoints(client).save, "step-1", resumable=False, promotable=True)
    claim("was not saved" in str(ours), f"our client says {ours}")
    return Report(
        sees=[f"the run {outcome}; the list of checkpoints is empty"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:1],
        right=[f"TrainingCheckpoints fails the run: {str(ours)[:160]}"],
    )


def _naive_run(client: Any) -> str:
    try:
        client.save_weights_for_sampler_ext("step-1", checkpoint_type="base")
    except Exception as error:
        logging.getLogger(__name__).debug("failed to save the final checkpoint: %s", error)
    return "completed"


@dataclass
class _WeightSync:
    dcp_save_interval: int = 0


@dataclass
class _Config:
    """As naive recipes have it: the same setting in two places, 0 for off."""

    dcp_save_interval: int = 0
    weight_sync: _WeightSync = field(default_factory=_WeightSync)


@scenario("B8", "the save interval never reaches the loop: no resumable checkpoint is ever written")
def the_interval_never_reaches_the_loop(stage: Stage) -> Report:
    """The interval is set in one field and read from another."""
    client = stage.client()
    config = _Config(dcp_save_interval=2)
    for step in range(1, 5):
        train(client, step)
        if config.weight_sync.dcp_save_interval and step % config.weight_sync.dcp_save_interval == 0:
            client.save_state(f"step-{step}").result()
    stage.emulator.platform.jobs.preempt(stage.account, "job-1")
    rows = stage.manager.list_checkpoints("job-1")
    claim(not rows and not stage.exchanges("save_weights"), f"the rows are {rows}")
    late = refusal(_check_saves, stage, "job-1", 4, config.dcp_save_interval)

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for step in range(1, 3):
        train(ours, step)
        if step % config.dcp_save_interval == 0:
            checkpoints.save(f"step-{step}", data_consumed=8 * step)
    _check_saves(stage, "job-2", 2, config.dcp_save_interval)
    return Report(
        sees=["dcp_save_interval is 2, four steps are trained, the trainer is preempted: there is no row to resume"],
        exchanges=stage.exchanges("list_checkpoints")[:1],
        right=[f"one field, and a look at the list after the first interval: {late}"],
    )


def _check_saves(stage: Stage, job: str, step: int, interval: int) -> None:
    rows = [row for row in stage.manager.list_checkpoints(job) if "TRAINING" in row["checkpointType"]]
    if step >= interval and not rows:
        raise RuntimeError(f"{step} steps with a save every {interval}, and no resumable row: saving is off")


@scenario("B9", "an ephemeral sampler save leaves no row, and the SDK stumbles over path null", upstream=SDK_1_2_28)
def an_unnamed_save_leaves_no_row(stage: Stage) -> Report:
    """A sampler save without a name leaves nothing to list; a server that answers path null breaks the client."""
    client = stage.client()
    unnamed = refusal(lambda: client.save_weights_and_get_sampling_client())
    lacking = isinstance(unnamed, NotImplementedError | AttributeError)
    still_upstream(SDK_1_2_28, lacking, f"there is no unnamed save: {unnamed!r}")
    stage.quirks.set("sampler.return_null_path", True, times=1)
    null = refusal(client.save_weights_for_sampler_ext, "step-1", checkpoint_type="base")
    still_upstream(SDK_1_2_28, isinstance(null, AssertionError), f"path null ends with {null!r}")
    claim(len(stage.rows("job-1")) == 1, "the weights should be saved all the same")
    stage.quirks.set("sampler.return_null_path", True, times=1)
    checkpoints = stage.checkpoints(client)
    checkpoints.save("step-2", resumable=False, promotable=True)
    rows = [row.id for row in stage.rows("job-1")]
    claim(rows[-1].startswith("step-2-"), f"the rows are {rows}")
    return Report(
        sees=[
            f"save_weights_and_get_sampling_client(): {type(unnamed).__name__}: {str(unnamed)[:120]}",
            f"a named save answered with path null: {type(null).__name__}, although the row {rows[0]} is there",
        ],
        exchanges=stage.exchanges("save_weights_for_sampler", "retrieve_future")[-3:],
        right=["TrainingCheckpoints saves under a name and, whatever the answer was, looks for the row"],
    )


@scenario("B10", "merged_base of an untouched adapter is refused, export_precision without merged_base too")
def an_untouched_adapter_is_not_merged(stage: Stage) -> Report:
    """An adapter that nobody has trained cannot be merged; precision goes with merging only."""
    client = stage.client(rank=2)
    early = refusal(client.save_weights_for_sampler_ext, "merged", checkpoint_type="merged_base")
    claim("untouched" in str(early) and not stage.rows("job-1"), f"refused with {early}")
    odd = refusal(client.save_weights_for_sampler_ext, "base", checkpoint_type="base", export_precision="bf16")
    claim(isinstance(odd, ValueError), f"the SDK says {odd!r}")
    foreign = refusal(
        client.save_weights_for_sampler_ext, "merged", checkpoint_type="merged_base", export_precision="nvfp4"
    )
    train(client, 0)
    client.save_weights_for_sampler_ext("merged", checkpoint_type="merged_base")
    row = stage.manager.list_checkpoints("job-1")[-1]
    claim(row["checkpointType"] == "CHECKPOINT_TYPE_INFERENCE_BASE" and row["promotable"], f"the row is {row}")
    return Report(
        sees=[f"before the first step: {str(early)[:140]}", f"precision on a base: {odd}", f"{str(foreign)[:140]}"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:1],
        right=["train, or load_adapter, then save merged_base: INFERENCE_BASE, promotable"],
    )


@scenario("B12", "on LoRA checkpoint_type is ignored: asked for a delta, got a whole adapter that is promotable")
def lora_ignores_the_checkpoint_type(stage: Stage) -> Report:
    """A row's kind is found in its files; on LoRA they are an adapter, whatever was asked for."""
    client = stage.client(rank=2)
    train(client, 0)
    client.save_weights_for_sampler_ext("step-1", checkpoint_type="base")
    train(client, 1)
    client.save_weights_for_sampler_ext("step-2", checkpoint_type="delta")
    row = stage.manager.list_checkpoints("job-1")[-1]
    claim(row["checkpointType"] == "CHECKPOINT_TYPE_INFERENCE_LORA" and row["promotable"], f"the row is {row}")
    model = stage.manager.promote_checkpoint(name=row["name"], output_model_id="adapter", base_model=BASE)
    claim(model["kind"] == "HF_PEFT_ADDON", f"the model is {model}")
    return Report(
        sees=[f"asked for a delta, listed as {row['checkpointType']}, promotable: {row['promotable']}"],
        exchanges=[stage.exchanges("save_weights_for_sampler")[-1], stage.exchanges("list_checkpoints")[-1]],
        right=[f"do not predict the type, read the row: it promotes to {model['kind']}"],
    )


@scenario("B13", "the client gives up on a slow save that is made all the same")
def the_client_gives_up_on_a_slow_save(stage: Stage) -> Report:
    """A save takes longer than the client waits, and is made all the same."""
    client = stage.client()
    stage.quirks.set("save.duration_s", 0.3)
    late = refusal(client.save_state, "step-4", timeout=0.05)
    claim(isinstance(late, (TimeoutError, FutureTimeout)), f"the SDK says {late!r}")
    early = stage.manager.list_checkpoints("job-1")
    repeated = client.save_state("step-4-retry")
    found = _look(stage, "step-4")
    repeated.result()
    rows = [short(row["name"]) for row in stage.manager.list_checkpoints("job-1")]
    claim(not early and found and rows == ["step-4", "step-4-retry"], f"the rows are {rows}")
    return Report(
        sees=[f"{type(late).__name__} after the client's own limit; a retry writes the same state again: {rows}"],
        exchanges=stage.exchanges("save_weights", "list_checkpoints")[:3],
        right=["keep looking for the row before saving again: step-4 shows while the retry would still run"],
    )


def _look(stage: Stage, name: str) -> bool:
    """Look for the row for ten seconds; False when it does not show."""
    import time

    for _ in range(200):
        if any(short(row["name"]) == name for row in stage.manager.list_checkpoints("job-1")):
            return True
        time.sleep(0.05)
    return False
