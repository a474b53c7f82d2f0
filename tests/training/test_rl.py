"""The RL recipe from end to end: a real deployment samples, a real trainer learns, killed anywhere it ends the same."""

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fireworks.training.sdk import DeploymentConfig, DeploymentManager, TrainerJobConfig

from emulator.server import Emulator
from ftsim.compute.trainer.losses import LOSSES
from ftsim.training import reinforcement
from ftsim.training.errors import ConfigError
from ftsim.training.recipes import rl_loop
from ftsim.training.sampling.advantages import LOSS_SETTINGS, POLICY_LOSSES, completion_logprobs
from ftsim.training.sampling.policy import connect_deployments
from ftsim.training.trainers import connect, job_id_for
from ftsim.training.utils import WeightSyncConfig
from tests.sdk import BACKGROUND
from tests.training.interrupts import interrupt
from tests.training.rl_runs import BASE, STEPS, check_interruptions, configure, job_of, remains, steps
from tests.training.runs import kill_after, run_to_end, running

FULL = {"kl_beta": 0.05, "weight_sync": WeightSyncConfig(dcp_save_interval=2, weight_sync_interval=3)}


def saved(job_id: str) -> dict[str, Any]:
    """Listed snapshots by the name they were saved under."""
    return {row["name"].rpartition("/")[2].rpartition("-")[0]: row for row in connect().list_checkpoints(job_id)}


@pytest.fixture
def configured(tmp_path: Path, tokenizer_folder: Path) -> Any:
    return partial(configure, rl_loop, tmp_path, tokenizer_folder)


@pytest.mark.parametrize(
    ("lora_rank", "count"), [(8, 1), (0, 1), *(pytest.param(rank, 10, marks=pytest.mark.slow) for rank in (8, 0))]
)
def test_a_run_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, configured: Any, lora_rank: int, count: int
) -> None:
    settings = {} if lora_rank else FULL
    left = check_interruptions(
        emulator, rl_loop, partial(configured, lora_rank=lora_rank, **settings), count, seed=lora_rank + count
    )
    assert [entry["step"] for entry in left["metrics"]] == [1, 2, 3, 4, 5, 6]
    assert left["cursor"] == 18  # nine rows an epoch: the one too long is counted though not trained on


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [8, 0])
def test_a_killed_process_is_continued(emulator: Emulator, configured: Any, lora_rank: int) -> None:
    quiet, killed = configured("quiet", lora_rank=lora_rank), configured("killed", lora_rank=lora_rank)
    rl_loop.main(quiet)
    assert kill_after(killed, emulator, 3) < STEPS
    assert len(list(emulator.world.deployments)) == 1  # the dead delete nothing
    run_to_end(killed, emulator)
    assert remains(emulator, rl_loop, killed) == remains(emulator, rl_loop, quiet)
    assert not list(emulator.world.deployments)


def test_an_adapter_is_promoted_from_the_snapshot_that_was_hot_loaded_last(emulator: Emulator, configured: Any) -> None:
    config = configured(lora_rank=8, epochs=1, output_model_id="tuned", kl_beta=0.01)
    result = rl_loop.main(config)
    assert len(emulator.journal.of("save_weights_for_sampler")) == len(emulator.journal.of("hot_load")) == 3
    assert "/checkpoints/step-3-" in (result["model"] or {})["importedFrom"]
    assert (result["model"] or {})["kind"] == "HF_PEFT_ADDON"
    assert connect().get(result["job_id"])["state"] == "JOB_STATE_CANCELLED"
    assert not list(emulator.world.deployments)
    emulator.journal.clear()
    assert rl_loop.main(config)["model"] == result["model"]
    assert {asked.method for asked in emulator.journal if asked.endpoint not in BACKGROUND} == {"GET"}


def test_a_full_run_hot_loads_deltas_and_promotes_a_base(emulator: Emulator, configured: Any) -> None:
    config = configured(epochs=1, output_model_id="tuned", kl_beta=0.01)
    result = rl_loop.main(config)
    assert (result["model"] or {})["kind"] == "HF_BASE_MODEL"
    listed = saved(result["job_id"])
    assert listed["sync-1"]["promotable"]
    assert not listed["sync-2"].get("promotable")
    for job in (result["job_id"], job_id_for("reference", config.log_path)):
        assert connect().get(job)["state"] == "JOB_STATE_CANCELLED"


@pytest.mark.parametrize(("lora_rank", "snapshot"), [(4, "step"), (0, "sync")])
def test_every_save_and_every_hot_load_is_said(
    emulator: Emulator, configured: Any, capsys: pytest.CaptureFixture[str], lora_rank: int, snapshot: str
) -> None:
    rl_loop.main(configured(lora_rank=lora_rank, epochs=1))
    said = [line.removeprefix("rl ") for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "9 prompts, 1 of them dropped",
        f"weights {snapshot}-1 are on the deployment",
        "checkpoint step-2 is saved",
        f"weights {snapshot}-2 are on the deployment",
        "checkpoint step-3 is saved",
        *(["weights step-3 are on the deployment"] if lora_rank else []),
        "weights step-3 can be promoted",
    ]


@pytest.mark.parametrize("lora_rank", [8, 0])
def test_a_run_killed_as_it_lets_go_leaves_nothing_running(emulator: Emulator, configured: Any, lora_rank: int) -> None:
    config = configured(lora_rank=lora_rank, epochs=1, kl_beta=0.05)
    interrupt(rl_loop.main, config, 0, after=False, watched=[(DeploymentManager, "delete")])
    reference = [] if lora_rank else [job_id_for("reference", config.log_path)]
    assert set(running(emulator)) == {job_of(rl_loop, config), *reference}
    rl_loop.main(config)
    assert not running(emulator)
    assert not list(emulator.world.deployments)
    for job_id in reference:
        connect().resume_and_wait(job_id)
    rl_loop.main(config)
    assert not running(emulator)  # nor when the run was complete


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_is_sampled_comes_from_the_policy_that_is_trained(
    emulator: Emulator, configured: Any, monkeypatch: pytest.MonkeyPatch, replicas: int
) -> None:
    """E7: a second replica gets the weights later than the first, which is the only one the SDK looks at."""
    gaps: list[float] = []
    take_step = reinforcement.take_step

    def compare(
        config: Any, client: Any, base: Any, samples: Any, rate: float, watch: Any, **more: Any
    ) -> dict[str, Any]:
        for one, trained in zip(samples, completion_logprobs(client, [it.sample for it in samples]), strict=True):
            gaps.extend(abs(a - b) for a, b in zip(one.sample.logprobs, trained, strict=True))
        return take_step(config, client, base, samples, rate, watch, **more)

    monkeypatch.setattr(reinforcement, "take_step", compare)
    with emulator.quirks.set("hotload.lag_s", 0.5):
        rl_loop.main(configured(epochs=1, deployment_replicas=replicas))
    assert len(gaps) > 20
    assert max(gaps) < 1e-4


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_a_policy_has_not_left_itself_before_its_first_step_at_any_temperature(
    emulator: Emulator, configured: Any, temperature: float
) -> None:
    """Its reference is itself, so there is no divergence; all ratios are 1, so advantages add up to the loss: 0."""
    config = configured(
        lora_rank=4, epochs=1, max_examples=3, temperature=temperature, kl_beta=0.05, max_completion_tokens=1
    )
    different = itertools.count()
    rl_loop.main(config, reward_fn=lambda text, row: float(next(different)))
    (entry,) = steps(config)
    assert entry["kl"] == pytest.approx(0, abs=1e-5)
    assert entry["loss"] == pytest.approx(0, abs=1e-5)
    assert entry["grad_norm"] > 0


def test_groups_that_are_filtered_count_as_consumed_and_train_nothing(emulator: Emulator, configured: Any) -> None:
    config = configured(epochs=1)
    rl_loop.main(config, filter_fn=lambda group: False)
    assert [(entry["filtered"], entry["tokens"], entry["loss"]) for entry in steps(config)] == [
        (3, 0, None),
        (3, 0, None),
        (2, 0, None),
    ]
    assert steps(config)[-1]["data_consumed"] == 9
    assert not emulator.journal.of("forward_backward")
    assert not emulator.journal.of("optim_step")


def test_a_fork_brings_its_own_reward(emulator: Emulator, configured: Any) -> None:
    asked: list[str] = []

    def shorter_is_better(text: str, row: Mapping[str, Any]) -> float:
        asked.append(row["ground_truth"])
        return -float(len(text))

    config = configured(epochs=1)
    rl_loop.main(config, reward_fn=shorter_is_better)
    assert len(asked) == 8 * 3
    assert all(entry["reward"] < 0 for entry in steps(config))


@pytest.mark.parametrize("loss", sorted(POLICY_LOSSES))
def test_every_policy_loss_takes_a_step(emulator: Emulator, configured: Any, loss: str) -> None:
    config = configured(lora_rank=4, epochs=1, max_examples=3, policy_loss=loss)
    rl_loop.main(config)
    (entry,) = steps(config)
    assert entry["grad_norm"] > 0
    (sent,) = emulator.journal.of("forward_backward")
    assert POLICY_LOSSES[loss][0] in str(sent.request)


def test_every_policy_loss_of_the_trainer_can_be_chosen_with_all_its_settings() -> None:
    assert {name: tuple(loss.keys) for name, loss in LOSSES.items() if "advantages" in loss.tensors} == LOSS_SETTINGS
    assert {loss for loss, _ in POLICY_LOSSES.values()} == LOSS_SETTINGS.keys()


@pytest.mark.parametrize("lora_rank", [8, 0])
def test_a_failed_hot_load_is_mended_by_a_full_snapshot(emulator: Emulator, configured: Any, lora_rank: int) -> None:
    """E9, E10."""
    quiet, mended = configured("quiet", lora_rank=lora_rank), configured("mended", lora_rank=lora_rank)
    rl_loop.main(quiet)
    with emulator.quirks.set("hotload.fail_next", True, times=1):
        rl_loop.main(mended)
    assert any(name.endswith("-full") for name in saved(job_of(rl_loop, mended)))
    assert remains(emulator, rl_loop, mended) == remains(emulator, rl_loop, quiet)


def deploy(name: str) -> None:
    """A deployment as somebody makes it for whatever comes: attached to no trainer."""
    connect_deployments(connect()).create_or_get(
        DeploymentConfig(deployment_id=name, base_model=BASE, description="mine", accept_shapeless_risk=True)
    )


@pytest.mark.parametrize("lora_rank", [8, 0])
def test_a_deployment_named_by_the_configuration_is_attached_and_left(
    emulator: Emulator, configured: Any, lora_rank: int
) -> None:
    deploy("mine")
    for name in ("first", "second"):  # from no trainer to one, and from that to another
        config = configured(name, epochs=1, lora_rank=lora_rank, deployment_id="mine")
        rl_loop.main(config)
        (left,) = emulator.world.deployments
        assert left.hot_load_trainer_job.endswith(f"/{job_of(rl_loop, config)}")
    assert not emulator.journal.of("delete_deployment")


def test_a_deployment_that_is_not_there_or_serves_another_model_is_refused_before_anything_is_made(
    emulator: Emulator, configured: Any
) -> None:
    deploy("mine")
    other = configured(base_model=BASE.replace("8b", "4b"), deployment_id="mine")
    for config, message in (
        (configured(deployment_id="mistyped"), "deployment_id names 'mistyped', which the account has not"),
        (other, f"mine serves {BASE}, not"),
    ):
        with pytest.raises(ConfigError, match=message):
            rl_loop.main(config)
    assert not emulator.journal.of("create_job")
    assert [one.id for one in emulator.world.deployments] == ["mine"]


def test_a_deployment_whose_bucket_the_trainer_was_made_for_is_not_attached(
    emulator: Emulator, configured: Any
) -> None:
    """E14: the two ways to share a bucket exclude each other."""
    deploy("mine")
    connect().create_and_wait(
        TrainerJobConfig(base_model=BASE, lora_rank=8, requested_job_id="shared", hot_load_deployment_id="mine")
    )
    rl_loop.main(configured(epochs=1, lora_rank=8, trainer_job_id="shared", deployment_id="mine"))
    assert emulator.journal.of("hot_load")
    assert [one.hot_load_trainer_job for one in emulator.world.deployments] == [""]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy_loss": "q-learning"}, "policy_loss 'q-learning' is not one of"),
        ({"loss_config": {"foo": 1}}, r"loss_config\.foo: grpo has no such setting, only clip_low_threshold,"),
        ({"policy_loss": "reinforce", "loss_config": {"beta": 1}}, "reinforce has no such setting, only none"),
        ({"completions_per_prompt": 1}, "completions_per_prompt must be at least 2"),
        ({"kl_beta": -1}, "kl_beta must be at least 0"),
        ({"temperature": 0}, "temperature must be above 0, where samples differ"),
        ({"temperature": 2.5}, "at most 2, not 2.5"),
        (
            {"temperature": 0.5, "weight_sync": WeightSyncConfig(weight_sync_interval=2)},
            r"temperature=0\.5 needs weight_sync\.weight_sync_interval=1",
        ),
        ({"prompts_per_step": 0}, "prompts_per_step must be at least 1"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(configured: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**settings)


def test_a_late_list_does_not_promote_the_weights_of_an_earlier_sync(emulator: Emulator, configured: Any) -> None:
    """A6: a full-parameter run's first snapshot is promotable too."""
    config = configured(lora_rank=0, epochs=1, output_model_id="late")
    with emulator.quirks.set("rows.visible_after_s", 0.5):
        result = rl_loop.main(config)
    assert "/checkpoints/step-3-" in (result["model"] or {})["importedFrom"]


@pytest.mark.parametrize(
    "reference", ["nowhere", "no.such.module:reward", "ftsim.training.sampling.rewards:missing", "math:pi"]
)
def test_a_reward_that_cannot_be_found_is_refused_before_anything_is_made(
    emulator: Emulator, configured: Any, reference: str
) -> None:
    with pytest.raises(ConfigError, match="reward_fn"):
        rl_loop.main(configured(reward_fn=reference))
    assert not emulator.journal.of("create_job")
