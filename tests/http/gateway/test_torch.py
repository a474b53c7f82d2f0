"""The vendor's client, the gateway and real models together (WIRE 9, items 3 and 7)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fireworks.training.sdk import FireworksClient
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

import ftsim
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests.doubles import BASE
from tests.http.gateway.conftest import gateway
from tests.sdk import RequestFailedError, types

TEXT = [[17, 42, 99, 7, 23, 5, 61, 8], [3, 3, 8, 1, 90, 2]]
DATA = [
    types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[len(tokens) - 1]),
            "weights": types.TensorData(data=[1.0] * (len(tokens) - 1), dtype="float32", shape=[len(tokens) - 1]),
        },
    )
    for tokens in TEXT
]


@pytest.fixture(scope="module")
def emu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with ftsim.Emulator(state_dir=tmp_path_factory.mktemp("state")) as emulator:
        yield emulator


@pytest.fixture
def connect(emu: Emulator) -> Iterator[Callable[[str, int], FiretitanTrainingClient]]:
    services = []

    def open_client(job_id: str, rank: int) -> FiretitanTrainingClient:
        if f"accounts/{emu.account}/rlorTrainerJobs/{job_id}" not in emu.world.jobs:
            emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE, lora_rank=rank), job_id)
        service = FiretitanServiceClient(base_url=gateway(emu, job_id), api_key=emu.api_key)
        services.append(service)
        return service.create_training_client(base_model=BASE, lora_rank=rank)

    yield open_client
    for service in services:
        service.close()


def train(client: FiretitanTrainingClient, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        losses.append(client.forward_backward(DATA, "cross_entropy").result().metrics["loss:sum"])
        client.optim_step(
            types.AdamParams(learning_rate=1e-3), grad_accumulation_normalization="num_loss_tokens"
        ).result()
    return losses


def logprobs(client: FiretitanTrainingClient) -> list[float]:
    outputs = client.forward(DATA, "cross_entropy").result().loss_fn_outputs
    return [value for output in outputs for value in output["logprobs"].data]


@pytest.mark.parametrize("rank", [0, 8])
def test_a_run_resumes_bit_for_bit_on_a_new_trainer(
    emu: Emulator, connect: Callable[[str, int], FiretitanTrainingClient], rank: int
) -> None:
    job = f"resume-{rank}"
    client = connect(job, rank)
    before = train(client, 3)
    client.save_state("step-3").result()
    client.save_weights_for_sampler_ext("step-3", checkpoint_type="base")
    expected, ended = train(client, 3), logprobs(client)
    assert expected[-1] < before[0]
    emu.platform.jobs.preempt(emu.account, job)
    emu.platform.jobs.resume(emu.account, job)
    again = connect(job, rank)
    again.load_state_with_optimizer("step-3").result()
    assert (train(again, 3), logprobs(again)) == (expected, ended)
    again.load_state("step-3").result()
    assert train(again, 3) != expected
    kinds = [
        row["checkpointType"] for row in FireworksClient(api_key=emu.api_key, base_url=emu.url).list_checkpoints(job)
    ]
    lora = ["CHECKPOINT_TYPE_TRAINING_LORA", "CHECKPOINT_TYPE_INFERENCE_LORA"]
    assert kinds == (lora if rank else ["CHECKPOINT_TYPE_TRAINING", "CHECKPOINT_TYPE_INFERENCE_BASE"])


def test_a_bad_datum_leaves_the_real_model_untouched(connect: Callable[[str, int], FiretitanTrainingClient]) -> None:
    client = connect("bad", 0)
    before = logprobs(client)
    bad = types.Datum(model_input=types.ModelInput.from_ints([1, 2]), loss_fn_inputs={})
    with pytest.raises(RequestFailedError, match="missing required field 'target_tokens'"):
        client.forward_backward([*DATA, bad], "cross_entropy").result()
    client.optim_step(types.AdamParams(learning_rate=1.0)).result()
    assert logprobs(client) == before


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("rank", [0, 8])
def test_a_full_disk_is_a_clear_failure_and_earlier_checkpoints_stay(
    emu: Emulator, connect: Callable[[str, int], FiretitanTrainingClient], monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    client = connect(f"disk-{rank}", rank)
    client.save_state("step-0").result()
    stage = emu.platform.blobs.stage

    def stage_on_full_disk() -> Path:
        folder = stage()
        (folder / "__0_0.distcp").symlink_to(FULL)
        return folder

    with monkeypatch.context() as patch:
        patch.setattr(emu.platform.blobs, "stage", stage_on_full_disk)
        with pytest.raises(RequestFailedError, match=r"no space left on the disk .* earlier checkpoints are intact"):
            client.save_state("step-1").result()
    assert client.list_checkpoints() == ["step-0"]
    assert list((emu.platform.blobs.root / ".staging").iterdir()) == []
    client.load_state("step-0").result()
    client.save_state("step-1").result()
