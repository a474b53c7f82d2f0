"""The life of a run that trains on its own samples; a recipe says how a step is sampled and scored."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ftsim.training.checkpoints.identity import check_rows
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from ftsim.training.checkpoints.promotion import check_model_is_free
from ftsim.training.config import phase_of
from ftsim.training.data.batches import Step, build_plan, steps_done
from ftsim.training.metrics import RunLog
from ftsim.training.reference import base_model, release_reference
from ftsim.training.sampling.advantages import (
    POLICY_LOSSES,
    Scored,
    completion_logprobs,
    kl_estimate,
    policy_data,
    under_policy,
)
from ftsim.training.sampling.policy import Policy, check_deployment, release_deployment, rollout_policy, sync_name
from ftsim.training.sampling.rollouts import Prompt, load_prompts
from ftsim.training.schedule import learning_rate
from ftsim.training.steps import submit
from ftsim.training.trainers import close_finished, connect, context_length, job_id_for, training_client


@dataclass(frozen=True)
class Scores:
    """What a step is trained on, and figures for the log, among them `reward`."""

    samples: Sequence[Scored]
    figures: dict[str, float]


Collect = Callable[[Any, Policy, Sequence[Prompt], Step], Scores]
"""(training client, policy on its deployment, all prompts, step) -> what was sampled for that step."""


def run(config: Any, recipe: str, tokenizer: Any, collect: Collect) -> dict[str, Any]:
    """Run, or go on with, the training `config` describes; returns job id, steps and promoted model."""
    manager = connect()
    max_seq_len = context_length(manager, config)
    own_id = job_id_for(recipe, config.log_path)
    job_id, deployment_id = config.trainer_job_id or own_id, config.deployment_id or own_id
    checkpoints = TrainingCheckpoints(
        None,
        manager,
        trainer_id=job_id,
        log_path=config.log_path,
        lora_rank=config.lora_rank,
        phase=phase_of(config, recipe),
    )
    with RunLog(config.log_path, recipe) as log:
        longest = max_seq_len - config.max_completion_tokens
        prompts = load_prompts(config.dataset, tokenizer, longest, max_examples=config.max_examples)
        usable = [bool(prompt.tokens) for prompt in prompts]
        log.say(f"{len(prompts)} prompts, {usable.count(False)} of them dropped")
        plan = build_plan(
            usable, epochs=config.epochs, batch_size=config.prompts_per_step, accumulation=1, seed=config.seed
        )
        result: dict[str, Any] = {"job_id": job_id, "steps": len(plan), "model": None, "resumed_from": None}
        if checkpoints.finished(plan[-1].data_consumed):
            close_finished(manager, config, job_id)
            release_helpers(manager, config, deployment_id)
            log.say("this run is complete already; nothing is trained")
        else:
            if config.output_model_id:
                check_model_is_free(manager, config.output_model_id)
            check_deployment(manager, config)
            with training_client(manager, config, job_id, max_seq_len) as client:
                checkpoints.client = client
                resumed = checkpoints.resume_run(config, len(plan))
                if resumed:
                    result["resumed_from"] = resumed.source
                    log.say(resumed.told("rows"))
                done = steps_done(plan, resumed.data_consumed) if resumed else 0
                check_rows(config, done)
                policy = rollout_policy(
                    manager,
                    config,
                    deployment_id,
                    job_id,
                    client,
                    longest_prompt=longest,
                    snapshot=sync_name(config, checkpoints.phase, done),
                    moved=bool(resumed),
                )
                reference = base_model(manager, config, client, max_seq_len) if config.kl_beta else nullcontext()
                if done < len(plan):
                    with reference as base, policy as sampling:
                        train_steps(config, client, sampling, base, checkpoints, log, prompts, plan, done, collect)
                else:
                    release_helpers(manager, config, deployment_id)
                name = checkpoints.save_step(len(plan), plan[-1].data_consumed, promotable=True)
                log.say(f"weights {name} can be promoted")
        if config.output_model_id:
            result["model"] = checkpoints.promote_latest(config.output_model_id, config.base_model)
            log.say(f"model {result['model'].get('name', config.output_model_id)} is ready")
        log.draw("reward.png", {"reward": "sampled for training"}, "mean reward")
    return result


def release_helpers(manager: Any, config: Any, deployment_id: str) -> None:
    """Release what a killed run may have left beside its trainer, once there is nothing more to sample."""
    if config.deployment_id is None:
        release_deployment(manager, deployment_id)
    release_reference(manager, config)


def train_steps(
    config: Any,
    client: Any,
    policy: Policy,
    base: Any,
    checkpoints: TrainingCheckpoints,
    log: RunLog,
    prompts: Sequence[Prompt],
    plan: Sequence[Step],
    done: int,
    collect: Collect,
) -> None:
    """Take the steps of `plan` after `done`, each trained before the next is sampled; save and hot-load as configured.

    The deployment is synced wherever a checkpoint is saved, whatever the interval: a run that goes on from there has
    no other policy to sample from.
    """
    log.begin(done, len(plan))
    saved, sync_every = config.weight_sync.saved_steps(len(plan)), config.weight_sync.weight_sync_interval
    for step in plan[done:]:
        watch = Stopwatch()
        number, final = step.index + 1, step.index + 1 == len(plan)
        with watch("rollout"):
            scores = collect(client, policy, prompts, step)
        rate = learning_rate(
            step.index,
            peak=config.learning_rate,
            schedule=config.lr_schedule,
            warmup_steps=config.warmup_steps,
            total_steps=len(plan),
            min_ratio=config.min_lr_ratio,
        )
        figures = take_step(config, client, base, scores.samples, rate, watch)
        entry = {"step": number, "epoch": step.epoch, "data_consumed": step.data_consumed, "lr": rate}
        log.add(entry | scores.figures | figures)
        if number in saved:
            with watch("save"):
                # Before the snapshot: a finished run is known by a snapshot that is not older than its last state.
                name = checkpoints.save_step(number, step.data_consumed)
            log.say(f"checkpoint {name} is saved")
        # Nothing samples after the last step, but an adapter's snapshot is what the final promotion takes.
        if (config.lora_rank or not final) and (number in saved or number % sync_every == 0):
            with watch("sync"):
                name = sync_name(config, checkpoints.phase, number)
                policy.sync(name)
            log.say(f"weights {name} are on the deployment")
        log.add({"step": number, "seconds": watch.seconds})


def take_step(
    config: Any, client: Any, base: Any, samples: Sequence[Scored], rate: float, watch: "Stopwatch"
) -> dict[str, Any]:
    """One optimizer step on `samples`, and its figures; without samples there is no gradient and so no step."""
    if not samples:
        return {"loss": None, "tokens": 0}
    figures: dict[str, Any] = {}
    logprobs = None
    if config.temperature != 1:
        with watch("train"):
            samples = under_policy(client, samples)
    if base is not None:
        with watch("reference"):
            logprobs = completion_logprobs(base, [one.sample for one in samples])
        figures["kl"] = kl_estimate(samples, logprobs)
    loss, settings = POLICY_LOSSES[config.policy_loss]
    with watch("train"):
        data = policy_data(samples, logprobs, config.kl_beta)
        sums, update = submit(client, [data], loss, rate, config, {**settings, **config.loss_config}).result()
    tokens = sum(len(one.sample.tokens) for one in samples)
    figures |= {"loss": sums["loss:sum"] / tokens, "tokens": tokens}
    return figures | {name: update[name] for name in ("grad_norm",) if name in update}


@dataclass
class Stopwatch:
    """Seconds spent per part of a step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = round(self.seconds.get(part, 0.0) + time.perf_counter() - started, 6)
