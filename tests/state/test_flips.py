"""One flipped bit in any file of any kind of checkpoint, and every way to use it: nothing of it is ever served."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.backend import Backend
from emulator.server import Emulator
from ftsim.testing.wire import Wire
from tests.doubles import BASE, DictBackend
from tests.journal.test_journal import JOBS

SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-8b"
KINDS = {"full state", "LoRA state", "base", "delta", "adapter", "model", "add-on"}
PLAN = {"compression_format": "arc_v2", "checksum_format": "alder32"}
Way = Callable[["Victims", "Victim"], list[str]]


@dataclass(frozen=True)
class Victim:
    """A blob by what it holds; `name` is its row's id, or a model's full name."""

    kind: str
    name: str
    folder: Path
    files: tuple[str, ...]


class Victims:
    """A platform with a blob of every kind, and what its clients are told."""

    def __init__(self, emulator: Emulator, http: httpx.Client) -> None:
        self.emulator, self.http = emulator, http
        self._number = 0
        self._sequence: Counter[str] = Counter()
        self.full, self.lora = self._job("full", 0), self._job("lora", 4)
        for wire in (self.full, self.lora):
            self.run(wire, "save_weights", path="step-1")
            self.run(wire, "save_weights_for_sampler", path="b-00000001", checkpoint_type="base")
        self.run(self.full, "save_weights_for_sampler", path="d-00000001", checkpoint_type="delta")
        for job, row, model in (("full", "b-00000001", "m1"), ("lora", "b-00000001", "a1")):
            assert self.promote(job, row, model).status_code == 200
        for name in ("full", "lora"):
            self._deploy(name)
        assert self.hot_load("full", "b-00000001") == ""

    def _job(self, name: str, rank: int) -> Wire:
        body = {"trainingConfig": {"baseModel": BASE, "loraRank": rank}}
        self.http.post(JOBS, params={"rlorTrainerJobId": name}, json=body).raise_for_status()
        return Wire(self.http, name, lora_config={"rank": rank}) if rank else Wire(self.http, name)

    def _deploy(self, job: str) -> None:
        body = {
            "baseModel": BASE,
            "deploymentShape": SHAPE,
            "enableHotLoad": True,
            "minReplicaCount": 1,
            "hotLoadTrainerJob": f"accounts/local/rlorTrainerJobs/{job}",
        }
        made = self.http.post("/v1/accounts/local/deployments", params={"deploymentId": f"d-{job}"}, json=body)
        assert made.status_code == 200, made.text

    def promote(self, job: str, row: str, model: str) -> httpx.Response:
        body = {
            "output_model": f"accounts/local/models/{model}",
            "trainer_job_id": f"accounts/local/rlorTrainerJobs/{job}",
            "base_model": BASE,
        }
        return self.http.post(f"/v1/accounts/local/checkpoints/{row}:promote", json=body)

    def hot_load(self, job: str, row: str, previous: str = "") -> str:
        """Load a snapshot onto the job's deployment; what is wrong with it, "" when it is held now."""
        headers = {"fireworks-deployment": f"accounts/local/deployments/d-{job}", "fireworks-model": BASE}
        body: dict[str, Any] = {"identity": row}
        if previous:
            body["incremental_snapshot_metadata"] = {"previous_snapshot_identity": previous, **PLAN}
        self.http.post("/hot_load/v1/models/hot_load", headers=headers, json=body).raise_for_status()
        found = self.emulator.platform.deployments.get("local", f"d-{job}")
        assert found.pods[0].stage in ("done", "error")
        return found.pods[0].message

    def run(self, wire: Wire, verb: str, **body: object) -> str:
        """The error of a trainer's call, "" where there is none."""
        self._sequence[wire.model_id] += 1
        return str(wire.run(verb, self._sequence[wire.model_id], **body).get("error", ""))

    def load(self, wire: Wire, row: str) -> str:
        return self.run(wire, "load_weights", path=row, optimizer=True)

    def fresh(self) -> str:
        self._number += 1
        return f"n{self._number}"

    def all(self) -> list[Victim]:
        """Every blob there is."""
        world, blobs = self.emulator.world, self.emulator.platform.blobs
        found = []
        for row in world.checkpoints:
            job = row.owner.rsplit("/", 1)[1]
            sampler = {"b": "adapter" if job == "lora" else "base", "d": "delta"}
            kind = sampler.get(row.id[0], "LoRA state" if job == "lora" else "full state")
            found.append(Victim(kind, row.id, blobs.path(row.blob), tuple(row.digests)))
        for model in world.models:
            kind = "add-on" if model.id == "a1" else "model"
            found.append(Victim(kind, model.name, blobs.path(model.blob), tuple(model.digests)))
        return found

    def use(self, victim: Victim) -> list[str]:
        """Try everything that can be done with a blob; what each try was told, "" where it went well."""
        return WAYS[victim.kind](self, victim)

    def serve(self, name: str) -> str:
        answer = self.http.post("/inference/v1/completions", json={"model": name, "prompt": [1, 2], "max_tokens": 1})
        return "" if answer.status_code == 200 else answer.text

    def download(self, name: str) -> str:
        answer = self.http.get(f"/v1/{name}:getDownloadEndpoint")
        return "" if answer.status_code == 200 else answer.text

    def promoted(self, job: str, row: str) -> str:
        answer = self.promote(job, row, name := self.fresh())
        if answer.status_code == 200:
            self.http.delete(f"/v1/accounts/local/models/{name}").raise_for_status()
        return "" if answer.status_code == 200 else answer.text

    def resumed_from(self, name: str) -> str:
        """Load the adapter of a model into a trainer."""
        return self.run(self.lora, "load_adapter", adapter_path=name)


WAYS: dict[str, Way] = {
    "full state": lambda there, one: [there.load(there.full, one.name)],
    "LoRA state": lambda there, one: [there.load(there.lora, one.name)],
    "base": lambda there, one: [there.promoted("full", one.name), there.hot_load("full", one.name)],
    "delta": lambda there, one: [there.hot_load("full", one.name, "b-00000001")],
    "adapter": lambda there, one: [there.promoted("lora", one.name), there.hot_load("lora", one.name)],
    "model": lambda there, one: [there.serve(one.name), there.download(one.name)],
    "add-on": lambda there, one: [there.serve(one.name), there.download(one.name), there.resumed_from(one.name)],
}


def flips(there: Victims, count: int, seed: int) -> set[str]:
    """Flip one bit at a time, `count` times over all kinds; the kinds that were met."""
    chance, everything = random.Random(seed), there.all()
    assert {one.kind for one in everything} == KINDS
    for number in range(count):
        kind = sorted(KINDS)[number % len(KINDS)]
        victim = chance.choice([one for one in everything if one.kind == kind])
        name = chance.choice(victim.files)
        path = victim.folder / name
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        for said in there.use(victim):
            assert "damaged" in said, f"{victim.kind} was used with a flipped bit in {name}: {said!r}"
            assert f"{name} is not what was saved" in said
        path.write_bytes(whole)
    for victim in everything:
        assert [said for said in there.use(victim) if said] == [], victim
    return {path for one in everything for path in one.files}


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Victims]:
    backend: Backend = DictBackend(tmp_path / "base")
    if request.param == "torch":
        from ftsim.compute.backend import TorchBackend

        backend = TorchBackend(tmp_path / "bases")
    with (
        Emulator(backend, state_dir=tmp_path / "state") as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        yield Victims(emulator, http)


@pytest.mark.parametrize("opened", ["light"], indirect=True)
def test_nothing_with_a_flipped_bit_is_served(opened: Victims) -> None:
    flips(opened, 42, 1)


@pytest.mark.slow
@pytest.mark.parametrize("opened", ["torch"], indirect=True)
def test_nothing_of_a_thousand_flipped_bits_is_served(opened: Victims) -> None:
    """Real files: distributed checkpoints with an optimizer, safetensors, arc deltas, tokenizers, configurations."""
    names = flips(opened, 1000, 2)
    assert {"tokenizer.json", "chat_template.jinja", "adapter_config.json", "config.json", ".metadata"} <= names
