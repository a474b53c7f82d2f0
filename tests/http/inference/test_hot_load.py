"""Hot-loading through the SDK's manager and syncer: what loads, what is refused, what each switch does (FAILURES E)."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import DeploymentManager, WeightSyncer
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator import Emulator
from emulator.core.catalogue import PLATFORMS
from emulator.platform.jobs.spec import JobSpec
from tests.http.inference.conftest import BASE, HOT_LOAD, Deploy, Train, attached
from tests.http.inference.test_managed import step


def save(client: FiretitanTrainingClient, name: str, kind: str = "base") -> str:
    step(client)
    return str(client.save_weights_for_sampler_ext(name, checkpoint_type=kind).snapshot_name)


def after(previous: str) -> dict[str, str]:
    return {"previous_snapshot_identity": previous, "compression_format": "arc_v2", "checksum_format": "alder32"}


def status(http: httpx.Client, emulator: Emulator, deployment: str = "d1") -> dict[str, Any]:
    answer = http.get(HOT_LOAD, headers=headers(emulator, deployment))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def headers(emulator: Emulator, deployment: str = "d1") -> dict[str, str]:
    return {"fireworks-deployment": f"accounts/{emulator.account}/deployments/{deployment}", "fireworks-model": BASE}


def fingerprints(emulator: Emulator, deployment: str = "d1") -> list[str]:
    found = emulator.platform.deployments.get(emulator.account, deployment)
    return [emulator.platform.replicas.of_pod(found, pod).fingerprint() for pod in found.pods]


def test_the_syncer_loads_a_base_and_then_deltas(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator), min_replica_count=2, max_replica_count=2)
    syncer = WeightSyncer(client, manager, "d1", BASE)
    held = set()
    for name in ("one", "two", "three"):
        step(client)
        snapshot = syncer.save_and_hotload(name)
        pods = status(http, emulator)["replicas"]
        assert [pod["current_snapshot_identity"] for pod in pods] == [snapshot] * 2
        first, second = fingerprints(emulator)
        assert first == second
        held.add(first)
    assert len(held) == 3
    kinds = [load.kind[-4:] for load in emulator.platform.ledger.loads(emulator.account, "d1")]
    assert kinds == ["BASE"] * 2 + ["C_V2"] * 4


def test_a_format_is_named_in_either_case_as_the_vendors_codec_takes_it(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    whole = save(client, "one")
    assert manager.hotload_and_wait("d1", BASE, whole)
    delta = save(client, "two", "delta")
    how = after(whole) | {"compression_format": "ARC_V2"}
    assert manager.hotload_and_wait("d1", BASE, delta, incremental_snapshot_metadata=how)
    assert held(manager) == delta


def test_a_load_stores_no_more_after_a_long_history(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    syncer = WeightSyncer(client, manager, "d1", BASE)
    stored: list[int] = []
    emulator.world.watchers.append(lambda _, bodies: stored.append(len(json.dumps(bodies, default=str))))

    def sync(name: str) -> int:
        stored.clear()
        syncer.save_and_hotload(name)
        return sum(stored)

    sync("base")
    first, *_, last = [sync(f"step-{number:02}") for number in range(20)]
    emulator.world.watchers.pop()
    assert last <= first + 40  # numbers have more digits
    assert len(emulator.platform.ledger.loads(emulator.account, "d1")) == 21


def test_files_last_as_long_as_a_row_or_a_replica_that_is_made_of_them(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    platform, blobs = emulator.platform, emulator.platform.blobs

    def load(name: str, previous: str | None) -> str:
        snapshot = save(client, name, "delta" if previous else "base")
        manager.hotload_and_wait(
            "d1", BASE, snapshot, incremental_snapshot_metadata=after(previous) if previous else None
        )
        return snapshot

    def there() -> int:
        return sum(blobs.exists(key) for key in keys)

    load("two", load("one", None))
    keys = [row.blob for row in platform.checkpoints.rows(attached(emulator))]
    platform.checkpoints.forget(attached(emulator))
    assert there() == len(keys) == 2
    load("three", None)
    assert there() == 0
    keys = [row.blob for row in platform.checkpoints.rows(attached(emulator))]
    platform.checkpoints.forget(attached(emulator))
    assert there() == len(keys) == 1
    manager.delete("d1")
    assert there() == 0


def test_a_status_has_exactly_the_fields_of_the_contract(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train(lora_rank=4)
    deploy(hot_load_trainer_job=attached(emulator))
    (fresh,) = status(http, emulator)["replicas"]
    assert (fresh["readiness"], fresh["current_snapshot_identity"], fresh["loaded_adapters"]) == (True, None, [])
    adapter = save(client, "a")
    assert manager.hotload_and_wait("d1", BASE, adapter)
    (pod,) = status(http, emulator)["replicas"]
    assert pod.pop("identity") == fresh["identity"]
    assert pod == {
        "readiness": True,
        "current_snapshot_identity": adapter,
        "loading_state": {"stage": "done", "target_snapshot_identity": adapter},
        "loaded_adapters": [{"identity": adapter, "status": "loaded"}],
        "supports_rdma_weight_sync": False,
        "rdma_weight_sync_enabled": False,
    }


Refusal = Callable[[FiretitanTrainingClient, DeploymentManager], tuple[str, dict[str, str] | None]]


def _unknown(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    return "nowhere-00000000", None


def _training_state(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    client.save_state("step-1").result()
    return "step-1", None


def _delta_as_base(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    return save(client, "d", "delta"), None


def _base_as_delta(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    return save(client, "b"), after(held(manager))


def _other_previous(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    skipped = save(client, "skipped", "delta")
    return save(client, "d", "delta"), after(skipped)


def _skipped_link(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    """The metadata names what is held, the bytes are against what was saved in between (FAILURES E10)."""
    save(client, "skipped", "delta")
    return save(client, "d", "delta"), after(held(manager))


def _unknown_format(client: FiretitanTrainingClient, manager: DeploymentManager) -> tuple[str, dict[str, str] | None]:
    return save(client, "d", "delta"), {**after(held(manager)), "compression_format": "arc_v9"}


def held(manager: DeploymentManager) -> str:
    return str(manager.hotload_check_status("d1", BASE)["replicas"][0]["current_snapshot_identity"])


@pytest.mark.parametrize(
    ("attempt", "says"),
    [
        (_unknown, "not found in GCS"),
        (_training_state, "training state"),
        (_delta_as_base, "without incremental_snapshot_metadata"),
        (_base_as_delta, "full snapshot"),
        (_other_previous, "the replica holds"),
        (_skipped_link, "hecksum"),
        (_unknown_format, "compression_format"),
    ],
)
def test_a_refused_snapshot_is_an_error_about_itself_and_leaves_what_was_served(
    emulator: Emulator,
    manager: DeploymentManager,
    deploy: Deploy,
    train: Train,
    http: httpx.Client,
    attempt: Refusal,
    says: str,
) -> None:
    client = train()
    model = deploy(hot_load_trainer_job=attached(emulator))
    good = save(client, "good")
    assert manager.hotload_and_wait("d1", BASE, good)
    before = fingerprints(emulator)
    identity, metadata = attempt(client, manager)
    assert not manager.hotload_and_wait("d1", BASE, identity, metadata)
    (pod,) = status(http, emulator)["replicas"]
    assert pod["current_snapshot_identity"] == good
    assert pod["loading_state"]["stage"] == "error"
    assert pod["loading_state"]["target_snapshot_identity"] == identity
    assert says in pod["loading_state"]["error"]
    assert fingerprints(emulator) == before
    assert manager.warmup(model, max_retries=1)
    assert emulator.platform.ledger.loads(emulator.account, "d1")[-1].error


def test_an_adapter_with_incremental_metadata_kills_the_replica(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train(lora_rank=4)
    deploy(hot_load_trainer_job=attached(emulator))
    assert manager.hotload_and_wait("d1", BASE, save(client, "a"))
    (before,) = status(http, emulator)["replicas"]
    assert not manager.hotload_and_wait("d1", BASE, save(client, "b"), after(held(manager)))
    (pod,) = status(http, emulator)["replicas"]
    assert "KeyError" in pod["loading_state"]["error"]
    assert pod["identity"] != before["identity"]
    assert pod["current_snapshot_identity"] is None


def test_a_failed_delta_in_place_spoils_what_is_served(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    good = save(client, "good")
    assert manager.hotload_and_wait("d1", BASE, good)
    before = fingerprints(emulator)
    emulator.quirks.set("hotload.delta_apply", "inplace", deployment="d1")
    identity, metadata = _skipped_link(client, manager)
    assert not manager.hotload_and_wait("d1", BASE, identity, metadata)
    assert held(manager) == good
    assert fingerprints(emulator) != before


def test_a_failed_first_load_makes_the_syncer_send_a_delta_as_base(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    syncer = WeightSyncer(client, manager, "d1", BASE)
    emulator.quirks.set("hotload.fail_next", True, times=1)
    for name, says in (("one", "Hotload failed"), ("two", "Hotload failed")):
        step(client)
        with pytest.raises(RuntimeError, match=says):
            syncer.save_and_hotload(name)
    sent = [json.loads(exchange.request) for exchange in emulator.journal.of("hot_load")]
    assert ["incremental_snapshot_metadata" in body for body in sent] == [False, False]
    syncer.reset_delta_chain()
    step(client)
    assert syncer.save_and_hotload("three") == held(manager)


def test_only_reset_prompt_cache_is_retried_without(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    emulator.quirks.set("hotload.reset_prompt_cache", "reject")
    assert manager.hotload_and_wait("d1", BASE, save(client, "one"))
    refused = http.post(HOT_LOAD, headers=headers(emulator), json={"identity": "x", "path": "gs://b"})
    assert (refused.status_code, "path: Extra inputs" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("quirk", "value", "seen"),
    [
        ("hotload.status_shape", "empty", lambda body: body["replicas"] == []),
        ("hotload.status_shape", "legacy", lambda body: "replicas" not in body),
        ("hotload.status_shape", "adapters", lambda body: bool(body["replicas"][0]["loaded_adapters"])),
        ("hotload.null_loading_state", True, lambda body: body["replicas"][0]["loading_state"] is None),
        ("hotload.manager_ready_after_s", 60.0, lambda body: body["replicas"] == []),
    ],
)
def test_switches_bend_the_status(
    emulator: Emulator,
    manager: DeploymentManager,
    deploy: Deploy,
    train: Train,
    http: httpx.Client,
    quirk: str,
    value: object,
    seen: Callable[[dict[str, Any]], bool],
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    assert manager.hotload_and_wait("d1", BASE, save(client, "one"))
    assert not seen(status(http, emulator))
    with emulator.quirks.set(quirk, value):
        assert seen(status(http, emulator))
    assert not seen(status(http, emulator))


def test_an_error_may_hide_its_target(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    train()
    deploy(hot_load_trainer_job=attached(emulator))
    manager.hotload("d1", BASE, "unknown")
    emulator.quirks.set("hotload.error_omits_target", True)
    assert "target_snapshot_identity" not in status(http, emulator)["replicas"][0]["loading_state"]


def test_an_early_load_crashes_a_replica_whose_manager_is_not_up(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    identity = save(client, "one")
    emulator.quirks.set("hotload.manager_ready_after_s", 60.0)
    manager.hotload("d1", BASE, identity)
    emulator.clock.advance(61)
    (pod,) = status(http, emulator)["replicas"]
    assert (pod["readiness"], pod["loading_state"]["stage"]) == (False, "error")
    info = manager.get("d1")
    assert info is not None
    assert info.state == "FAILED"


def test_a_slow_load_goes_on_after_the_client_gave_up(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    identity = save(client, "one")
    emulator.quirks.set("hotload.duration_s", 900.0)
    manager.hotload("d1", BASE, identity)
    (pod,) = status(http, emulator)["replicas"]
    assert (pod["current_snapshot_identity"], pod["loading_state"]["stage"]) == (None, "loading")
    emulator.clock.advance(901)
    assert held(manager) == identity


def test_a_second_replica_lags_behind_the_first(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator), min_replica_count=2, max_replica_count=2)
    emulator.quirks.set("hotload.lag_s", 30.0)
    identity = save(client, "one")
    assert manager.hotload_and_wait("d1", BASE, identity)
    assert [pod["current_snapshot_identity"] for pod in status(http, emulator)["replicas"]] == [identity, None]
    assert len(set(fingerprints(emulator))) == 2
    emulator.clock.advance(31)
    assert [pod["current_snapshot_identity"] for pod in status(http, emulator)["replicas"]] == [identity] * 2
    assert len(set(fingerprints(emulator))) == 1


def test_reattaching_rolls_the_replica_and_the_old_error_is_not_fatal(
    emulator: Emulator,
    manager: DeploymentManager,
    deploy: Deploy,
    train: Train,
    http: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = train()
    deploy(hot_load_trainer_job=attached(emulator))
    assert manager.hotload_and_wait("d1", BASE, save(first, "one"))
    (before,) = status(http, emulator)["replicas"]
    same = http.patch(
        f"/v1/accounts/{emulator.account}/deployments/d1?updateMask=hot_load_trainer_job",
        json={"hotLoadTrainerJob": attached(emulator)},
    )
    assert same.status_code == 200
    assert status(http, emulator)["replicas"][0]["identity"] == before["identity"]
    emulator.quirks.set("hotload.stale_error_reads", 1)
    second = train("t2")
    info = manager.reattach_trainer("d1", base_model=BASE, trainer_job_name=attached(emulator, "t2"), timeout_s=5)
    assert info.hot_load_trainer_job == attached(emulator, "t2")
    (rolled,) = status(http, emulator)["replicas"]
    assert rolled["identity"] != before["identity"]
    assert rolled["current_snapshot_identity"] is None
    assert rolled["loading_state"]["target_snapshot_identity"] == before["current_snapshot_identity"]
    assert rolled["loading_state"]["stage"] == "error"
    assert manager.hotload_and_wait("d1", BASE, save(second, "two"))


def test_a_patch_during_a_load_can_be_refused(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    client = train()
    deploy(hot_load_trainer_job=attached(emulator))
    emulator.quirks.set("hotload.duration_s", 60.0)
    emulator.quirks.set("deployments.patch_during_load", "reject")
    manager.hotload("d1", BASE, save(client, "one"))
    url = f"/v1/accounts/{emulator.account}/deployments/d1?updateMask=description"
    assert http.patch(url, json={"description": "x"}).status_code == 400
    emulator.clock.advance(61)
    status(http, emulator)
    assert http.patch(url, json={"description": "x"}).json()["description"] == "x"


def test_a_deployment_with_its_own_bucket_takes_snapshots_of_trainers_that_name_it(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client
) -> None:
    deploy()
    inside, outside = train("in", hot_load_deployment="d1"), train("out")
    assert manager.hotload_and_wait("d1", BASE, save(inside, "one"))
    assert not manager.hotload_and_wait("d1", BASE, save(outside, "two"))
    assert "Bucket mismatch" in status(http, emulator)["replicas"][0]["loading_state"]["error"]


def test_replicas_find_back_to_their_weights_when_the_emulator_restarts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from ftsim.compute.backend import TorchBackend

    folder = tmp_path_factory.mktemp("state")
    seen: list[list[str]] = []
    identity = ""
    for _ in range(2):
        with Emulator(TorchBackend(folder / "bases"), state_dir=folder / "state") as emulator:
            manager = DeploymentManager(api_key=emulator.api_key, base_url=emulator.url)
            if not seen:
                identity = _two_snapshots(emulator, manager)
            assert held(manager) == identity
            seen.append(fingerprints(emulator))
    assert seen[0] == seen[1]


def _two_snapshots(emulator: Emulator, manager: DeploymentManager) -> str:
    from fireworks.training.sdk import DeploymentConfig

    from tests.http.inference.conftest import SHAPE

    emulator.platform.jobs.create(emulator.account, JobSpec(BASE), "t1")
    base = f"{emulator.url}/training/v1/rlorTrainerJobs/{emulator.account}/t1"
    service = FiretitanServiceClient(base_url=base, api_key=emulator.api_key)
    client = service.create_training_client(base_model=BASE)
    manager.create_or_get(DeploymentConfig("d1", BASE, deployment_shape=SHAPE, hot_load_trainer_job=attached(emulator)))
    first = save(client, "one")
    assert manager.hotload_and_wait("d1", BASE, first)
    second = save(client, "two", "delta")
    assert manager.hotload_and_wait("d1", BASE, second, after(first))
    service.close()
    return second


@pytest.mark.parametrize("transition", ["ASYNC", "SYNC"])
def test_a_stream_outlives_a_load_and_is_of_one_policy_only_with_sync(
    emulator: Emulator, manager: DeploymentManager, deploy: Deploy, train: Train, http: httpx.Client, transition: str
) -> None:
    client = train()
    model = deploy(hot_load_trainer_job=attached(emulator), hot_load_transition_type=transition)
    for _ in range(8):
        step(client)
    snapshot = save(client, "one")
    length = 400
    asked = {
        "model": model,
        "prompt": [300, 301],
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": True,
    }
    old = rows(http.post("/v1/completions", json=asked).json())
    chunks: list[Any] = []
    with ThreadPoolExecutor(1) as pool, http.stream("POST", "/v1/completions", json={**asked, "stream": True}) as said:
        loading = None
        for line in said.iter_lines():
            if line.startswith("data: {"):
                chunks.append(json.loads(line.removeprefix("data: ")))
                loading = loading or pool.submit(manager.hotload_and_wait, "d1", BASE, snapshot)
        assert loading is not None
        assert loading.result(60)
    mixed = [row for chunk in chunks for row in rows(chunk)]
    assert len(mixed) == length
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert mixed[0] == old[0]
    assert (mixed == old) is (transition == "SYNC")
    assert (rows(http.post("/v1/completions", json=asked).json())[0] == old[0]) is False


def rows(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    return list((chunk["choices"][0]["logprobs"] or {}).get("content", ()))


@pytest.mark.parametrize("path", ["/inference/v1/completions", "/inference/v1/chat/completions"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_stream_names_the_snapshot_that_answers(
    emulator: Emulator,
    manager: DeploymentManager,
    deploy: Deploy,
    train: Train,
    http: httpx.Client,
    platform: str,
    path: str,
) -> None:
    emulator.move_to(platform)
    try:
        client = train()
        name = deploy(hot_load_trainer_job=attached(emulator))
        asked = {"prompt": "a"} if path.endswith("v1/completions") else {"messages": [{"role": "user", "content": "a"}]}
        body = {"model": name, "max_tokens": 2, "stream": True, **asked}

        def models() -> set[str]:
            text = http.post(path, json=body).text
            lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
            return {json.loads(line)["model"] for line in lines}

        assert models() == {name}
        snapshot = WeightSyncer(client, manager, "d1", BASE).save_and_hotload("one")
        assert models() == {name if platform == "2026-04" else f"{BASE}@{snapshot}"}
        with emulator.quirks.set("inference.stream_model", "deployment", deployment="d1"):
            assert models() == {name}
    finally:
        emulator.move_to("2026-11")
