"""The steps of a recipe that trains on its own samples; the recipe says how a step is sampled and scored."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from ftsim.training.clients import Manager, Tokenizer, TrainingClient
from ftsim.training.config import SamplingConfig
from ftsim.training.data.batches import Step
from ftsim.training.data.notes import Notes
from ftsim.training.loop import Data, Figures, Learner, Recipe, Run, Say, Stopwatch
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
from ftsim.training.steps import grad_norm, submit
from ftsim.training.trainers import job_id_for


@dataclass(frozen=True)
class Scores:
    """The samples that a step is trained on, and figures for the log, among them `reward`."""

    samples: Sequence[Scored]
    figures: dict[str, float]


Collect = Callable[[TrainingClient, Policy, Sequence[Prompt], Step], Scores]
"""(training client, policy on its deployment, all prompts, step) -> the samples of that step, scored."""


def sampling_recipe(
    name: str, tokenizer: Tokenizer, collect: Collect, *, needs_truth: bool = False
) -> Recipe[SamplingConfig, Prompt]:
    """Returns a recipe whose steps train on what `collect` samples; the recipe says how.

    With `needs_truth` a row without `ground_truth` is a bad one.
    """

    def load(config: SamplingConfig, max_seq_len: int, say: Say) -> Data[Prompt]:
        longest = max_seq_len - config.max_completion_tokens
        notes = Notes()
        prompts = load_prompts(
            config.dataset,
            tokenizer,
            longest,
            max_examples=config.max_examples,
            ground_truth_key=config.ground_truth_key or ("ground_truth" if needs_truth else None),
            on_bad_row=config.on_bad_row,
            notes=notes,
        )
        notes.tell(say)
        say(f"{len(prompts)} prompts, {prompts.usable.count(False)} of them dropped")
        return Data(prompts, prompts.usable, digest=prompts.digest)

    @contextmanager
    def learner(run: Run[SamplingConfig], data: Data[Prompt]) -> Iterator[Learner]:
        with reference_model(run) as base, sampling_policy(run, name) as policy:
            yield sampling_learner(run, data.train, policy, base, collect)

    def release(config: SamplingConfig, manager: Manager) -> None:
        if config.deployment_id is None:
            release_deployment(manager, job_id_for(name, config.log_path))
        release_reference(manager, config)

    reward = {"reward.png": ({"reward": "sampled for training"}, "mean reward")}
    return Recipe(
        name,
        load,
        learner,
        pictures=reward,
        check=lambda config, manager: check_deployment(manager, config),
        release=release,
    )


def reference_model(run: Run[SamplingConfig]) -> AbstractContextManager[TrainingClient | None]:
    """Bring up the base model that the divergence is measured from; None where it costs nothing."""
    if not run.config.kl_beta:
        return nullcontext()
    return base_model(run.manager, run.config, run.client, run.max_seq_len)


def sampling_policy(run: Run[SamplingConfig], name: str) -> AbstractContextManager[Policy]:
    """Bring up the deployment that samples, with the weights that the trainer has now."""
    config = run.config
    return rollout_policy(
        run.manager,
        config,
        config.deployment_id or job_id_for(name, config.log_path),
        run.job_id,
        run.client,
        longest_prompt=run.max_seq_len - config.max_completion_tokens,
        snapshot=sync_name(config, run.checkpoints.phase, run.done),
        moved=run.moved,
    )


def sampling_learner(
    run: Run[SamplingConfig],
    prompts: Sequence[Prompt],
    policy: Policy,
    base: TrainingClient | None,
    collect: Collect,
) -> Learner:
    """Returns steps that are each trained before the next is sampled.

    The deployment is synced wherever a checkpoint is saved, whatever the interval: a run that goes on from there has
    no other policy to sample from.
    """
    config, last = run.config, len(run.plan)

    def begin(step: Step, rate: float) -> Callable[[], Figures]:
        with run.watch("rollout"):
            scores = collect(run.client, policy, prompts, step)
        figures = take_step(config, run.client, base, scores.samples, rate, run.watch)
        return lambda: scores.figures | figures

    def end(step: Step, saved: bool) -> None:
        number = step.index + 1
        # Nothing samples after the last step, but an adapter's snapshot is what the final promotion takes. It comes
        # after the save: a finished run is known by a snapshot that is not older than its last state.
        if (config.lora_rank or number < last) and (saved or number % config.weight_sync.weight_sync_interval == 0):
            with run.watch("sync"):
                name = sync_name(config, run.checkpoints.phase, number)
                policy.sync(name)
            run.log.say(f"weights {name} are on the deployment")
        run.log.add({"step": number, "seconds": run.watch.seconds})

    return Learner(begin, end=end)


def take_step(
    config: SamplingConfig,
    client: TrainingClient,
    base: TrainingClient | None,
    samples: Sequence[Scored],
    rate: float,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Take one optimizer step on `samples` and return its figures; without samples there is no gradient, no step."""
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
    return figures | grad_norm(update)
