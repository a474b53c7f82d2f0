"""The plugin as its users meet it: a test file of theirs, run by pytest from outside."""

import re
import shlex
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from emulator.light import LightBackend
from emulator.platform.archive import Archive
from ftsim.inspect.states import is_light, open_bundle
from tests.forked import run_pytest

ROOT = Path(__file__).parents[2]
# An installed distribution is found through its entry point; a checkout on the path is not.
LOADED = () if entry_points(group="pytest11", name="ftsim") else ("-p", "ftsim.testing.plugin")


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a test file in a process of its own; `fresh` starts an interpreter for it, which takes seconds."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")

    def run_file(content: str, *arguments: str, fresh: bool = False) -> pytest.RunResult:
        pytester.makepyfile(content)
        words = [*LOADED, "-q", "-p", "no:cacheprovider", *arguments]
        if fresh:
            return pytester.runpytest_subprocess("-p", "no:schemathesis", *words, timeout=120)
        return run_pytest(pytester.path, words)

    return run_file


def test_a_test_gets_an_empty_platform_every_time(run: Run) -> None:
    result = run(
        """
        import pytest
        from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager

        @pytest.mark.parametrize("round", range(3))
        def test_create(fireworks_emulator, round):
            manager = TrainerJobManager(api_key=fireworks_emulator.api_key, base_url=fireworks_emulator.url)
            assert manager.try_get("mine") is None
            manager.create(TrainerJobConfig(base_model="accounts/fireworks/models/qwen3-8b", requested_job_id="mine"))
            assert manager.get("mine")["state"] == "JOB_STATE_RUNNING"

        def test_one_server(fireworks_emulator, fireworks_env):
            assert fireworks_env["FIREWORKS_BASE_URL"] == fireworks_emulator.url
        """
    )
    result.assert_outcomes(passed=4)


def test_a_reset_takes_less_than_twenty_milliseconds(run: Run) -> None:
    result = run(
        """
        import time
        from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager

        def test_reset(fireworks_emulator):
            manager = TrainerJobManager(api_key=fireworks_emulator.api_key, base_url=fireworks_emulator.url)
            taken = []
            for number in range(15):
                base_model = "accounts/fireworks/models/qwen3-8b"
                manager.create(TrainerJobConfig(base_model=base_model, requested_job_id=f"j{number}"))
                started = time.perf_counter()
                fireworks_emulator.reset()
                taken.append(time.perf_counter() - started)
            assert sorted(taken)[len(taken) // 2] < 0.02, taken
        """
    )
    result.assert_outcomes(passed=1)


def test_the_session_platform_keeps_what_it_has(run: Run) -> None:
    result = run(
        """
        from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager

        def manager(emulator):
            return TrainerJobManager(api_key=emulator.api_key, base_url=emulator.url)

        def test_first(fireworks_session):
            config = TrainerJobConfig(base_model="accounts/fireworks/models/qwen3-8b", requested_job_id="kept")
            manager(fireworks_session).create(config)

        def test_second(fireworks_session, fireworks_emulator):
            assert fireworks_session.url != fireworks_emulator.url
            assert manager(fireworks_session).get("kept")["state"] == "JOB_STATE_RUNNING"
            assert manager(fireworks_emulator).try_get("kept") is None
        """
    )
    result.assert_outcomes(passed=2)


def test_a_module_has_a_platform_and_an_environment_of_its_own(run: Run) -> None:
    result = run(
        """
        import os
        import pytest
        from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager

        def test_first(fireworks_module_env, fireworks_module, fireworks_session):
            assert os.environ["FIREWORKS_BASE_URL"] == fireworks_module.url != fireworks_session.url
            config = TrainerJobConfig(base_model="accounts/fireworks/models/qwen3-8b", requested_job_id="kept")
            TrainerJobManager(api_key=fireworks_module.api_key, base_url=fireworks_module.url).create(config)

        def test_second(fireworks_module, fireworks_emulator):
            manager = TrainerJobManager(api_key=fireworks_module.api_key, base_url=fireworks_module.url)
            assert manager.get("kept")["state"] == "JOB_STATE_RUNNING"
            fireworks_emulator.stop()

        def test_after_somebody_stopped_it(fireworks_emulator):
            manager = TrainerJobManager(api_key=fireworks_emulator.api_key, base_url=fireworks_emulator.url)
            assert manager.try_get("kept") is None
        """
    )
    result.assert_outcomes(passed=3)


def test_training_sessions_end_with_the_test_that_opened_them(run: Run) -> None:
    """Nothing is reset between these tests; the sessions of a fixture that they share stay."""
    result = run(
        """
        import httpx
        import pytest

        API = "/training/v1/serverless/api/v1/"

        def opened(server):
            headers = {"X-Api-Key": server.api_key}
            with httpx.Client(base_url=server.url, headers=headers) as http:
                session = http.post(API + "create_session", json={}).json()["session_id"]
                model = {"base_model": "accounts/fireworks/models/qwen3-8b", "lora_config": {"rank": 8}}
                body = {"session_id": session, "model_seq_id": 0, **model}
                accepted = http.post(API + "create_model", json=body).json()
                made = http.post(API + "retrieve_future", json={"request_id": accepted["request_id"]}).json()
                assert "model_id" in made, made
                return session

        @pytest.fixture(scope="module", autouse=True)
        def two_places(fireworks_module):
            fireworks_module.quirks.set("sessions.quota", 2)

        @pytest.fixture(scope="module")
        def shared(fireworks_module, two_places):
            return opened(fireworks_module)

        @pytest.mark.parametrize("round", range(3))
        def test_each_has_a_place(fireworks_module, shared, round):
            opened(fireworks_module)
            states = {one.id: one.running for one in fireworks_module.world.sessions}
            assert states[shared]
            assert sum(states.values()) == 2
        """
    )
    result.assert_outcomes(passed=3)


def test_the_session_has_an_environment_too(run: Run) -> None:
    result = run(
        """
        import os

        def test_with(fireworks_session_env, fireworks_session):
            assert os.environ["FIREWORKS_API_KEY"] == fireworks_session.api_key
        """
    )
    result.assert_outcomes(passed=1)


def test_the_environment_points_at_the_platform_and_is_put_back(run: Run) -> None:
    result = run(
        """
        import os
        from fireworks import Fireworks

        def test_with(fireworks_env):
            assert all(os.environ[name] == value for name, value in fireworks_env.items())
            found = Fireworks().get("/v1/accounts", cast_to=object)
            assert found["accounts"][0]["name"] == "accounts/" + fireworks_env["FIREWORKS_ACCOUNT_ID"]

        def test_without():
            assert "FIREWORKS_BASE_URL" not in os.environ
        """
    )
    result.assert_outcomes(passed=2)


def test_a_shipped_recipe_runs_in_a_test_without_configuration(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page's own example, in a process that has read another environment for the hub before."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    page = (ROOT / "docs" / "testing-kit.md").read_text("utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "_shipped_recipe" in block]
    result = run(
        f"""
import os
import huggingface_hub
import pytest
from huggingface_hub import constants

{example}

def test_names_that_are_not_there(fireworks_env):
    from ftsim.training.data.supervised import load_tokenizer
    from ftsim.training.errors import ConfigError

    with pytest.raises(ConfigError, match="did you mean .* or 'Qwen/Qwen3-8B' or .*the hub is offline.*Qwen/Qwen3-4B"):
        load_tokenizer("Qwen/Qwen3-8b-nope")

def test_in_process(fireworks_api):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained("Qwen/Qwen3-4B").encode("x")

def test_afterwards():
    assert not huggingface_hub.is_offline_mode()
    assert constants.HF_HUB_CACHE == os.environ["HF_HUB_CACHE"] == {str(tmp_path)!r}
    assert "HF_HUB_OFFLINE" not in os.environ
""",
        "-W",
        "default",
        fresh=True,
    )
    result.assert_outcomes(passed=4)


def test_the_service_itself_is_answered_in_process(run: Run) -> None:
    result = run(
        """
        import asyncio
        import httpx, pytest
        from fireworks.training.sdk import DeploymentManager, FireworksClient, TrainerJobConfig, TrainerJobManager

        def test_control_plane(fireworks_api):
            manager = TrainerJobManager(api_key="any key")
            job = manager.create_and_wait(
                TrainerJobConfig(base_model="accounts/fireworks/models/qwen3-8b", requested_job_id="mine")
            )
            assert job.base_url.startswith("http://127.0.0.1")
            assert FireworksClient(api_key="any key").list_checkpoints("mine") == []
            assert any(call.request.url.host == "api.fireworks.ai" for call in fireworks_api.calls)

        def test_no_key_is_no_key(fireworks_api):
            assert httpx.get("https://api.fireworks.ai/v1/accounts").status_code == 401

        def test_refusals_keep_their_envelope(fireworks_api):
            url = "https://api.fireworks.ai/v1/accounts/local/rlorTrainerJobs/none"
            answer = httpx.get(url, headers={"x-api-key": "any key"})
            assert (answer.status_code, answer.json()["code"]) == (404, 5)

        def test_from_a_coroutine(fireworks_api):
            async def ask():
                async with httpx.AsyncClient() as client:
                    return await client.get("https://api.fireworks.ai/v1/accounts", headers={"x-api-key": "any key"})
            assert asyncio.run(ask()).json()["accounts"]

        def test_the_vendors_asynchronous_client(fireworks_api, fireworks_emulator):
            from fireworks import AsyncFireworks

            async def ask(**settings):
                async with AsyncFireworks(api_key="any key", max_retries=0, **settings) as client:
                    return await client.get("/v1/accounts", cast_to=object)
            assert asyncio.run(ask())["accounts"]
            assert asyncio.run(ask(base_url=fireworks_emulator.url))["accounts"]
            assert [c.request.url.host for c in fireworks_api.calls] == ["api.fireworks.ai", "127.0.0.1"]
            with pytest.raises(Exception) as refused:
                asyncio.run(ask(base_url="https://example.com"))
            assert "not mocked" in str(refused.value.__cause__ or refused.value)

        def test_hot_load(fireworks_api):
            answer = httpx.get(
                "https://api.fireworks.ai/hot_load/v1/models/hot_load",
                headers={
                    "authorization": "Bearer any key",
                    "fireworks-model": "m",
                    "fireworks-deployment": "accounts/local/deployments/none",
                },
            )
            assert answer.status_code in (400, 404)

        def test_nothing_else_gets_out(fireworks_api):
            with pytest.raises(Exception, match="not mocked"):
                httpx.get("https://example.com/")
        """
    )
    result.assert_outcomes(passed=7)


def test_a_marker_turns_a_quirk_on_for_one_test(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.quirk("jobs.pending_s", 3600.0, job="slow")
        @pytest.mark.quirk("promote.base_model", "inferred", times=1)
        def test_on(fireworks_emulator):
            quirks = fireworks_emulator.quirks
            assert quirks.value("jobs.pending_s", job="slow") == 3600.0
            assert quirks.value("jobs.pending_s", job="quick") == 0.0
            row = {"account": "local", "job": "slow", "checkpoint": "step-1"}
            assert quirks.spend("promote.base_model", **row) == "inferred"
            assert quirks.spend("promote.base_model", **row) == "required"

        def test_off(fireworks_emulator):
            assert fireworks_emulator.quirks.active() == []
        """
    )
    result.assert_outcomes(passed=2)


def test_time_passes_when_a_test_says_so_or_a_client_waits(run: Run) -> None:
    """On a slow machine nothing is late, idle or over for that; and nobody who polls waits for ever."""
    result = run(
        """
        import time
        from datetime import UTC, datetime
        import httpx
        import pytest

        JOBS = "/v1/accounts/local/rlorTrainerJobs"
        BODY = {"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}}
        pytestmark = pytest.mark.backend("light")

        @pytest.fixture
        def http(fireworks_emulator):
            headers = {"X-Api-Key": fireworks_emulator.api_key}
            with httpx.Client(base_url=fireworks_emulator.url, headers=headers) as client:
                yield client

        def state(http):
            return http.get(f"{JOBS}/mine").json()["state"]

        @pytest.mark.quirk("jobs.inactivity_s", 0.1)
        def test_a_job_idles_when_the_test_says_so(http, fireworks_emulator):
            http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=BODY)
            time.sleep(0.3)
            assert state(http) == "JOB_STATE_RUNNING"
            fireworks_emulator.clock.advance(0.2)
            assert state(http) != "JOB_STATE_RUNNING"

        @pytest.mark.quirk("jobs.create_s", 0.4)
        def test_who_polls_sees_it_happen(http):
            http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=BODY)
            time.sleep(0.5)
            assert state(http) == "JOB_STATE_CREATING"
            looks = 0
            while state(http) == "JOB_STATE_CREATING":
                time.sleep(0.05)
                looks += 1
            assert looks >= 1

        @pytest.mark.quirk("jobs.create_s", 3600.0)
        def test_a_leap(http, fireworks_emulator):
            http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=BODY)
            assert state(http) == "JOB_STATE_CREATING"
            fireworks_emulator.clock.advance(3600)
            assert state(http) == "JOB_STATE_RUNNING"

        def test_a_failure_for_some_seconds_is_over_for_a_client_that_tries_again(http, fireworks_emulator):
            fireworks_emulator.quirks.set("http.fail", 503, for_s=0.3, endpoint="list_jobs")
            time.sleep(0.4)
            answers = []
            while not answers or answers[-1] == 503:
                answers.append(http.get(JOBS).status_code)
                time.sleep(0.05)
            assert answers[0] == 503

        def test_stamps_are_those_of_this_machine(http, fireworks_emulator):
            time.sleep(0.2)
            before = datetime.now(UTC)
            http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=BODY)
            created = datetime.fromisoformat(http.get(f"{JOBS}/mine").json()["createTime"])
            assert before <= created <= datetime.now(UTC)
        """
    )
    result.assert_outcomes(passed=5)


def test_a_marker_that_cannot_work_says_so(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.quirk("jobs.pending_s", 1.0)
        def test_without_a_platform():
            pass

        @pytest.mark.quirk("no.such.quirk", 1)
        def test_unknown(fireworks_emulator):
            pass

        @pytest.mark.quirk("jobs.pending_s")
        def test_without_a_value(fireworks_emulator):
            pass

        @pytest.mark.quirk("jobs.pending_s", "long")
        def test_of_another_type(fireworks_emulator):
            pass

        @pytest.mark.quirk("jobs.pending_s", 1.0, planet="Mars")
        def test_unknown_selector(fireworks_emulator):
            pass

        @pytest.mark.quirk("jobs.pending_s", 1.0, times="often")
        def test_a_budget_of_another_type(fireworks_emulator):
            pass

        @pytest.mark.backend("light", "heavy")
        def test_two_backends(fireworks_emulator):
            pass

        @pytest.mark.platform()
        def test_no_date(fireworks_emulator):
            pass
        """
    )
    result.assert_outcomes(errors=8)
    result.stdout.fnmatch_lines(
        [
            "*needs one of the fixtures fireworks_emulator*",
            "*unknown quirk 'no.such.quirk'*",
            "*takes a name and a value*",
            "@pytest.mark.quirk('jobs.pending_s', 'long'): *",
            "@pytest.mark.quirk('jobs.pending_s', 1.0, planet='Mars'): *",
            "@pytest.mark.quirk('jobs.pending_s', 1.0, times='often'): *give how many calls it strikes*",
            "backend takes one of 'torch', 'light'; got ('light', 'heavy')",
            "platform takes a date; got ()",
        ]
    )
    assert not re.search(r"\.py:\d", result.stdout.str()), "a line of code is no part of what is wrong"


def test_a_failure_shows_the_last_exchanges(run: Run) -> None:
    result = run(
        """
        import httpx

        def test_fails(fireworks_emulator):
            httpx.get(fireworks_emulator.url + "/v1/accounts", headers={"x-api-key": fireworks_emulator.api_key})
            assert False
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*fireworks emulator, last exchanges*", "200 GET /v1/accounts (* ms)"])


def test_every_worker_has_a_platform_of_its_own(run: Run) -> None:
    result = run(
        """
        import httpx
        import pytest

        JOBS = "/v1/accounts/local/rlorTrainerJobs"

        @pytest.mark.backend("light")
        @pytest.mark.parametrize("round", range(8))
        def test_create(fireworks_emulator, round):
            headers = {"X-Api-Key": fireworks_emulator.api_key}
            body = {"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}}
            with httpx.Client(base_url=fireworks_emulator.url, headers=headers) as http:
                assert http.get(f"{JOBS}/mine").status_code == 404
                assert http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=body).status_code == 200
        """,
        "-n",
        "2",
    )
    result.assert_outcomes(passed=8)


def test_the_plugin_costs_nothing_where_nobody_uses_it(run: Run) -> None:
    result = run(
        """
        import sys

        def test_nothing_was_imported():
            heavy = {"torch", "transformers", "emulator", "fastapi", "hypothesis.stateful", "respx", "fireworks"}
            assert not heavy & set(sys.modules)
        """,
        "-p",
        "no:respx",
        "-p",
        "no:hypothesispytest",
        fresh=True,
    )
    result.assert_outcomes(passed=1)


def test_the_plugin_is_declared_as_an_entry_point() -> None:
    declared = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\nftsim = "ftsim.testing.plugin"' in declared


def test_a_failed_test_leaves_a_bundle_that_one_command_replays(run: Run, pytester: pytest.Pytester) -> None:
    result = run(
        """
        import httpx
        import pytest

        JOBS = "/v1/accounts/local/rlorTrainerJobs"

        @pytest.mark.quirk("http.fail", 503, times=1, endpoint="get_job")
        @pytest.mark.parametrize("which", ["good", "bad"])
        def test_it(fireworks_emulator, which):
            headers = {"X-Api-Key": fireworks_emulator.api_key}
            body = {"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}}
            with httpx.Client(base_url=fireworks_emulator.url, headers=headers) as http:
                http.post(JOBS, params={"rlorTrainerJobId": "mine"}, json=body)
                state = http.get(f"{JOBS}/mine").json().get("state")
            assert which == "good" or state == "JOB_STATE_RUNNING", fireworks_emulator.api_key
        """,
        "--ftsim-bundle",
        "bundles",
    )
    result.assert_outcomes(passed=1, failed=1)
    (file,) = (pytester.path / "bundles").iterdir()
    assert file.name.endswith("test_it-bad.zip")
    (told,) = [line for line in result.outlines if "ftsim state open" in line]
    command = shlex.split(told.partition("ftsim state open ")[2])  # as a person would paste it
    opened = pytester.run(sys.executable, "-m", "ftsim", "state", "open", *command)
    assert opened.ret == 0, opened.outlines
    told = opened.stdout.str()
    assert opened.outlines[0].endswith("the same answers as there")
    for expected in ("test_it[bad] (call)", "quirk http.fail=503", "the same answers as there", "[hidden]"):
        assert expected in told
    assert "fw-ftsim-local" not in told


@pytest.mark.parametrize(("blobs", "held"), [("none", 0), ("last", 1), ("all", 2)])
def test_a_bundle_holds_the_weights_that_are_asked_for_and_is_replayed_without_them(
    run: Run, pytester: pytest.Pytester, blobs: str, held: int
) -> None:
    result = run(
        """
        import pytest
        from tests.inspect.test_replay import train
        import httpx

        @pytest.mark.backend("light")
        @pytest.mark.platform("2026-08")
        def test_trains(fireworks_emulator):
            headers = {"X-Api-Key": fireworks_emulator.api_key}
            with httpx.Client(base_url=fireworks_emulator.url, headers=headers) as http:
                train(http)
            assert len(fireworks_emulator.world.checkpoints) == 0
        """,
        "--ftsim-bundle",
        "bundles",
        "--ftsim-bundle-blobs",
        blobs,
    )
    result.assert_outcomes(failed=1)
    (file,) = (pytester.path / "bundles").iterdir()
    found = Archive.open(file)
    assert len([key for key in found.files if not key.startswith("local/models/")]) == held
    assert {body["blob"] for kind in ("checkpoint", "model") for body in found.entities[kind].values()} == {
        *found.files,
        *found.left_out,
    }
    assert is_light(file)
    opened = open_bundle(file, LightBackend())
    assert opened.reproduced, opened.verdict
    assert opened.verdict.endswith("the same answers as there")


def test_a_marker_chooses_the_platform_of_a_test(run: Run) -> None:
    result = run(
        """
        import pytest

        pytestmark = pytest.mark.backend("light")

        @pytest.mark.platform("2026-04")
        def test_old(fireworks_emulator):
            assert fireworks_emulator.world.platform == "2026-04"
            assert fireworks_emulator.quirks.value("jobs.inactivity_s", job="j1") == 3600.0
            assert "accounts/fireworks/models/kimi-k3" not in fireworks_emulator.platform.catalogue.models

        def test_newest(fireworks_emulator):
            assert fireworks_emulator.world.platform == "2026-11"
            assert "accounts/fireworks/models/kimi-k3" in fireworks_emulator.platform.catalogue.models

        @pytest.mark.platform("2025-01")
        def test_none(fireworks_emulator):
            pass
        """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the oldest platform is 2026-04*"])


def test_sleeps_of_a_marked_test_take_no_time(run: Run) -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/fast-forward.md").read_text("utf-8"), flags=re.S)
    content = """
        import os, subprocess, sys
        from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager

        @pytest.mark.fast_forward
        @pytest.mark.backend("light")
        @pytest.mark.quirk("jobs.create_s", 60)
        def test_create(fireworks_emulator):
            began = time.monotonic()
            with TrainerJobManager(api_key=fireworks_emulator.api_key, base_url=fireworks_emulator.url) as manager:
                config = TrainerJobConfig(base_model="accounts/fireworks/models/qwen3-8b", requested_job_id="mine")
                manager.create_and_wait(config, timeout_s=600, poll_interval_s=5)
            program = "import time; time.sleep(90)"
            subprocess.run([sys.executable, "-c", program], check=True)
            assert time.monotonic() - began > 150

        def test_the_time_of_day_is_the_machines_again():
            assert abs(time.time() - os.stat(__file__).st_mtime) < 100
    """
    run(shown + textwrap.dedent(content)).assert_outcomes(passed=3)


def test_a_draw_beside_a_client_is_not_blamed_for_its_random(run: Run) -> None:
    """A client's thread uses `random` while a value is drawn; here the draw does, so that it happens every time."""
    result = run(
        """
        import random
        from hypothesis import given, settings, strategies as st

        @settings(database=None)
        @given(st.data())
        def draw(data):
            data.draw(st.integers().map(lambda number: (random.random(), number)))

        def test_with(fireworks_emulator):
            draw()

        def test_without():
            draw()
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*FAILED*test_without*"])
