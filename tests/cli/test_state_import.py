"""`ftsim state import`: a client meets the incident that a saved listing is of, as `ftsim doctor --from` judges it."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import FireworksClient
from fireworks.training.sdk.client import FiretitanServiceClient
from typer.testing import CliRunner, Result

from emulator.server import Emulator
from ftsim.cli.main import app
from ftsim.inspect.doctor import judge
from ftsim.inspect.imported import imported
from ftsim.inspect.listing import parse
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire, gateway

JOB = "accounts/acme/rlorTrainerJobs/lost-run"
KINDS = {"t": "TRAINING", "b": "INFERENCE_BASE", "d": "INFERENCE_ARC_V2", "tl": "TRAINING_LORA", "l": "INFERENCE_LORA"}


def row(name: str, kind: str, created: str | None, **more: Any) -> dict[str, Any]:
    body = {"name": f"{JOB}/checkpoints/{name}", "checkpointType": f"CHECKPOINT_TYPE_{KINDS[kind]}"}
    stamped = body | ({"createTime": created} if created else {})
    return stamped | {"promotable": kind in ("b", "l")} | more


INCIDENT = [
    row("step-2", "t", "2026-10-01T10:00:00Z"),
    row("step-2-0a0a0a0a", "b", "2026-10-01T10:00:01.250Z"),
    row("step-4", "t", "2026-10-01T10:02:00.500Z"),
    row("step-4-0a0a0a0a", "d", "2026-10-01T10:02:01.500001Z"),
    row("step-3", "t", "2026-10-01T10:05:00Z"),  # the run went back to step-2 and took another way
    row("step-3-0b0b0b0b", "b", "2026-10-01T10:05:00.100Z"),
]


def succeeds(call: Callable[[], object]) -> bool:
    """Say whether the vendor's client gets what it asks for."""
    try:
        getattr(call(), "result", dict)()  # a future's error comes with its result
    except Exception:
        return False
    return True


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "base"), api_key="key") as emulator:
        yield emulator


def bring(emu: Emulator, listing: object, tmp_path: Path, *words: str) -> Result:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(listing), "utf-8")
    at = ("--url", emu.url, "--api-key", emu.api_key)
    return CliRunner().invoke(app, ["state", "import", str(file), *words, *at], prog_name="ftsim")


def test_a_client_is_refused_and_served_what_the_doctor_says(emu: Emulator, tmp_path: Path) -> None:
    result = bring(emu, {"checkpoints": INCIDENT, "nextPageToken": ""}, tmp_path)
    assert result.exit_code == 0, result.output
    assert "imported accounts/local/rlorTrainerJobs/lost-run, 6 rows" in result.output
    assert "ftsim run --quirk rows.time_precision=shortest@job=lost-run PROGRAM" in result.output
    found = judge(parse(json.dumps(INCIDENT)))
    with FireworksClient(api_key="key", base_url=emu.url) as client:
        rows = client.list_checkpoints("lost-run")
        for listed, given in zip(rows, INCIDENT, strict=True):
            assert {key: listed[key] for key in ("checkpointType", "promotable", "createTime")} == {
                key: given[key] for key in ("checkpointType", "promotable", "createTime")
            }
        assert judge(parse(json.dumps(rows))).troubles == found.troubles
        service = FiretitanServiceClient(base_url=gateway(emu, "lost-run"), api_key="key")
        training = service.create_training_client(base_model=BASE, lora_rank=0)
        for verdict in found.verdicts:
            load = partial(training.load_state_with_optimizer, verdict.row.id)
            assert succeeds(load) == verdict.resumable.startswith("yes"), verdict
            name = f"accounts/local/rlorTrainerJobs/lost-run/checkpoints/{verdict.row.id}"
            promote = partial(client.promote_checkpoint, name=name, output_model_id=verdict.row.id, base_model=BASE)
            assert succeeds(promote) == verdict.promotable.startswith("yes"), verdict
        service.close()
        assert [verdict.cut_off for verdict in found.verdicts] == [False, False, True, True, False, False]
        assert (found.resume_takes, found.promote_takes) == ("step-3", "step-3-0b0b0b0b")


def test_rows_without_files_are_listed_and_their_use_is_refused(emu: Emulator, tmp_path: Path) -> None:
    assert bring(emu, INCIDENT[:2], tmp_path, "--without-blobs").exit_code == 0
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as http:
        wire = Wire(http, "lost-run")
        assert "not found in GCS" in str(wire.run("load_weights", 1, path="step-2", optimizer=True)["error"])
        path = "/v1/accounts/local/rlorTrainerJobs/lost-run/checkpoints/step-2-0a0a0a0a:promote"
        refused = http.post(path, json={"output_model": "accounts/local/models/m", "base_model": BASE})
        assert 'checkpoint "step-2-0a0a0a0a" not found in GCS' in refused.json()["message"]


def test_rows_of_a_session_come_with_their_runs(emu: Emulator, tmp_path: Path) -> None:
    run, session = "run-" + "ab" * 16, "accounts/acme/trainingSessions/ts-1"
    rows = [
        {"name": f"{session}/checkpoints/{run}-{name}", "checkpointType": f"CHECKPOINT_TYPE_{kind}", "createTime": when}
        for name, kind, when in (
            ("step-1", "TRAINING_LORA", "2026-10-01T10:00:00.000001Z"),
            ("step-1-0a0a0a0a", "INFERENCE_LORA", "2026-10-01T10:00:00.000002Z"),
        )
    ]
    result = bring(emu, {"trainingSessionCheckpoints": rows}, tmp_path, "--lora-rank", "4")
    assert result.exit_code == 0, result.output
    assert result.output.count("rows.omit=") == 2  # neither says whether it can be promoted
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as http:
        listed = http.get("/v1/accounts/local/trainingSessions/ts-1/checkpoints").json()["trainingSessionCheckpoints"]
        assert [one["name"].rpartition("/")[2] for one in listed] == [f"{run}-step-1", f"{run}-step-1-0a0a0a0a"]
        assert ["promotable" in one for one in listed] == [False, False]
        api, body = "/training/v1/serverless/api/v1/", {"base_model": BASE, "lora_config": {"rank": 4}}

        def settled(verb: str, asked: dict[str, Any]) -> dict[str, Any]:
            accepted = http.post(api + verb, json=asked).json()
            return dict(http.post(api + "retrieve_future", json={"request_id": accepted["request_id"]}).json())

        opened = http.post(api + "create_session", json={}).json()["session_id"]
        model = settled("create_model", {"session_id": opened, "model_seq_id": 0, **body})["model_id"]
        path = f"local/{run}/step-1"
        assert "error" not in settled("load_weights", {"model_id": model, "seq_id": 1, "path": path, "optimizer": True})


def test_data_sets_and_managed_jobs_can_be_read(emu: Emulator, tmp_path: Path) -> None:
    listing = [
        {"datasets": [{"name": "accounts/acme/datasets/d1", "format": "CHAT", "exampleCount": "8"}], "totalSize": 1},
        {
            "name": "accounts/acme/supervisedFineTuningJobs/s1",
            "baseModel": BASE,
            "epochs": 3,
            "dataset": "accounts/acme/datasets/d1",
            "createTime": "2026-05-01T00:00:00Z",
        },
    ]
    result = bring(emu, listing, tmp_path)
    assert result.exit_code == 0, result.output
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as http:
        dataset = http.get("/v1/accounts/local/datasets/d1").json()
        assert (dataset["exampleCount"], dataset["state"]) == ("8", "READY")
        job = http.get("/v1/accounts/local/supervisedFineTuningJobs/s1").json()
        assert (job["epochs"], job["state"], job["createTime"]) == (
            3,
            "JOB_STATE_COMPLETED",
            "2026-05-01T00:00:00.000000Z",
        )
        assert job["dataset"] == "accounts/local/datasets/d1"
    again = bring(emu, listing, tmp_path)
    assert again.exit_code != 0
    assert "is there already" in again.output


@pytest.mark.parametrize(
    ("listing", "words", "said"),
    [
        ("nonsense", (), "no checkpoint rows in it"),
        (
            [INCIDENT[0], {**INCIDENT[1], "name": "accounts/a/rlorTrainerJobs/j2/checkpoints/x"}],
            (),
            "say which with --job",
        ),
        (INCIDENT, ("--job", "other"), "no row of it belongs to other"),
        ([INCIDENT[0], row("l", "l", None)], (), "of LoRA and of full-parameter"),
        (INCIDENT[:1], ("--base-model", "accounts/fireworks/models/nope"), "nope"),
    ],
)
def test_what_cannot_be_brought_in_is_refused_in_one_line_and_leaves_nothing(
    emu: Emulator, tmp_path: Path, listing: object, words: tuple[str, ...], said: str
) -> None:
    result = bring(emu, listing, tmp_path, *words)
    assert result.exit_code != 0
    assert said in result.output
    assert len(emu.world.jobs) == len(emu.world.checkpoints) == 0


ROW = {"id": "s", "checkpointType": "CHECKPOINT_TYPE_TRAINING"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rows": [{**ROW, "id": "../s"}]}, "row 1: give id"),
        ({"rows": [ROW, {**ROW, "id": "t", "step": 10**30}]}, "row 2: step"),
        ({"rows": [{**ROW, "createTime": "0001-01-01T00:00:00Z"}]}, "row 1: createTime"),
        ({"rows": [{**ROW, "createTime": "soon"}]}, "row 1: createTime"),
        ({"rows": [{**ROW, "checkpointType": "NEW"}]}, "row 1: checkpointType"),
        ({"rows": [ROW, ROW]}, "listed twice"),
        ({"lora_rank": -1}, "lora_rank"),
        ({"display_name": "d" * 64}, "display_name"),
        ({"collection": "models"}, "collection"),
        ({"id": "No Label"}, "invalid id"),
        ({"base_model": ""}, ""),
        ({"managed": [{"collection": "models", "id": "m", "body": {}}]}, "no collection"),
        ({"managed": [{"collection": "datasets", "id": "m"}]}, "give body"),
    ],
)
def test_an_import_that_cannot_be_is_refused_with_its_row(emu: Emulator, asked: dict[str, Any], said: str) -> None:
    body = {"id": "j1", "base_model": BASE, "rows": [ROW], **asked}
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as http:
        refused = http.post("/_ftsim/import", json=body)
        assert refused.status_code in (400, 404), refused.text
        assert said in refused.json()["message"]
        assert http.get("/v1/accounts/local/rlorTrainerJobs").json()["rlorTrainerJobs"] == []


def test_what_a_listing_has_that_cannot_be_there_is_told() -> None:
    rows = [
        row("step-1", "t", None),
        row("step-1", "t", None),
        row("odd", "t", "2026-10-01T10:00:00Z", checkpointType="CHECKPOINT_TYPE_NEW"),
        row("step-2", "d", "2026-10-01T10:00:01Z", promotable=True),
    ]
    made = imported(json.dumps({"checkpoints": rows, "nextPageToken": "more"}), base_model=BASE)
    assert [note.partition(":")[0].partition(" is ")[2][:12] for note in made.notes[:3]] == [
        "listed more ",
        "not brought ",
        "listed as pr",
    ]
    assert "next page" in made.notes[3]
    assert made.switches == [
        "rows.time_precision=shortest@job=lost-run",
        'rows.omit=["createTime"]@job=lost-run,checkpoint=step-1',
    ]
    assert [(one["id"], one["step"]) for one in made.body["rows"]] == [("step-1", 1), ("step-2", 2)]
