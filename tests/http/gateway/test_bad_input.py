"""Input that cannot be right, through the vendor's client on real models: refused with what to do, nothing is left."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import FireworksClient, TrainerJobConfig, TrainerJobManager
from fireworks.training.sdk.client import FiretitanServiceClient

import ftsim
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests.doubles import BASE
from tests.http.gateway.conftest import Wire, datum, gateway
from tests.sdk import RequestFailedError, types

RANKS = {"full": 0, "small": 4, "large": 8}
LIMIT = 64 * 1024
BAD_NAMES = ["../up", "..", "/etc/passwd", "a/b", "nul\0byte", "x" * 300, ".hidden", "two words", "%2e%2e", "ü"]


class Stand:
    """Three jobs with a client each, and one row of every kind."""

    def __init__(self, emu: Emulator) -> None:
        self.emu = emu
        self.manager = TrainerJobManager(api_key=emu.api_key, base_url=emu.url)
        self.control = FireworksClient(api_key=emu.api_key, base_url=emu.url)
        self.services: dict[str, Any] = {}
        self.clients: dict[str, Any] = {}
        for job, rank in RANKS.items():
            emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE, lora_rank=rank), job)
            self.services[job] = FiretitanServiceClient(base_url=gateway(emu, job), api_key=emu.api_key)
            self.clients[job] = self.services[job].create_training_client(base_model=BASE, lora_rank=rank)
            self.clients[job].save_state("state").result()
        self.sampler = self.clients["full"].save_weights_for_sampler_ext("whole", checkpoint_type="base").snapshot_name
        adapter = self.clients["large"].save_weights_for_sampler_ext("adapter", checkpoint_type="base").snapshot_name
        row = f"accounts/{emu.account}/rlorTrainerJobs/large/checkpoints/{adapter}"
        self.control.promote_checkpoint(name=row, output_model_id="adapter", base_model=BASE)

    def kept(self) -> tuple[object, ...]:
        """Everything that a refusal must leave as it was."""
        world, root = self.emu.world, self.emu.platform.blobs.root
        names = [entity.name for table in (world.jobs, world.checkpoints, world.models) for entity in table]
        return names, sorted(str(path) for path in root.rglob("*"))


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with ftsim.Emulator(state_dir=tmp_path_factory.mktemp("state"), body_limit=LIMIT) as emu:
        made = Stand(emu)
        yield made
        for service in made.services.values():
            service.close()


@pytest.fixture
def unchanged(stand: Stand) -> Iterator[Stand]:
    """The stand; afterwards it must hold what it held before, and the models must still train."""
    before = stand.kept()
    yield stand
    assert stand.kept() == before
    for client in stand.clients.values():
        assert client.forward([datum(1, 2, 3)], "cross_entropy").result().metrics["loss:sum"] > 0


def promote(stand: Stand, checkpoint: str, base: str = BASE) -> object:
    name = f"accounts/{stand.emu.account}/rlorTrainerJobs/full/checkpoints/{checkpoint}"
    return stand.control.promote_checkpoint(name=name, output_model_id="never", base_model=base)


def step(stand: Stand, job: str, *tokens: int, loss: str = "cross_entropy") -> object:
    return stand.clients[job].forward_backward([datum(*tokens)], loss).result()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: step(s, "full", 1, 2, 10**6), "token 1000000 is outside the vocabulary of 2048: use its tokenizer"),
        (lambda s: step(s, "large", 1, 2, -5), "token -5 is outside the vocabulary"),
        (lambda s: step(s, "full", 1, 2, 2**40), "outside the vocabulary"),
        (lambda s: step(s, "full", 1, 2, loss="magic"), "unknown loss_fn 'magic'; known ones are"),
        (lambda s: s.clients["full"].optim_step(types.AdamParams(learning_rate=-1.0)).result(), "learning_rate"),
        (
            lambda s: s.services["large"].create_training_client(base_model=BASE, lora_rank=16),
            "rank 16, but trainer was initialized with 8: create the client with lora_rank 8",
        ),
        (lambda s: s.services["large"].create_training_client(base_model=BASE, lora_rank=0), "or the job with"),
        (lambda s: s.clients["full"].load_state(s.sampler).result(), "load one that save_state wrote"),
        (lambda s: s.clients["small"].load_state("cross_job://large/state").result(), "with lora_rank 8"),
        (lambda s: s.clients["small"].load_state("cross_job://full/state").result(), "with lora_rank 0"),
        (lambda s: s.clients["full"].load_state("missing").result(), "a name that its list_checkpoints returns"),
        (lambda s: s.clients["full"].load_state("cross_job://nobody/state").result(), "short id of a job"),
        (lambda s: s.clients["small"].load_adapter("accounts/local/models/adapter").result(), "train with lora_rank 8"),
        (lambda s: s.clients["small"].load_adapter(BASE).result(), "not a LoRA add-on"),
        (lambda s: s.clients["small"].load_adapter("../../etc").result(), "expected accounts/<account>/models/<id>"),
    ],
)
def test_a_bad_operation_fails_its_future(unchanged: Stand, ask: Callable[[Stand], object], says: str) -> None:
    with pytest.raises(RequestFailedError) as refused:
        ask(unchanged)
    assert says in str(refused.value)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_no_name_is_saved_nowhere(unchanged: Stand, name: str) -> None:
    client = unchanged.clients["full"]
    for save in (
        lambda: client.save_state(name).result(),
        lambda: client.save_weights_for_sampler_ext(name, checkpoint_type="base"),
    ):
        with pytest.raises(RequestFailedError, match=r"invalid checkpoint name .* use 1 to 128 letters, digits"):
            save()  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError):
        client.load_state(name).result()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.manager.create(TrainerJobConfig(base_model="accounts/fireworks/models/none")), "NAME=FOLDER"),
        (
            lambda s: s.manager.create(TrainerJobConfig(base_model="accounts/local/models/adapter", lora_rank=8)),
            f"use {BASE} as base_model",
        ),
        (
            lambda s: s.manager.create(
                TrainerJobConfig(base_model=BASE, training_shape_ref=f"{SHAPES}/none/versions/v1")
            ),
            "check the name, and the version, in the list of training shapes",
        ),
        (lambda s: promote(s, "state"), "not promotable"),
        (lambda s: promote(s, ".."), "a name that its list_checkpoints returns"),
        (lambda s: promote(s, "x" * 300), "a name that its list_checkpoints returns"),
        (lambda s: promote(s, s.sampler, "accounts/fireworks/models/qwen3-4b"), BASE),
    ],
)
def test_a_bad_request_is_refused_with_what_to_do(unchanged: Stand, ask: Callable[[Stand], object], says: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        ask(unchanged)
    assert says in str(refused.value)


SHAPES = "accounts/fireworks/trainingShapes"
SUBMITTED = {"model_id": "m", "seq_id": 1}
DATUM = {"model_input": {"chunks": [{"tokens": [1, 2]}]}, "loss_fn_inputs": {}}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"model_id": "m", "adam_params": {"learning_rate": NaN}}', 400, "not JSON"),
        (b'{"model_id": "m", "adam_params": {"learning_rate": 1e999}}', 400, "not JSON"),
        (b"[1, 2]", 400, "must be a JSON object"),
        (b'{"model_id": "m"', 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (json.dumps({**SUBMITTED, "pad": "x" * LIMIT}).encode(), 413, "send fewer datums per call"),
    ],
)
def test_what_no_client_would_write_is_refused_in_the_envelope(
    unchanged: Stand, body: bytes, status: int, says: str
) -> None:
    url = f"{gateway(unchanged.emu, 'full')}/api/v1/optim_step"
    answer = httpx.post(url, content=body, headers={"X-Api-Key": unchanged.emu.api_key})
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "message", "details"}
    assert says in answer.json()["message"]


def test_a_body_that_grows_past_the_limit_is_cut_off(unchanged: Stand) -> None:
    url = f"{gateway(unchanged.emu, 'full')}/api/v1/optim_step"
    pieces = (b"x" * 4096 for _ in range(LIMIT // 4096 + 2))
    answer = httpx.post(url, content=pieces, headers={"X-Api-Key": unchanged.emu.api_key})
    assert (answer.status_code, answer.json()["code"]) == (413, 3)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["NaN", "NaN"], "flat list of numbers"),
        ([None, 1.0], "flat list of numbers"),
        ([1e39, 1.0], "NaN or infinity"),
    ],
)
def test_a_weight_that_is_no_number_fails_its_future(unchanged: Stand, values: list[object], says: str) -> None:
    """The vendor's client cannot write these: it refuses NaN before it sends."""
    tensors = {"target_tokens": {"data": [1, 2], "dtype": "int64"}, "weights": {"data": values, "dtype": "float32"}}
    batch = {"data": [DATUM | {"loss_fn_inputs": tensors}], "loss_fn": "cross_entropy"}
    with httpx.Client(base_url=unchanged.emu.url, headers={"X-Api-Key": unchanged.emu.api_key}) as http:
        answer = Wire(http, "full").run("forward_backward", 1, forward_backward_input=batch)
    assert answer["category"] == "user"
    assert says in str(answer["error"])
