"""Recipes: a reinforcement step part by part, and a whole supervised run, against the same work without any server."""

import contextlib
import os
import statistics
from collections.abc import Iterator
from typing import Any

from ftsim.compute.data import FOLDER as DATA
from ftsim.tools.bench.measure import Result, milliseconds
from ftsim.tools.bench.stand import Stand
from ftsim.tools.bench.workload import BASE_MODEL

RL_STEPS, RL_WARM_UP = 10, 3
SFT_STEPS, SFT_BATCH, SFT_ROWS = 200, 8, 200


def rl_step(stand: Stand) -> Iterator[Result]:
    """8 prompts, 4 completions each of at most 64 tokens: training and sync against both bare, on the same samples.

    The bare sync asks as often as a save and a hot-load of the vendor's client do, which is what a sync is.
    """
    from ftsim.tools.bench.bare import BareFollower, plain
    from ftsim.tools.bench.saves import refused_save
    from ftsim.tools.bench.serving import two_looks
    from ftsim.training.loop import Stopwatch
    from ftsim.training.recipes import rl_loop
    from ftsim.training.reference import base_model
    from ftsim.training.reinforcement import take_step
    from ftsim.training.sampling.advantages import Scored, normalised, policy_data
    from ftsim.training.sampling.policy import rollout_policy
    from ftsim.training.sampling.rollouts import load_prompts
    from ftsim.training.trainers import connect, training_client

    config = rl_loop.Config(
        str(stand.folder / "rl"), BASE_MODEL, str(DATA / "rl-copy-train.jsonl"), str(stand.base_folder), kl_beta=0.05
    )
    bare, seconds = stand.bare, []
    tokenizer: Any = bare.tokenizer
    follower = BareFollower(bare, stand.base_folder, stand.folder / "rl-bare")
    prompts = load_prompts(config.dataset, tokenizer, 512)
    plan = rl_loop_plan(len(prompts), config.prompts_per_step)
    with _environment(stand), contextlib.ExitStack() as stack:
        manager = connect()
        client = stack.enter_context(training_client(manager, config, "bench-rl", 1024))
        base = stack.enter_context(base_model(manager, config, client, 1024))
        policy = stack.enter_context(
            rollout_policy(
                manager, config, "bench-rl", "bench-rl", client, longest_prompt=512, snapshot="step-0", moved=False
            )
        )
        policy.sync("start")
        for step in plan[:RL_STEPS]:
            watch = Stopwatch()
            with watch("rollout"):
                asked = [(row, prompts[row]) for row in step.micro_batches[0]]
                samples = rl_loop.begin_groups(config, policy, tokenizer, asked, step).samples()
                groups = rl_loop.paid_groups(
                    config, samples, [prompt for _, prompt in asked], lambda text, row: float(len(text))
                )
            scored = [
                Scored(sample, advantage)
                for group in groups
                for sample, advantage in zip(group.samples, normalised(group.rewards), strict=True)
            ]
            take_step(config, client, base, scored, config.learning_rate, watch)
            with watch("sync"):
                policy.sync(f"sync-{step.index}")
            data = [plain(datum) for datum in policy_data(scored)]
            with watch("bare_train"):
                bare.step_on(data, "ppo")
            with watch("bare_sync"):
                follower.sync()
            seconds.append(watch.seconds)
        requests = refused_save(client) + two_looks(stand.clients.deployments, "bench-rl")
    taken = seconds[RL_WARM_UP:]
    parts = {f"{part}_ms": statistics.median(one[part] for one in taken) * 1e3 for part in taken[0]}
    ours, theirs = parts["train_ms"] + parts["sync_ms"], parts["bare_train_ms"] + parts["bare_sync_ms"]
    parts |= {"emulated_ms": ours, "bare_ms": theirs}
    yield Result("rl_step", ours / theirs, "x", 1.5, parts=parts).with_requests(requests)


def rl_loop_plan(rows: int, prompts_per_step: int) -> Any:
    from ftsim.training.data.batches import build_plan

    return build_plan([True] * rows, epochs=1, batch_size=prompts_per_step, accumulation=1, seed=0)


def sft_run(stand: Stand) -> Iterator[Result]:
    """200 steps through the recipe, from reading the data to the final checkpoint, against the same loop bare."""
    bare_warm_up(stand)
    ours, theirs = [], []
    with _environment(stand):
        for turn in range(3):
            ours.append(milliseconds(lambda turn=turn: _recipe(stand, turn)))  # type: ignore[misc]
            theirs.append(milliseconds(lambda turn=turn: _bare_run(stand, turn)))  # type: ignore[misc]
    one, other = statistics.median(ours), statistics.median(theirs)
    yield Result("sft_run", one / other, "x", 1.6, parts={"recipe_ms": one, "bare_ms": other})


def bare_warm_up(stand: Stand) -> None:
    """Both sides have imported and opened what a run needs; a new process pays for that on either side."""
    stand.step(stand.full)
    stand.bare.step(stand.rows)


def _recipe(stand: Stand, turn: int) -> None:
    from ftsim.training.recipes import sft_loop

    config = sft_loop.Config(
        str(stand.folder / f"sft-{turn}"),
        BASE_MODEL,
        str(DATA / "chat-train.jsonl"),
        str(stand.base_folder),
        batch_size=SFT_BATCH,
        max_examples=SFT_ROWS,
        epochs=SFT_STEPS * SFT_BATCH // SFT_ROWS,
    )
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        done = sft_loop.main(config)
    if done["steps"] != SFT_STEPS:
        raise RuntimeError(f"the recipe took {done['steps']} steps, not {SFT_STEPS}")


def _bare_run(stand: Stand, turn: int) -> None:
    import json

    from ftsim.tools.bench.bare import BareTrainer, plain
    from ftsim.training.data.batches import build_plan
    from ftsim.training.data.supervised import load_supervised

    bare, folder = BareTrainer(stand.base_folder), stand.folder / f"sft-bare-{turn}"
    folder.mkdir()
    rows = load_supervised(
        str(DATA / "chat-train.jsonl"), bare.tokenizer, 4096, truncate=True, max_examples=SFT_ROWS
    ).data
    data = [[plain(one) for one in row or ()] for row in rows]
    epochs = SFT_STEPS * SFT_BATCH // SFT_ROWS
    plan = build_plan([True] * len(rows), epochs=epochs, batch_size=SFT_BATCH, accumulation=1, seed=0)
    with open(folder / "metrics.jsonl", "w") as log:
        for step in plan:
            loss = bare.step_on([one for row in step.micro_batches[0] for one in data[row]], "cross_entropy")
            log.write(json.dumps({"step": step.index + 1, "loss": loss}) + "\n")
            log.flush()
    bare.save_state(folder / "state")
    bare.save_pretrained(folder / "final")


def _environment(stand: Stand) -> contextlib.AbstractContextManager[None]:
    """The variables that `ftsim run` would give a recipe."""
    from ftsim.process.environment import in_environment, program_environment

    return in_environment(program_environment({}, stand.server, {}))
