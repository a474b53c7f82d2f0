"""Endpoints and fields are declared once: what is served, described, selected and shown comes from the same rows."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from emulator.core import endpoints
from emulator.core.endpoints import ENDPOINTS, Callers, Endpoint
from emulator.http import tables
from emulator.http.openapi import with_examples
from tests.http import exchanges

ROOT = Path(__file__).parents[2]
KEPT = exchanges.load()
EMPTY_PATH = dict.fromkeys(("job", "owner", "session", "model", "deployment", "checkpoint", "operation", "shape"), "x")


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with exchanges.running() as client:
        yield client


@pytest.fixture(scope="module")
def told(http: httpx.Client) -> dict[str, dict[str, Any]]:
    return exchanges.tell(http)


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    return dict(http.get("/_ftsim/openapi.json").json())


def described(document: dict[str, Any], one: Endpoint) -> dict[str, Any]:
    return dict(document["paths"][one.path][one.method.lower()])


def errors(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    whole = {**schema, "components": document["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def shape(value: object) -> object:
    """The keys and the types of JSON, without what they say."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def test_operations_and_paths_are_named_once() -> None:
    assert not [name for name, times in Counter(one.operation for one in ENDPOINTS).items() if times > 1]
    assert not [place for place, times in Counter((one.method, one.path) for one in ENDPOINTS).items() if times > 1]


def test_an_exchange_is_kept_of_every_endpoint() -> None:
    assert set(KEPT) == {one.operation for one in ENDPOINTS}


@pytest.mark.parametrize("one", ENDPOINTS, ids=lambda one: one.operation)
def test_what_is_kept_is_what_is_answered(told: dict[str, dict[str, Any]], one: Endpoint) -> None:
    kept, now = KEPT[one.operation], told[one.operation]
    assert {key: kept[key] for key in kept if key not in ("path", "query", "request", "answer")} == {
        key: now[key] for key in now if key not in ("path", "query", "request", "answer")
    }
    if one.operation not in ("read_state", "read_journal"):  # they tell of all that was asked before
        assert shape(kept.get("answer")) == shape(now.get("answer"))
    assert shape(kept.get("request")) == shape(now.get("request"))


@pytest.mark.parametrize("one", ENDPOINTS, ids=lambda one: one.operation)
def test_the_document_describes_what_is_asked_and_answered(document: dict[str, Any], one: Endpoint) -> None:
    kept, operation = KEPT[one.operation], described(document, one)
    assert operation["operationId"] == one.operation
    assert operation["description"], "the handler's docstring says what the endpoint does"
    if "request" in kept:
        assert not errors(document, operation["requestBody"]["content"]["application/json"]["schema"], kept["request"])
    answer = operation["responses"]["200" if kept["status"] == 200 else "default"]
    if isinstance(kept.get("answer"), dict):
        assert not errors(document, answer["content"]["application/json"]["schema"], kept["answer"])
    known = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
    assert set(kept.get("query", ())) <= known


def test_the_kept_exchanges_are_the_documents_examples(document: dict[str, Any]) -> None:
    shown = with_examples(document, KEPT)["paths"]["/v1/accounts/{account}/rlorTrainerJobs"]["post"]
    assert shown["requestBody"]["content"]["application/json"]["example"] == KEPT["create_job"]["request"]
    assert shown["responses"]["200"]["content"]["application/json"]["example"] == KEPT["create_job"]["answer"]


@pytest.mark.parametrize("one", ENDPOINTS, ids=lambda one: one.operation)
def test_a_path_finds_its_row_again(one: Endpoint) -> None:
    path = KEPT[one.operation]["path"]
    name, ids = endpoints.endpoint(one.method, path)
    assert name == one.name
    wanted = {"job", "owner", "session", "deployment", "checkpoint"} & set(one.parameters)
    assert len(ids) == len(wanted)


@pytest.mark.parametrize("one", ENDPOINTS, ids=lambda one: one.operation)
def test_who_may_call_is_what_the_row_says(http: httpx.Client, one: Endpoint) -> None:
    path = one.path.format(**{name: "x" for name in one.parameters} | {"account": "somebody"})
    without = httpx.request(one.method, f"{http.base_url}{path}")
    assert (without.status_code == 401) == (one.callers is not Callers.ANYONE)
    if one.callers is Callers.ACCOUNT:
        refused = http.request(one.method, path)
        assert refused.status_code == 403
        assert "belongs to account 'local'" in refused.text


def test_a_key_for_inference_only_may_call_what_the_rows_say(http: httpx.Client) -> None:
    http.post("/_ftsim/quirks", json={"name": "auth.inference_only", "value": True})
    try:
        for one in ENDPOINTS:
            path = one.path.format(**{name: "x" for name in one.parameters} | {"account": "local"})
            if one.callers not in (Callers.CONTROL, Callers.ANYONE):
                refused = "for inference only" in http.request(one.method, path).text
                assert refused == (one.callers is not Callers.INFERENCE), one
    finally:
        http.delete("/_ftsim/quirks")


def test_the_wire_page_has_the_tables_of_today() -> None:
    page = (ROOT / "docs" / "wire.md").read_text("utf-8")
    assert tables.written(page) == page, "python -m emulator.http.tables"


def grown(tmp_path: Path, program: str, **additions: tuple[str, str, str]) -> str:
    """The lines printed by a program on a copy whose files hold more: (file, mark, text before the mark)."""
    for package in ("emulator", "tests", "fixtures"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, mark, text in additions.values():
        source = (tmp_path / file).read_text("utf-8")
        assert source.count(mark) == 1, f"{mark!r} stands {source.count(mark)} times in {file}"
        (tmp_path / file).write_text(source.replace(mark, text + mark), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


NEW_FIELD = """
from emulator.core.settings import settings
from emulator.state.settings import DeploymentSettings
from tests.http.exchanges import KEPT_DEPLOYMENT as body, running
with running() as http:
    place = "/v1/accounts/local/deployments"
    made = http.post(place, params={"deploymentId": "d1"}, json={**body, "coolDown": 8})
    changed = http.patch(f"{place}/d1", params={"updateMask": "cool_down"}, json={"coolDown": 9})
    wrong = http.patch(f"{place}/d1", json={"coolDown": "soon"})
    print(made.json()["coolDown"], changed.json()["coolDown"], wrong.status_code)
    listed = http.get("/_ftsim/openapi.json").json()["components"]["schemas"]["DeploymentBody"]["properties"]
    print(listed["coolDown"]["type"])
    print(http.get(f"{place}/d1").json()["coolDown"])
"""


def test_a_field_of_a_deployment_is_added_in_one_file_and_acts_in_another(tmp_path: Path) -> None:
    declared = (
        "emulator/state/settings.py",
        "    for_training: bool",
        "    cool_down: int = setting(0, changeable=True)\n",
    )
    mark = "        deployment.updated = self._world.clock.now()\n        if (low"
    acting = ("emulator/platform/deployments/deployments.py", mark, "        deployment.cool_down += 1\n")
    out = grown(tmp_path, NEW_FIELD, declared=declared, acting=acting)
    assert out.split("\n")[:3] == ["8 10 400", "integer", "10"]


NEW_JOB_FIELDS = """
from tests.http.exchanges import running
with running() as http:
    place = "/v1/accounts/local/rlorTrainerJobs"
    training = {"baseModel": "accounts/fireworks/models/qwen3-8b", "warmUp": 3}
    made = http.post(place, params={"rlorTrainerJobId": "j1"}, json={"trainingConfig": training, "cool_down": 8})
    plain = http.post(place, json={"trainingConfig": {"baseModel": training["baseModel"]}}).json()
    wrong = [http.post(place, json={"trainingConfig": {**training, "warmUp": "soon"}}),
             http.post(place, json={"trainingConfig": training, "coolDown": "soon"})]
    print(made.json()["coolDown"], made.json()["trainingConfig"]["warmUp"], "cool_down" in made.json())
    print("coolDown" in plain, plain["trainingConfig"]["warmUp"], *[one.status_code for one in wrong])
    schemas = http.get("/_ftsim/openapi.json").json()["components"]["schemas"]
    told = schemas["CreateJob"]["properties"]["coolDown"], schemas["TrainingConfig"]["properties"]["warmUp"]
    print(*[one["type"] for one in told])
    print(http.get(f"{place}/j1").json()["coolDown"], http.get(place).json()["rlorTrainerJobs"][0]["coolDown"])
"""


def test_fields_of_a_job_are_added_in_one_file_and_act_in_another(tmp_path: Path) -> None:
    declared = (
        "emulator/state/settings.py",
        "    forward_only: bool",
        "    cool_down: int = setting(0)\n    warm_up: int = setting(2, within=TRAINING, shown='always')\n",
    )
    mark = "            self._enter(job, PENDING if"
    acting = ("emulator/platform/jobs/jobs.py", mark, "            job.cool_down *= job.warm_up\n")
    out = grown(tmp_path, NEW_JOB_FIELDS, declared=declared, acting=acting)
    assert out.split("\n")[:4] == ["24 3 False", "False 2 400 400", "integer integer", "24 24"]


NEW_ENDPOINT = """
from emulator.core.endpoints import NAMES
from tests.http.exchanges import running
with running() as http:
    http.post("/v1/accounts/local/rlorTrainerJobs", params={"rlorTrainerJobId": "j1", "skipValidations": "true"},
              json={"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}})
    place = "/v1/accounts/local/rlorTrainerJobs/j1:greet"
    print(http.post(place, json={"greeting": "hello"}).json())
    print("greet_job" in NAMES, http.get("/_ftsim/journal").json()["exchanges"][-1]["endpoint"])
    where = {"endpoint": "greet_job", "job": "j1"}
    http.post("/_ftsim/quirks", json={"name": "http.fail", "value": 503, "where": where})
    print(http.post(place, json={}).status_code, httpx.post(f"{http.base_url}{place}").status_code)
    path = "/v1/accounts/{account}/rlorTrainerJobs/{job}:greet"
    print(http.get("/_ftsim/openapi.json").json()["paths"][path]["post"]["operationId"])
""".replace("from tests", "import httpx\nfrom tests", 1)


def test_an_endpoint_is_added_in_four_files(tmp_path: Path) -> None:
    row = (
        "emulator/core/endpoints.py",
        "        GET    /rlorTrainerJobs/{owner}/checkpoints ",
        "        POST   /rlorTrainerJobs/{job}:greet    greet_job\n",
    )
    rule = (
        "emulator/platform/jobs/jobs.py",
        "    def preempt(self",
        "    def greet(self, account: str, job_id: str, greeting: str) -> str:\n"
        "        return f'{greeting}, {self.get(account, job_id).name}'\n\n",
    )
    handler = (
        "emulator/http/control/jobs.py",
        "def _target(request",
        "class Greet(Body):\n    greeting: str = 'good day'\n\n\n"
        "@router.serve('greet_job', body=Greet)\n"
        "async def greet(request: Request) -> Response:\n    '''Greet a job.'''\n"
        "    sent, _ = await read_body(request, Greet)\n"
        "    return Reply({'said': platform_of(request).jobs.greet(**_target(request), greeting=sent.greeting)})\n\n\n",
    )
    out = grown(tmp_path, NEW_ENDPOINT, row=row, rule=rule, handler=handler).split("\n")
    assert out[0] == "{'said': 'hello, accounts/local/rlorTrainerJobs/j1'}"
    assert out[1:4] == ["True greet_job", "503 401", "greet_job"]
