"""The steps of a recipe that trains on its own samples; the recipe says how a step is sampled and scored."""

import contextlib
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
from ftsim.training.sampling.pool import pool_policy
from ftsim.training.sampling.rollouts import Prompt, load_prompts
from ftsim.training.steps import grad_norm, submit
from ftsim.training.trainers import job_id_for


@dataclass(frozen=True)
class Scores:
    """The samples that a step is trained on, and figures for the log, among them `reward`."""

    samples: Sequence[Scored]
    figures: dict[str, float]


class Rollout:
    """The samples of a step, which may still be asked for; `scores` waits for them and scores them, once."""

    def __init__(self, score: Callable[[], Scores], cancel: Callable[[], None] = lambda: None) -> None:
        self._score, self.cancel = score, cancel
        self._scores: Scores | None = None

    def scores(self) -> Scores:
        if self._scores is None:
            self._scores = self._score()
        return self._scores


Collect = Callable[[TrainingClient, Policy, Sequence[Prompt], Step], Rollout]
"""(training client, policy on its deployment, all prompts, step) -> the samples of that step, begun."""


def sampling_recipe(
    name: str, tokenizer: Tokenizer, collect: Collect, *, needs_truth: bool = False, ahead: int | None = None
) -> Recipe[SamplingConfig, Prompt]:
    """Returns a recipe whose steps train on what `collect` samples; the recipe says how.

    With `needs_truth` a row without `ground_truth` is a bad one. `ahead` steps are sampled before they are trained;
    None samples and trains in turn.
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
        with (
            reference_model(run) as base,
            sampling_policy(run, name) as policy,
            sampling_learner(run, data.train, policy, base, collect, ahead) as steps,
        ):
            yield steps

    def release(config: SamplingConfig, manager: Manager) -> None:
        if config.deployment_id is None:
            release_deployment(manager, job_id_for(name, config.log_path))
        release_reference(manager, config)

    reward = {"reward.svg": ({"reward": "sampled for training"}, "mean reward")}
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
    longest_prompt = run.max_seq_len - config.max_completion_tokens
    if run.pool is not None:
        return pool_policy(
            run.pool.service,
            run.client,
            config,
            longest_prompt=longest_prompt,
            snapshot=sync_name(config, run.checkpoints.phase, run.done),
            moved=run.moved,
        )
    return rollout_policy(
        run.manager,
        config,
        config.deployment_id or job_id_for(name, config.log_path),
        run.job_id,
        run.client,
        longest_prompt=longest_prompt,
        snapshot=sync_name(config, run.checkpoints.phase, run.done),
        moved=run.moved,
    )


@contextmanager
def sampling_learner(
    run: Run[SamplingConfig],
    prompts: Sequence[Prompt],
    policy: Policy,
    base: TrainingClient | None,
    collect: Collect,
    ahead: int | None = None,
) -> Iterator[Learner]:
    """Yields steps of which `ahead` are sampled while an earlier one is trained; None samples and trains in turn.

    The deployment is synced wherever a checkpoint is saved, whatever the interval: a run that goes on from there has
    no other policy to sample from. For the same reason no step behind a checkpoint is sampled before it. Which weights
    sample a step follows from the plan alone: a sync waits for what is being sampled.
    """
    config, last = run.config, len(run.plan)
    queue = RolloutQueue(
        lambda step: collect(run.client, policy, prompts, step), run.plan, config.saved_steps(last), run.done
    )

    def begin(step: Step, rate: float) -> Callable[[], Figures]:
        with run.watch("rollout"):
            queue.run_ahead(step.index, ahead or 0)
            scores, behind = queue.take(step.index)
        figures = take_step(config, run.client, base, scores.samples, rate, run.watch, stale=behind > 0)
        if ahead is not None:
            figures["off_policy_steps"] = behind
        return lambda: scores.figures | figures

    def end(step: Step, saved: bool) -> None:
        number = step.index + 1
        # Nothing samples after the last step, but an adapter's snapshot is what the final promotion takes. It comes
        # after the save: a finished run is known by a snapshot that is not older than its last state.
        if (config.lora_rank or number < last) and (saved or number % config.weight_sync.weight_sync_interval == 0):
            with run.watch("rollout"):
                queue.settle()
            with run.watch("sync"):
                name = sync_name(config, run.checkpoints.phase, number)
                policy.sync(name)
            queue.version = number
            run.log.say(f"weights {name} are on the deployment")
        run.log.add({"step": number, "seconds": run.watch.seconds})

    with contextlib.closing(queue):
        yield Learner(begin, end=end)


class RolloutQueue:
    """Steps that are sampled and not trained yet; `version` is the number of steps that the sampling policy has seen.

    A step is begun no earlier than `ahead` steps before it is trained, and no earlier than the checkpoint before it.
    """

    def __init__(
        self, begin: Callable[[Step], Rollout], plan: Sequence[Step], saved_steps: Sequence[int], done: int
    ) -> None:
        self._begin, self._plan, self._saved = begin, plan, saved_steps
        self._next = self.version = done
        self._begun: dict[int, tuple[Rollout, int]] = {}

    def run_ahead(self, done: int, ahead: int) -> None:
        """Begin the steps that may be sampled once `done` steps are trained."""
        until = min([step for step in self._saved if step > done] + [len(self._plan), done + ahead + 1])
        for index in range(self._next, until):
            self._begun[index] = (self._begin(self._plan[index]), self.version)
        self._next = max(self._next, until)

    def take(self, index: int) -> tuple[Scores, int]:
        """Returns the samples of a step, and how many steps the policy that sampled them is behind."""
        rollout, version = self._begun.pop(index)
        return rollout.scores(), index - version

    def settle(self) -> None:
        """Wait for all that was begun: the weights may change then."""
        for rollout, _ in self._begun.values():
            rollout.scores()

    def close(self) -> None:
        """Cancel what nobody is going to train."""
        for rollout, _ in self._begun.values():
            rollout.cancel()


def take_step(
    config: SamplingConfig,
    client: TrainingClient,
    base: TrainingClient | None,
    samples: Sequence[Scored],
    rate: float,
    watch: Stopwatch,
    *,
    stale: bool = False,
) -> dict[str, Any]:
    """Take one optimizer step on `samples` and return its figures; without samples there is no gradient, no step.

    `stale` samples are of a policy before the one that is trained: the divergence from the base model is then asked of
    the trainer, while the ratios of the loss stay those to the policy that sampled.
    """
    if not samples:
        return {"loss": None, "tokens": 0}
    figures: dict[str, Any] = {}
    logprobs = own = None
    if config.temperature != 1:
        with watch("train"):
            samples = under_policy(client, samples)
    if base is not None:
        with watch("reference"):
            logprobs = completion_logprobs(base, [one.sample for one in samples])
            own = completion_logprobs(client, [one.sample for one in samples]) if stale else None
        figures["kl"] = kl_estimate(samples, logprobs, own)
    loss, settings = POLICY_LOSSES[config.policy_loss]
    with watch("train"):
        data = policy_data(samples, logprobs, config.kl_beta, own)
        sums, update = submit(client, [data], loss, rate, config, {**settings, **config.loss_config}).result()
    tokens = sum(len(one.sample.tokens) for one in samples)
    figures |= {"loss": sums["loss:sum"] / tokens, "tokens": tokens}
    return figures | grad_norm(update)
