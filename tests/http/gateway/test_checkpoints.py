"""Saving and loading through the vendor's client (WIRE 9, items 7, 8, 16; FAILURES B and C)."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import FireworksClient
from fireworks.training.sdk.client import FiretitanTrainingClient

from emulator.server import Emulator
from emulator.state.entities import Job
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire, batch, datum
from tests.sdk import RequestFailedError, types

Connect = Callable[..., FiretitanTrainingClient]
ADAM = types.AdamParams(learning_rate=0.1)
DATA = [datum(1, 1, 2)]


def train(client: FiretitanTrainingClient, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        losses.append(client.forward_backward(DATA, "cross_entropy").result().metrics["loss:sum"])
        client.optim_step(ADAM).result()
    return losses


def rows(emu: Emulator, job_id: str = "j1") -> list[dict[str, Any]]:
    client = FireworksClient(api_key=emu.api_key, base_url=emu.url)
    return [{**row, "id": row["name"].rsplit("/", 1)[-1]} for row in client.list_checkpoints(job_id)]


@pytest.mark.parametrize(("rank", "kind"), [(0, "TRAINING"), (8, "TRAINING_LORA")])
def test_a_state_is_listed_when_its_save_returns(connect: Connect, emu: Emulator, rank: int, kind: str) -> None:
    client = connect(lora_rank=rank)
    train(client, 2)
    assert client.save_state("step-2").result().path == "step-2"
    assert client.list_checkpoints() == ["step-2"]
    (row,) = rows(emu)
    assert (row["id"], row["checkpointType"], row["promotable"]) == ("step-2", f"CHECKPOINT_TYPE_{kind}", False)


def test_loading_with_the_optimizer_continues_as_if_nothing_happened(connect: Connect) -> None:
    client = connect()
    train(client, 3)
    client.save_state("step-3").result()
    expected = train(client, 3)
    client.load_state_with_optimizer("step-3").result()
    assert train(client, 3) == expected
    client.load_state("step-3").result()
    fresh = train(client, 3)
    assert fresh[0] == expected[0]
    assert fresh[1:] != expected[1:]


@pytest.mark.parametrize(
    ("rank", "how", "kind"),
    [
        (0, "base", "INFERENCE_BASE"),
        (8, "base", "INFERENCE_LORA"),
        (8, "delta", "INFERENCE_LORA"),
        (8, "merged_base", "INFERENCE_BASE"),
    ],
)
def test_a_sampler_save_is_listed_under_its_suffixed_name(
    connect: Connect, emu: Emulator, rank: int, how: str, kind: str
) -> None:
    client = connect(lora_rank=rank)
    train(client, 1)
    saved = client.save_weights_for_sampler_ext("final", checkpoint_type=how)
    (row,) = rows(emu)
    assert row["id"] == saved.snapshot_name
    assert len(row["id"]) == len("final-") + 8
    assert (row["checkpointType"], row["promotable"]) == (f"CHECKPOINT_TYPE_{kind}", True)
    assert client.list_checkpoints() == []


def test_a_delta_of_a_full_model_is_no_model(connect: Connect, emu: Emulator) -> None:
    client = connect()
    client.save_weights_for_sampler_ext("one", checkpoint_type="base")
    train(client, 1)
    delta = client.save_weights_for_sampler_ext("two", checkpoint_type="delta")
    row = rows(emu)[1]
    assert (row["checkpointType"], row["promotable"]) == ("CHECKPOINT_TYPE_INFERENCE_ARC_V2", False)
    plane = FireworksClient(api_key=emu.api_key, base_url=emu.url)
    with pytest.raises(RuntimeError, match="HTTP 400"):
        plane.promote_checkpoint(
            name=f"accounts/local/rlorTrainerJobs/j1/checkpoints/{delta.snapshot_name}",
            output_model_id="m",
            base_model=BASE,
        )


def test_another_jobs_state_loads_also_after_that_job_was_deleted(connect: Connect, emu: Emulator) -> None:
    parent = connect("parent")
    train(parent, 3)
    parent.save_state("step-3").result()
    expected = train(parent, 2)
    emu.platform.jobs.delete(emu.account, "parent")
    child = connect("child")
    child.load_state_with_optimizer("cross_job://parent/step-3").result()
    assert train(child, 2) == expected


def test_an_april_client_loads_its_own_job_by_cross_job(wire: Wire) -> None:
    wire.run("save_weights", 1, path="step-0")
    assert wire.run("load_weights", 2, path="cross_job://j1/step-0", optimizer=True)["type"] == "load_weights"


def test_a_checkpoint_of_the_wrong_kind_rank_or_model_is_refused(connect: Connect, emu: Emulator) -> None:
    full, small, large = connect("full"), connect("small", 4), connect("large", 8)
    full.save_state("state").result()
    small.save_state("state").result()
    saved = small.save_weights_for_sampler_ext("weights", checkpoint_type="base")
    for client, path, says in (
        (small, saved.snapshot_name, "holds sampler weights"),
        (large, "cross_job://small/state", "has LoRA rank 4, the model has 8"),
        (small, "cross_job://full/state", "has LoRA rank 0, the model has 4"),
        (small, "missing", "not found"),
    ):
        with pytest.raises(RequestFailedError, match=says) as caught:
            client.load_state_with_optimizer(path).result()
        assert caught.value.category.value == "user"
    row = emu.world.checkpoints.get("accounts/local/rlorTrainerJobs/small/checkpoints/state")
    assert row is not None
    row.base_model = "accounts/a/models/b"
    with pytest.raises(RequestFailedError, match="is of accounts/a/models/b"):
        small.load_state("state").result()


def test_an_adapter_that_was_promoted_warm_starts_a_model(connect: Connect, emu: Emulator) -> None:
    teacher = connect("teacher", 8)
    train(teacher, 4)
    saved = teacher.save_weights_for_sampler_ext("final", checkpoint_type="base")
    FireworksClient(api_key=emu.api_key, base_url=emu.url).promote_checkpoint(
        name=f"accounts/local/rlorTrainerJobs/teacher/checkpoints/{saved.snapshot_name}",
        output_model_id="taught",
        base_model=BASE,
    )
    learned = teacher.forward(DATA, "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    pupil = connect("pupil", 8)
    pupil.load_adapter("accounts/local/models/taught").result()
    assert pupil.forward(DATA, "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data == pytest.approx(learned)
    other = connect("other", 4)
    for client, path, says in (
        (other, "accounts/local/models/taught", "has rank 8, the model 4"),
        (pupil, BASE, "not a LoRA add-on"),
        (pupil, "accounts/local/models/none", "not found"),
    ):
        with pytest.raises(RequestFailedError, match=says):
            client.load_adapter(path).result()


def test_a_state_under_a_taken_name_is_refused_unless_it_is_that_step_again(wire: Wire, emu: Emulator) -> None:
    wire.run("save_weights", 1, path="s")
    assert "error" not in wire.run("save_weights", 2, path="s")
    wire.run("optim_step", 3)
    assert "already exists" in str(wire.run("save_weights", 4, path="s")["error"])
    assert "already exists" in str(wire.run("save_weights_for_sampler", 5, path="s")["error"])
    assert [row["id"] for row in rows(emu)] == ["s"]
    with emu.quirks.set("save.on_duplicate", "overwrite"):
        assert "error" not in wire.run("save_weights", 6, path="s")
    assert [row["id"] for row in rows(emu)] == ["s"]
    assert len(list(emu.platform.blobs.root.glob("local/j1/*"))) == 1


def test_a_save_that_fails_leaves_nothing(
    wire: Wire, emu: Emulator, backend: DictBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(model_id: str, folder: Any) -> Any:
        from emulator.backend import SavedState

        (folder / ".metadata").write_text("half")
        return SavedState(1)

    trainer = emu.platform.trainers.of(emu.platform.jobs.get("local", "j1"))
    monkeypatch.setattr(trainer.backend, "save_state", torn)
    answer = wire.run("save_weights", 1, path="s")
    assert (answer["category"], "no whole checkpoint" in str(answer["error"])) == ("server", True)

    def full(model_id: str, folder: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer.backend, "save_state", full)
    assert "no space left on the disk" in str(wire.run("save_weights", 2, path="s")["error"])

    def interrupted(model_id: str, folder: Any) -> Any:
        raise BaseException("no exception that anybody catches")

    monkeypatch.setattr(trainer.backend, "save_state", interrupted)
    assert "no exception that anybody catches" in str(wire.run("save_weights", 3, path="s")["error"])
    assert rows(emu) == []
    assert list(emu.platform.blobs.root.glob("local/*/*")) == []
    assert list((emu.platform.blobs.root / ".staging").iterdir()) == []


@pytest.mark.parametrize(
    ("quirk", "value", "body", "says"),
    [
        ("names.enforce_on_save", True, {"path": "step_10"}, "invalid checkpoint name"),
        ("names.enforce_on_save", True, {"path": "x" * 64}, "invalid checkpoint name"),
        ("save.ttl", "min_3600", {"path": "s", "ttl_seconds": 60}, "use at least 3600"),
    ],
)
def test_stricter_saves_refuse(
    wire: Wire, emu: Emulator, quirk: str, value: object, body: dict[str, object], says: str
) -> None:
    emu.quirks.set(quirk, value)
    assert says in str(wire.run("save_weights", 1, **body)["error"])


def test_a_ttl_may_be_accepted(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("save.ttl", "accept")
    assert "error" not in wire.run("save_weights", 1, path="s", ttl_seconds=60)


@pytest.mark.parametrize(
    ("style", "path"), [("tinker_uri", "tinker://j1/weights/s"), ("gs_uri", "gs://emulator/j1/s"), ("logical", "s")]
)
def test_path_styles(wire: Wire, emu: Emulator, style: str, path: str) -> None:
    emu.quirks.set("save.path_style", style)
    assert wire.run("save_weights", 1, path="s")["path"] == path


def test_load_quirks(wire: Wire, emu: Emulator, backend: DictBackend) -> None:
    wire.run("save_weights", 1, path="s")
    with emu.quirks.set("load.first_request_only", True):
        assert wire.run("load_weights", 2, path="s")["error"] == "LoadWeights is not permitted with seq_id 2"
    with emu.quirks.set("dcp.durable_after_s", 60.0):
        assert "not found" in str(wire.run("load_weights", 3, path="cross_job://j1/s")["error"])
        assert "error" not in wire.run("load_weights", 4, path="s")
        emu.clock.advance(61)
        assert "error" not in wire.run("load_weights", 5, path="cross_job://j1/s")


def moment_after_load(wire: Wire, emu: Emulator, seq: int, **body: object) -> bool:
    """Tell whether the momentum of a step before the save moves the weights after the load."""
    wire.run("load_weights", seq, path="s", **body)
    before = wire.run("forward", seq + 1, forward_input=batch(1))["metrics"]
    wire.run("optim_step", seq + 2, adam_params={"learning_rate": 1.0})
    return bool(wire.run("forward", seq + 3, forward_input=batch(1))["metrics"] != before)


def test_what_a_load_does_with_the_optimizer_is_a_switch(wire: Wire, emu: Emulator) -> None:
    wire.run("forward_backward", 1, forward_backward_input=batch(1))
    wire.run("optim_step", 2)
    wire.run("save_weights", 3, path="s")
    assert moment_after_load(wire, emu, 4, optimizer=True)
    assert not moment_after_load(wire, emu, 8, optimizer=False)
    assert not moment_after_load(wire, emu, 12)
    with emu.quirks.set("load.default_optimizer", True):
        assert moment_after_load(wire, emu, 16)
    with emu.quirks.set("load.drop_optimizer", True):
        assert not moment_after_load(wire, emu, 20, optimizer=True)


def test_sampler_weights_as_a_state_used_to_kill_the_trainer(wire: Wire, emu: Emulator) -> None:
    wire.run("save_weights_for_sampler", 1, path="w")
    emu.quirks.set("load.sampler_path_kills_trainer", True)
    assert "holds sampler weights" in str(wire.run("load_weights", 2, path="w")["error"])
    assert emu.platform.jobs.get("local", "j1").state == "JOB_STATE_FAILED"
    assert wire.send("optim_step", {"model_id": wire.model_id, "seq_id": 3}).status_code == 404


def test_null_paths_and_slow_operations(wire: Wire, emu: Emulator) -> None:
    emu.quirks.set("sampler.return_null_path", True, times=1)
    assert wire.run("save_weights_for_sampler", 1, path="w")["path"] is None
    emu.quirks.set("save.duration_s", 0.2, job="j1")
    emu.quirks.set("optim.slow_s", 0.2, job="j1")
    wire.run("save_weights", 2, path="s")
    wire.run("optim_step", 3)
    slow = [exchange.seconds for exchange in emu.journal.of("retrieve_future")[-2:]]
    assert all(seconds > 0.15 for seconds in slow)


def test_weights_info_and_get_info(wire: Wire, http: httpx.Client, new_job: Callable[..., Job]) -> None:
    new_job("j2", lora_rank=4)
    lora = Wire(http, "j2", lora_config={"rank": 4})
    lora.run("save_weights", 1, path="s")
    assert lora.post("weights_info", {"tinker_path": "s"})["lora_rank"] == 4
    info = lora.post("get_info", {"model_id": lora.model_id})
    assert (info["is_lora"], info["lora_rank"], info["model_data"]["model_name"]) == (True, 4, BASE)
    wire.run("save_weights", 1, path="s")
    assert wire.post("weights_info", {"tinker_path": "s"}) == {"base_model": BASE, "is_lora": False}
