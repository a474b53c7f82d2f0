"""Every page of the console, asked as a browser asks, and what its buttons do."""

import io
import re
import zipfile

import httpx
import pytest

from emulator.server import Emulator
from tests.doubles import BASE
from tests.http.console.conftest import JOB, Send

MODEL = "accounts/local/models/tuned"
ROW = f"{JOB}/checkpoints/fin-11"


def test_every_page_is_there_empty_and_full(
    emu: Emulator, browser: httpx.Client, request: pytest.FixtureRequest
) -> None:
    for path in ("runs", f"run/{JOB}", "requests", "deployments", "models", "failures", "clock", "state"):
        assert browser.get(path).status_code == 200, path
    assert "Nothing was asked yet" in browser.get("requests").text
    assert "No optimizer step yet" in browser.get(f"run/{JOB}").text
    request.getfixturevalue("trained")
    for path, said in (
        ("runs", "my run"),
        (f"run/{JOB}", "its steps 6 to 7 were cut off"),
        ("requests", "save_weights"),
        ("deployments", "d1"),
        ("deployment/accounts/local/deployments/d1", "not found in GCS"),
        ("models", "qwen3-8b"),
        (f"model/{BASE}", "catalogue"),
        (f"files/{ROW}", "model.safetensors"),
        (f"chat/{BASE}", "What you say"),
        ("failures?words=D3", "promote.blob"),
        ("clock", "is stopped as idle"),
    ):
        answer = browser.get(path)
        assert (answer.status_code, said in answer.text) == (200, True), (path, answer.text)
    for path, status in (
        ("run/accounts/local/rlorTrainerJobs/none", 404),
        ("nowhere", 404),
        ("requests/999999", 404),
        ("model/accounts/local/models/none", 404),
        ("state/file/..zip", 400),
    ):
        answer = browser.get(path)
        assert (answer.status_code, "That did not work" in answer.text) == (status, True), path


def test_a_live_part_is_sent_again_only_when_it_is_another(
    trained: Emulator, browser: httpx.Client, http: httpx.Client
) -> None:
    again = re.search(r'hx-get="([^"]+)"', browser.get("requests?words=save").text)
    assert again
    headers, address = {"HX-Request": "true"}, f"{trained.url}{again[1].replace('&amp;', '&')}"
    assert browser.get(address, headers=headers).status_code == 204
    http.get("/v1/accounts", params={"filter": 'name="save"'})
    changed = browser.get(address, headers=headers)
    assert (changed.status_code, "<html" in changed.text, "list_accounts" in changed.text) == (200, False, True)


def test_curves_are_sent_with_their_saves_once(trained: Emulator, browser: httpx.Client) -> None:
    told = browser.get(f"curves/{JOB}").json()
    loss = next(one for one in told["figures"] if one["key"] == "loss")
    assert [line["label"] for line in loss["lines"]] == ["session 1", "session 2"]
    assert loss["lines"][1]["points"][0] == [6, 7, 8, 9, 10, 11]
    assert [5, "step-5"] in told["saves"]
    assert browser.get(f"curves/{JOB}", params={"seen": told["version"]}).status_code == 204


def test_a_promotion_by_button_is_a_clients_request_and_meets_the_switches(
    trained: Emulator, browser: httpx.Client, send: Send
) -> None:
    done = send(f"promote/{ROW}", model="tuned")
    assert "is promoted to tuned" in done.text
    assert MODEL in trained.world.models
    (asked,) = trained.journal.of("promote")
    assert (asked.status, [change.how for change in asked.changes]) == (200, ["created"])
    assert "fin-11" in browser.get(f"model/{MODEL}").text
    on = send("failures/on", name="promote.blob", value="missing", times="1", where_job="j1")
    assert "promote.blob is on" in on.text
    refused = send(f"promote/{ROW}", model="tuned-2")
    assert "promotion refused (HTTP 404)" in refused.text
    listed = browser.get("requests", params={"quirked": "on"})
    assert "promote.blob" in listed.text
    assert listed.text.count('id="request-') == 1
    shown = browser.get(f"requests/{trained.journal.of('promote')[-1].began}").text
    assert "quirks.set(&#39;promote.blob&#39;" in shown
    assert "promotable" in send(f"promote/{JOB}/checkpoints/step-5", model="x").text


def test_switches_are_turned_on_and_off(emu: Emulator, browser: httpx.Client, send: Send) -> None:
    send("failures/on", name="http.fail", value="503", for_s="60", where_endpoint="promote")
    send("failures/on", name="rpc.dedupe", value="false")
    assert {one.name: one.value for one in emu.quirks.active()} == {"http.fail": 503, "rpc.dedupe": False}
    assert browser.get("failures?on=on").text.count('class="switch on"') == 2
    for fields, said in (
        ({"name": "http.fail", "value": "99"}, "is not between 400 and 599"),
        ({"name": "http.fial", "value": "503"}, "did you mean &#39;http.fail&#39;"),
        ({"name": "http.fail", "value": "503", "times": "x"}, "times and seconds are numbers"),
    ):
        answer = send("failures/on", **fields)
        assert (answer.status_code, said in answer.text) == (400, True), answer.text
    send("failures/off", name="http.fail")
    assert [one.name for one in emu.quirks.active()] == ["rpc.dedupe"]
    send("failures/profile", profile="chaos")
    assert len(emu.quirks.active()) > 2
    assert send("failures/profile", profile="/etc/passwd").status_code == 400
    send("failures/off")
    assert emu.quirks.active() == []


def test_a_state_is_saved_compared_restored(trained: Emulator, browser: httpx.Client, send: Send) -> None:
    assert "saved as before.zip" in send("state/save", name="before").text
    assert "Nothing differs" in browser.get("state/compare?one=before.zip").text
    send("preempt/" + JOB)
    assert "JOB_STATE_FAILED" in browser.get("state/compare?one=before.zip").text
    assert "is resumed" in send("resume/" + JOB).text
    kept = browser.get("state/file/before.zip").content
    assert "manifest.json" in zipfile.ZipFile(io.BytesIO(kept)).namelist()
    send("preempt/" + JOB)
    assert "is restored" in send("state/restore", name="before.zip").text
    assert trained.world.jobs.get(JOB).state == "JOB_STATE_RUNNING"  # type: ignore[union-attr]
    assert [piece.steps[-1] for piece in trained.world.curves.of(JOB)] == [7, 11]
    token = re.search(r'name="form-token" content="([0-9a-f]+)"', browser.get("state").text)
    headers = {"Origin": trained.url, "x-form-token": token[1] if token else ""}
    assert "sent.zip is here" in browser.post("state/upload?name=sent.zip", content=kept, headers=headers).text
    assert browser.post("state/upload?name=bad.zip", content=b"no", headers=headers).status_code == 400
    send("state/delete", name="sent.zip")
    assert "sent.zip" not in browser.get("state").text.partition("Saved states")[2]


def test_a_chat_is_carried_by_its_page(trained: Emulator, send: Send) -> None:
    name = "accounts/local/deployments/d1"
    first = send(f"chat/{name}", text="hello", form="text")
    assert first.text.count('class="turn ') == 2
    kept = re.search(r'name="turns" value="([^"]*)"', first.text)
    assert kept
    second = send(f"chat/{name}", text="again", form="text", turns=kept[1].replace("&#34;", '"'))
    assert second.text.count('class="turn ') == 4
    assert [one.status for one in trained.journal.of("completions")] == [200, 200]
    assert "refused (HTTP 400)" in send("chat/accounts/local/deployments/none", text="hello").text
    assert send(f"chat/{name}", text="x", turns="[1]").status_code == 400


def test_files_of_a_row_and_a_model_are_fetched(trained: Emulator, browser: httpx.Client) -> None:
    row = trained.world.checkpoints.get(ROW)
    assert row is not None
    kept = trained.platform.blobs.path(row.blob) / "config.json"
    assert browser.get(f"file/{ROW}/-/config.json").content == kept.read_bytes()
    for file in ("../../key", ".ftsim.json", "none"):
        assert browser.get(f"file/{ROW}/-/{file}").status_code == 404, file


def test_a_list_of_requests_is_an_archive_too(trained: Emulator, browser: httpx.Client) -> None:
    entries = browser.get("requests.har?endpoint=save_weights").json()["log"]["entries"]
    assert len(entries) == 2
    assert all("save_weights" in entry["request"]["url"] for entry in entries)


def test_a_reward_is_drawn_where_the_program_told_it(trained: Emulator, browser: httpx.Client) -> None:
    assert 'data-key="told/reward"' not in browser.get(f"run/{JOB}").text
    before = browser.get("runs").text.count(">11<")
    told = [{"key": "reward", "step": step, "value": step / 20} for step in range(1, 21)]
    headers = {"X-Api-Key": trained.api_key}
    httpx.post(f"{trained.url}/_ftsim/metrics", json={"owner": JOB, "points": told}, headers=headers).raise_for_status()
    page = browser.get(f"run/{JOB}").text
    (figure,) = re.findall(r'<figure data-key="told/reward">.*?</figure>', page, flags=re.S)
    assert "Reward" in figure
    assert "told by the program" in figure
    assert "session 3" not in page, "what is told is no session"
    assert browser.get("runs").text.count(">11<") == before > 0, "the step is the trainer's"
