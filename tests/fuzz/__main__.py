"""`python -m tests.fuzz [SECONDS] [SEED]`: schemathesis over every route of an emulator that has something to lose.

No route may answer 5xx but the 501 of what is refused on purpose, and every answer must be what the OpenAPI document
says. Afterwards the emulator must still train. Loopback only; ends by itself.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from emulator.http.openapi import with_examples
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.exchanges import load
from tests.http.gateway.conftest import Wire
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CONFIG = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501]
"""
"""A method that schemathesis tries on a known path may be one of those that answer 501, in a sentence of their own."""
EXISTING = {
    "account": ["local"],
    "job": ["j1"],
    "owner": ["j1"],
    "model": ["m1"],
    "deployment": ["d1"],
    "checkpoint": ["step-2", "final"],
    "file": ["config.json", "..%2F..%2Fmetadata.sqlite"],
}


def main(seconds: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            Emulator(DictBackend(folder / "base"), state_dir=folder / "state") as emulator,
            httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
        ):
            model_id = furnish(http)
            document = http.get("/_ftsim/openapi.json").json()
            guide(with_examples(document, load()), model_id)
            (folder / "openapi.json").write_text(json.dumps(document))
            (folder / "schemathesis.toml").write_text(CONFIG)
            statuses = run(
                folder, emulator, seconds, seed, "--exclude-path-regex", "^/_ftsim/", "--exclude-method", "DELETE"
            )
            told = Counter(entry.status for entry in emulator.journal)
            print("answers of the platform:", dict(sorted(told.items())))
            removed = run(folder, emulator, max(5, seconds // 6), seed, "--exclude-path-regex", "^/_ftsim/")
            control = run(folder, emulator, max(5, seconds // 6), seed, "--include-path-regex", "^/_ftsim/")
            emulator.reset()
            train(http)
            print(f"{len(document['paths'])} paths; the emulator trains on")
    return statuses or removed or control


def furnish(http: httpx.Client) -> str:
    """A job with a model, rows, a promoted model and a deployment."""
    train(http)
    said = {"name": "datasets.writes", "value": "400"}  # a 501 on purpose is no failure to be found
    assert http.post("/_ftsim/quirks", json=said).status_code == 200
    body = {
        "baseModel": BASE,
        "acceleratorType": "NVIDIA_H200_141GB",
        "enableHotLoad": True,
        "minReplicaCount": 1,
        "description": "d",
    }
    made = http.post(
        "/v1/accounts/local/deployments",
        params={"deploymentId": "d1", "skipShapeValidation": "true", "acceptShapelessRisk": "true"},
        json={**body, "hotLoadTrainerJob": f"{JOBS[4:]}/j1"},
    )
    assert made.status_code == 200, made.text
    return str(Wire(http).model_id)


def guide(document: dict[str, Any], model_id: str) -> None:
    """Let generated requests often name what exists, else most would end at the first 404."""
    known_fields = {
        "model_id": model_id,
        "baseModel": BASE,
        "base_model": BASE,
        "path": "step-2",
        "model": f"{BASE}#accounts/local/deployments/d1",
        "trainerJobId": f"{JOBS[4:]}/j1",
    }
    for schema in document["components"]["schemas"].values():
        for field, value in known_fields.items():
            if field in schema.get("properties", {}):
                schema["properties"][field] = {"anyOf": [{"const": value}, {"type": "string", "maxLength": 80}]}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if known := EXISTING.get(parameter["name"]):
                    parameter["schema"] = {
                        "anyOf": [{"enum": known}, {"enum": known}, {"type": "string", "maxLength": 80}]
                    }


def run(folder: Path, emulator: Emulator, seconds: int, seed: int, *choice: str) -> int:
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", str(folder / "openapi.json"), "--url", emulator.url,
        "--header", f"X-Api-Key:{emulator.api_key}", "--checks", CHECKS, "--max-time", str(seconds),
        "--seed", str(seed), "--warnings", "off",
        "--request-timeout", "40", "--phases", "examples,coverage,fuzzing", "--no-color", *choice,
    ]  # fmt: skip
    return subprocess.run(command, check=False, cwd=folder).returncode


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    raise SystemExit(main(*(arguments + [60, 1][len(arguments) :])))
