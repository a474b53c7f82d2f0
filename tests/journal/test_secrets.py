"""Forty made-up secrets, in every place where one may stand: none of them is in what the emulator writes down."""

import json
from pathlib import Path
from urllib.parse import quote

import httpx
import orjson
import pytest
from hypothesis import given, strategies as st

from emulator.journal import redact
from emulator.journal.redact import HIDDEN, Redactor
from emulator.server import Emulator
from tests.doubles import DictBackend

R = "Zq7XvT2mLp9KdW4rBn8s"
NAMED = [
    ("api_key", "short1"), ("apiKey", R), ("API-KEY", R), ("x-api-key", "k"), ("openai_api_key", R),
    ("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567"), ("password", "hunter2"), ("db_password", 'a"b\\c'),
    ("passwd", "p w d"), ("passphrase", "correct horse"), ("pwd", "x1"), ("secret", R), ("client_secret", "s/e+c="),
    ("clientSecret", R), ("aws_secret_access_key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzzzz"), ("secret_key", R),
    ("access_token", R), ("refresh_token", R), ("auth_token", R), ("id_token", R), ("hf_token", "tiny"),
    ("aws_session_token", f"{R}//{R}=="), ("weights_access_token", R), ("token", R), ("private_key", R),
    ("credentials", R), ("jwt", R), ("authorization", f"Basic {R}"), ("signature", "0a1b2c"), ("cookie", f"sid={R}"),
]  # fmt: skip
SHAPED = [
    f"fw_{R}",
    f"tml-{R}",
    f"hf_{R}{R}",
    f"sk-{R}",
    f"sk_live_{R}",
    "AKIAZ7Q4T2MLP9KDW4RB",
    f"ghp_{R}{R[:16]}",
    f"glpat-{R}",
    f"eyJhbGciOi{R}.{R}.{R}",
    f"https://me:{R}@example.invalid/x",
]
ALL = [*NAMED, *(("note", value) for value in SHAPED)]


def nested(text: str, depth: int) -> str:
    for _ in range(depth):
        text = json.dumps({"inner": text, "n": [1, {"kk": text}]})
    return text


def secret_of(value: str) -> str:
    """The part that must not be seen: of an address the password alone."""
    return R if value.startswith("https") else value


PLACES = {
    "body": lambda name, value: json.dumps({"a": 1, name: value, "b": "seen"}),
    "spaced": lambda name, value: json.dumps({name: value, "b": "seen"}, indent=2),
    "nested": lambda name, value: json.dumps({"a": [{"deep": {name: value}}], "b": "seen"}),
    "escaped": lambda name, value: nested(json.dumps({name: value, "b": "seen"}), 1),
    "escaped twice": lambda name, value: nested(json.dumps({name: value, "b": "seen"}), 2),
    "query": lambda name, value: f"a=1&{name}={quote(value, safe='')}&b=seen",
    "query with JSON": lambda name, value: f"f={quote(json.dumps({name: value}))}&b=seen",
    "representation": lambda name, value: repr({name: value, "b": "seen"}),
    "cut": lambda name, value: json.dumps({"b": "seen", name: value})[:-2],
}


def test_there_are_forty() -> None:
    assert len(ALL) == len(set(ALL)) == 40


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("name", "value"), ALL)
def test_no_secret_stays(name: str, value: str, place: str) -> None:
    text = PLACES[place](name, value)
    cleaned = Redactor().text(text)
    written = {secret_of(value), json.dumps(secret_of(value))[1:-1], quote(secret_of(value), safe="")}
    if "query" in place and name == "note" and ":" in value:
        written = {R}
    assert not [one for one in written if f'"{one}"' in cleaned or (len(one) > 4 and one in cleaned)], cleaned
    assert HIDDEN.decode() in cleaned
    assert "seen" in cleaned


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization", "X-Auth-Token"])
def test_headers_in_a_text_are_hidden(name: str) -> None:
    cleaned = Redactor().text(f"curl -H '{name}: Basic {R}' -H 'Accept: text/html'")
    assert R not in cleaned
    assert "Accept: text/html" in cleaned


@pytest.mark.parametrize("command", [f"--api-key {R}", f"--token={R}", f"HF_TOKEN={R} run", f'client(api_key="{R}")'])
def test_arguments_are_hidden(command: str) -> None:
    assert R not in Redactor().text(f"program {command} --out here")


@pytest.mark.parametrize(
    "text",
    [
        '{"token":" the","logprob":-1.0,"top_logprobs":[{"token":"----------------"},{"token":"ab12"}]}',
        '{"max_tokens":10,"pageToken":"eyJvIjoyMDB9","next_page_token":"b2Zmc2V0","prompt_token_ids":[1,2,3]}',
        '{"prompt_cache_key":"k1","tokenizer":"Qwen/Qwen3-8B","eos_token":"<|im_end|>","key":"value","sort_key":"x"}',
        "filter=state%3DREADY&pageSize=10",
        '{"messages":[{"role":"user","content":"The secret of a good password is its length."}]}',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor().text(text) == text


PIECES = [
    *(name for name, _ in NAMED), "tokens", "token_ids", "max_tokens", "key", "keys", "sig", "GitHubToken", "bottoken",
    '"', "'", "\\", "%22", "=", ":", ": ", "%3A", "--", " ", "&", "//", "@", "%40", "Bearer ",
    "-----BEGIN PRIVATE KEY-----", *SHAPED, R, "12", "{", ",",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_to_look_for_words_first_changes_nothing(text: str) -> None:
    raw = text.encode()
    for pattern in redact._patterns():
        raw = pattern.sub(rb"\g<said>" + HIDDEN, raw)
    assert Redactor().bytes(text.encode()) == redact._shapes().sub(HIDDEN, raw)


def test_a_large_body_is_cleaned_quickly() -> None:
    body = orjson.dumps({"data": list(range(100_000)), "text": '\\"secret\\": ' * 2000, "token": "word " * 10_000})
    import time

    began = time.process_time()
    Redactor().bytes(body)
    assert time.process_time() - began < 2


def test_nothing_that_is_written_down_has_a_secret(tmp_path: Path) -> None:
    with Emulator(DictBackend(tmp_path / "base"), state_dir=tmp_path / "state") as emulator:
        headers = {"X-Api-Key": emulator.api_key, "X-Amz-Security-Token": f"{R}header", "Cookie": f"sid={R}cookie"}
        with httpx.Client(base_url=emulator.url, headers=headers, timeout=60) as http:
            for name, value in ALL:
                http.post("/v1/accounts/local/rlorTrainerJobs", json={name: value, "note": {"again": [{name: value}]}})
                http.get("/v1/accounts/local/models", params={name: value})
            shown = http.get("/_ftsim/journal", params={"limit": "1000"}).text
            lines = http.get("/_ftsim/journal?format=lines").text
        bundle = emulator.bundle(tmp_path / "bundle.zip", {"notes.txt": f"export HF_TOKEN={R}"})
    (kept,) = (tmp_path / "state" / "journals").glob("*.jsonl")
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        texts = [archive.read("journal.jsonl").decode(), archive.read("notes.txt").decode()]
    for text in (shown, lines, kept.read_text(), *texts):
        assert R not in text
        assert "hunter2" not in text
        assert "[hidden]" in text
