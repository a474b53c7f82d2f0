"""The console lets in who has its link, and answers no page of another site."""

import re
from pathlib import Path

import httpx
import pytest

from emulator.http.console.access import LINKS, Access
from emulator.http.console.files import FOLDER
from emulator.server import Emulator
from tests.doubles import DictBackend
from tests.http.console.conftest import JOB, Send, train

UI = "/_ftsim/ui/"
PATHS = (
    "",
    "runs",
    f"run/{JOB}",
    "requests",
    "requests.har",
    "failures",
    "clock",
    "state",
    "models",
    "state/file/a.zip",
)


def test_a_link_is_good_once_and_its_token_is_no_key(emu: Emulator) -> None:
    link = emu.console_url()
    assert emu.api_key not in link
    with httpx.Client() as first, httpx.Client() as second:
        answer = first.get(link)
        assert (answer.status_code, answer.headers["location"]) == (303, UI)
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", f"Path={UI}"} <= {part.strip() for part in cookie.split(";")}
        assert emu.api_key not in cookie
        assert first.get(f"{emu.url}{UI}runs").status_code == 200
        assert second.get(link).status_code == 401
        assert second.get(f"{emu.url}{UI}runs").status_code == 401
    assert httpx.get(f"{emu.url}/v1/accounts", headers={"Cookie": cookie}).status_code == 401


def test_a_link_from_another_site_arrives_with_its_cookie(emu: Emulator) -> None:
    answer = httpx.get(emu.console_url(), headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "http-equiv" in answer.text) == (200, True)
    assert "set-cookie" in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_without_the_cookie_there_is_nothing_but_how_to_get_it(emu: Emulator, path: str) -> None:
    forged = {"Cookie": f"ftsim-console-{emu.port}=nonce.{'0' * 64}"}
    for headers in ({}, forged, {"X-Api-Key": emu.api_key}):
        answer = httpx.get(f"{emu.url}{UI}{path}", headers=headers)
        assert (answer.status_code, "ftsim open" in answer.text) == (401, True)


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_pages_of_other_sites_are_not_answered(browser: httpx.Client, headers: dict[str, str]) -> None:
    assert browser.get("runs").status_code == 200
    assert browser.get("runs", headers=headers).status_code == 403


def test_a_form_is_refused_unless_a_page_of_the_console_sends_it(
    emu: Emulator, browser: httpx.Client, send: Send
) -> None:
    token = re.search(r'name="form-token" content="([0-9a-f]+)"', browser.get("clock").text)
    assert token
    good = {"seconds": "60", "form_token": token[1]}
    at = emu.clock.now()
    for data, headers in (
        (good, {}),
        (good, {"Origin": "http://localhost:1"}),
        (good, {"Origin": "null"}),
        (good, {"Origin": emu.url, "Sec-Fetch-Site": "same-site"}),
        ({"seconds": "60"}, {"Origin": emu.url}),
        ({"seconds": "60", "form_token": "0" * 64}, {"Origin": emu.url}),
    ):
        assert browser.post("clock", data=data, headers=headers).status_code == 403, headers
    assert emu.clock.now() < at + 60_000_000
    assert send("clock", seconds="60").status_code == 200
    assert emu.clock.now() > at + 60_000_000


def test_a_cookie_ends_with_the_key_and_outlives_a_restart(tmp_path: Path) -> None:
    state, backend = tmp_path / "state", DictBackend(tmp_path / "backend")
    with httpx.Client(follow_redirects=True) as browser:
        with Emulator(backend, state_dir=state) as emulator:
            assert browser.get(emulator.console_url()).status_code == 200
            port = emulator.port
        with Emulator(backend, state_dir=state, port=port) as emulator:
            assert browser.get(f"{emulator.url}{UI}runs").status_code == 200
            old = emulator.console_url()
            emulator.hand_over()
            assert browser.get(f"{emulator.url}{UI}runs").status_code == 401
            assert browser.get(old).status_code == 401


def test_a_further_account_gets_no_link(emu: Emulator) -> None:
    for key, status in (("theirs", 403), ("wrong", 401), (emu.api_key, 200)):
        assert httpx.post(f"{emu.url}/_ftsim/console", headers={"X-Api-Key": key}).status_code == status


def test_links_are_few_and_end(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access({"key": "local"}, emu.clock)
    tokens = [access.link().partition("=")[2] for _ in range(LINKS + 1)]
    assert access.sign_in(tokens[0]) is None
    assert access.sign_in(tokens[1])
    monkeypatch.setattr("emulator.http.console.access.LINK_S", -1)
    assert access.sign_in(access.link().partition("=")[2]) is None


def test_every_answer_has_a_strict_policy_and_no_page_has_anything_inline(
    trained: Emulator, browser: httpx.Client
) -> None:
    for path in (*PATHS, "assets/console.js", "nowhere"):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", answer.text) or "assets" in path
        addresses = re.findall(r'(?:src|href|action)="(\w+:)?//', answer.text)
        assert addresses == [], path


def test_the_address_that_is_printed_leads_a_browser_there_and_nobody_else(emu: Emulator) -> None:
    page = httpx.get(f"{emu.url}/", headers={"Accept": "text/html,*/*"})
    assert (page.status_code, page.headers["location"]) == (307, UI)
    assert httpx.get(f"{emu.url}/").status_code == 401
    assert httpx.get(f"{emu.url}/", headers={"X-Api-Key": emu.api_key}).status_code == 404
    assert httpx.get(f"{emu.url}/_ftsim/ui", headers={"Accept": "text/html"}).status_code == 307


def test_looking_leaves_nothing_in_the_journal(trained: Emulator, browser: httpx.Client, http: httpx.Client) -> None:
    before = len(trained.journal.entries)
    for path in PATHS:
        browser.get(path)
    httpx.get(f"{trained.url}/", headers={"Accept": "text/html"})
    assert len(trained.journal.entries) == before
    train(http, 1, 1)
    assert {change.kind for one in trained.journal for change in one.changes} == {"job", "checkpoint"} - {"job"}


def test_assets_are_only_those_there_are(browser: httpx.Client) -> None:
    assert browser.get("assets/console.css").headers["content-type"].startswith("text/css")
    assert "immutable" in browser.get("assets/htmx-2.0.11.min.js").headers["cache-control"]
    for name in ("../pages.py", "..%2Fpages.py", "nothing.css"):
        assert browser.get(f"assets/{name}").status_code == 404
    for library in ("htmx", "uplot"):
        assert (FOLDER / f"{library}-LICENSE.txt").read_text("utf-8")
