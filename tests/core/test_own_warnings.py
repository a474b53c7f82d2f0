"""A warning of a library in the emulator's threads is no error of the program around it."""

import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.backend import BaseModel, GenerateRequest, Generation, ModelSpec, Tell
from emulator.core import own_warnings
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests.doubles import BASE, SIZE, DictBackend, DictReplica, DictTrainer

OLD = DeprecationWarning("this is deprecated")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Filters as a program has them: our own tests obey theirs everywhere."""
    monkeypatch.setattr(own_warnings, "_obeyed", False)
    with warnings.catch_warnings():
        yield


def in_a_thread(work: Any) -> list[BaseException | None]:
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            ended.append(None)
        except Warning as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return ended


def warn() -> None:
    warnings.warn(OLD, stacklevel=1)


def test_a_warning_is_an_error_outside_and_none_inside(apart: None) -> None:
    assert in_a_thread(own_warnings.apart(warn)) == [None]
    assert in_a_thread(warn) == [OLD]
    with pytest.raises(DeprecationWarning):
        warn()
    with own_warnings.ignored():
        warn()
    with pytest.raises(DeprecationWarning):
        warn()


def test_filters_that_come_later_change_nothing_once_work_begins(apart: None) -> None:
    def work() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            own_warnings.in_front()
            warn()

    assert in_a_thread(own_warnings.apart(work)) == [None]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        own_warnings.in_front()
        warn()
    assert [str(one.message) for one in told] == [str(OLD)]


def test_there_is_one_filter_however_often_it_is_put_in_front(apart: None) -> None:
    own_warnings.in_front()
    before = len(warnings.filters)
    own_warnings.in_front()
    assert len(warnings.filters) == before


def test_the_filters_go_to_another_process_without_it(apart: None) -> None:
    own_warnings.in_front()
    copied = pickle.loads(pickle.dumps(list(warnings.filters)))
    assert copied[0][1].match("anything") is None


class Deprecated(DictTrainer):
    """Calls a library that deprecates something."""

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        warn()
        return super().create_model(spec)


class DeprecatedReplica(DictReplica):
    """Likewise."""

    def encode(self, text: str) -> list[int]:
        warn()
        return super().encode(text)

    def generate(self, request: GenerateRequest, tell: Tell | None = None) -> "Future[Generation]":
        warn()
        return super().generate(request, tell)


class DeprecatedBackend(DictBackend):
    """Likewise, in a trainer's thread, a worker's and the event loop's."""

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> DictTrainer:
        return Deprecated([0.0] * SIZE, self.calls)

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> DictReplica:
        return DeprecatedReplica([0.0] * SIZE)


def test_a_request_and_an_operation_outlive_a_deprecation(apart: None, tmp_path: Path) -> None:
    with Emulator(DeprecatedBackend(tmp_path / "backend")) as emulator, httpx.Client(base_url=emulator.url) as http:
        http.headers["X-Api-Key"] = emulator.api_key
        warnings.simplefilter("error")  # as a test begins, after the emulator has
        asked = {"model": BASE, "prompt": "a b", "max_tokens": 2}
        answer = http.post("/inference/v1/completions", json=asked)
        assert answer.status_code == 200, answer.text
        emulator.platform.jobs.create(emulator.account, JobSpec(BASE), "j1")
        gateway = f"/training/v1/rlorTrainerJobs/{emulator.account}/j1/api/v1"
        session = http.post(f"{gateway}/create_session", json={}).json()["session_id"]
        body = {"session_id": session, "model_seq_id": 0, "base_model": BASE}
        accepted = http.post(f"{gateway}/create_model", json=body).json()
        told = http.post(f"{gateway}/retrieve_future", json={"request_id": accepted["request_id"]}).json()
        assert told["type"] == "create_model", told
        with pytest.raises(DeprecationWarning):
            warn()


def test_a_program_whose_warnings_are_errors_starts_and_asks() -> None:
    program = """
        import warnings
        from urllib.request import Request, urlopen

        from emulator.light import LightBackend
        from emulator.server import Emulator

        class Deprecated(LightBackend):
            def open_replica(self, *args, **kwargs):
                warnings.warn("old", DeprecationWarning)
                return super().open_replica(*args, **kwargs)

        with Emulator(Deprecated()) as emulator:
            body = b'{"model": "accounts/fireworks/models/qwen3-8b", "prompt": [1, 2], "max_tokens": 1}'
            headers = {"X-Api-Key": emulator.api_key, "Content-Type": "application/json"}
            print(urlopen(Request(emulator.url + "/inference/v1/completions", body, headers)).status)
        try:
            warnings.warn("mine", DeprecationWarning)
        except DeprecationWarning:
            print("an error")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n")[:2] == ["200", "an error"], done.stderr
