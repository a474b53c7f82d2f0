"""Failures of recipes and their data: lost rollouts, progress that is added up, rows that train nothing, forms."""

import dataclasses
import json
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments, trainers
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import Stage, train
from ftsim.testing.clients import batch

_EPISODES = 8


@scenario("H2", "lost rollouts look like bad rollouts: rewards sink because requests are refused")
def lost_rollouts_count_as_bad_ones(stage: Stage) -> Report:
    """More requests than the replicas bear: some end in 429, and a client scores those as 0."""
    model = deployments.deploy(stage, None)
    whole = _rewards(stage, model)
    stage.quirks.set("http.fail", 429, endpoint="completions", times=_EPISODES // 2)
    found = _rewards(stage, model)
    kept = [reward for reward in found if reward is not None]
    naive = sum(reward or 0.0 for reward in found) / len(found)
    right = sum(kept) / len(kept)
    claim(naive == 0.5 * right == 0.5, f"the mean reward is {naive}, of the answers {right}: {found}")
    share = 1 - len(kept) / len(found)
    stopped = refusal(_stop_above, share, 0.2)
    claim(all(reward == 1.0 for reward in whole), f"{whole}")
    return Report(
        sees=[f"{len(found) - len(kept)} of {len(found)} episodes end in 429; scored 0 the mean reward is {naive:.2f}"],
        exchanges=[one for one in stage.exchanges("completions") if one.status == 429][:1],
        right=[f"drops what was lost: {right:.2f} over {len(kept)} episodes; {stopped}"],
    )


def _rewards(stage: Stage, model: str) -> list[float | None]:
    """The reward of each episode, 1 for every answer; None for one that was refused."""
    answers = [deployments.complete(stage, model, seed=number) for number in range(_EPISODES)]
    return [1.0 if answer.status_code == 200 else None for answer in answers]


def _stop_above(share: float, most: float) -> None:
    if share > most:
        raise RuntimeError(f"{share:.0%} of the rollouts were lost, more than {most:.0%}: send fewer at a time")


@scenario("H3", "progress is added up over attempts: 6 steps, of which the weights have seen 2")
def progress_is_added_up(stage: Stage) -> Report:
    """Attempts that do not resume start from the base weights; their logs are summed all the same."""
    log: list[int] = []
    for _ in range(3):
        client = stage.client()
        for number in (0, 1):
            train(client, number)
            log.append(number)
        trainers.preempt(stage)
        stage.http.post(f"/v1/{stage.job_name('job-1')}:resume", json={})
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0, 1)
    checkpoints.save("step-2", data_consumed=2)
    seen = stage.rows("job-1")[-1].step
    claim(len(log) == 6 and seen == 2, f"{len(log)} steps in the log, {seen} in the weights")
    trainers.preempt(stage)
    stage.http.post(f"/v1/{stage.job_name('job-1')}:resume", json={})
    again = stage.client()
    resumed = stage.checkpoints(again).resume()
    train(again, 2)
    progress = resumed.step + 1
    claim(progress == trainers.steps(stage, again) == 3, f"{progress} of {trainers.steps(stage, again)}")
    return Report(
        sees=[f"the log of three attempts says {len(log)} steps; the weights have seen {seen}"],
        exchanges=stage.exchanges("resume_job")[:1],
        right=[f"progress is the step of the resumed checkpoint and the steps since: {resumed.step} + 1 = {progress}"],
    )


@scenario("H4", "rendered for another model, or to nothing: no row has a token to train on")
def rows_without_a_token_to_train_on(stage: Stage) -> Report:
    """The server sees token ids and weights; that nothing is trained it does not say."""
    client = stage.client()
    before = stage.weights(client)
    empty = _without_weights(*batch())
    result = client.forward_backward([empty], "cross_entropy").result()
    client.optim_step(trainers.adam()).result()
    loss = result.metrics["loss:sum"]
    claim(loss == 0 and stage.weights(client) == before, f"loss {loss}; the weights changed")
    rows = stage.folder / "rows.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "a question without an answer"}]}) + "\n")
    told = refusal(_load, rows)
    claim("no assistant message to train on" in str(told), f"{told!r}")
    return Report(
        sees=[f"weights that are all 0: a step is taken, the loss is {loss:g}, and nothing is learned"],
        exchanges=stage.exchanges("forward_backward")[:1],
        right=[
            f"counts trainable tokens before the first call: {str(told)[:200]}",
            "and compares the tokenizer with the one that the base model's huggingFaceUrl names",
        ],
    )


def _without_weights(datum: Any) -> Any:
    """The datum with a weight of 0 for every token."""
    from ftsim.training.sdk import types

    old = datum.loss_fn_inputs["weights"]
    zeros = types.TensorData(data=[0.0] * len(old.data), dtype="float32", shape=list(old.shape))
    return types.Datum(model_input=datum.model_input, loss_fn_inputs={**datum.loss_fn_inputs, "weights": zeros})


def _load(rows: Any) -> None:
    from transformers import AutoTokenizer

    from ftsim.testing.tiny import tiny_model
    from ftsim.training.data.supervised import load_supervised

    load_supervised(str(rows), AutoTokenizer.from_pretrained(tiny_model()), 64, truncate=True)


@scenario("H5", "yesterday's form of the configuration: a TypeError, or an ImportError, by which side is older")
def a_configuration_of_another_date(stage: Stage) -> Report:
    """One setting has had two names; a recipe that knows one of them refuses the other."""
    from ftsim.training.config import InfraConfig, WeightSyncConfig
    from ftsim.training.config_forms import TrainerConfig
    from ftsim.training.recipes.sft_loop import Config

    @dataclasses.dataclass
    class OldRecipe:
        infra: InfraConfig

    common: dict[str, Any] = {"base_model": "accounts/fireworks/models/tiny", "log_path": str(stage.folder)}
    shape = "accounts/fireworks/trainingShapes/qwen3-8b-128k"
    old = refusal(lambda: OldRecipe(trainer=TrainerConfig()))  # type: ignore[call-arg]
    april = _settings(Config, common, infra=InfraConfig(training_shape_id=shape), weight_sync=WeightSyncConfig(10))
    november = _settings(Config, common, trainer=TrainerConfig(training_shape_id=shape), dcp_save_interval=10)
    claim(april == november == (shape, 10), f"{april}, {november}")
    both = refusal(lambda: _settings(Config, common, dcp_save_interval=10, weight_sync=WeightSyncConfig(5)))
    claim("two names of one setting" in str(both), f"{both}")
    return Report(
        sees=[f"November's form in a recipe of April: {old}"],
        exchanges=[],
        right=["pins recipe and SDK together; the recipes here take either form", f"and refuse both at once: {both}"],
    )


def _settings(config: Any, common: dict[str, Any], **given: Any) -> tuple[str | None, int]:
    """The shape and the interval that a recipe goes by."""
    made = config(dataset="rows.jsonl", tokenizer_model="tiny", **common, **given)
    return made.infra.training_shape_id, made.weight_sync.dcp_save_interval
