"""The last line of a run: which endpoint was mostly refused, and the reason given most often."""

import json
from typing import Any

import pytest

from ftsim.process import ending


def asked(endpoint: str, status: int, said: str = "", method: str = "POST") -> dict[str, Any]:
    response = json.dumps({"error": {"message": said}}) if said else ""
    return {"endpoint": endpoint, "status": status, "method": method, "path": f"/v1/{endpoint}", "response": response}


@pytest.mark.parametrize(
    ("exchanges", "said"),
    [
        ([], ""),
        ([asked("completions", 200)] * 37, ""),
        (
            [asked("completions", 400, "a")] * 17 + [asked("completions", 400, "b\n c")] * 20,
            "37 of 37 completions were refused: b c",
        ),
        ([asked("completions", 200), *[asked("completions", 400, "no")] * 2], "2 of 3 completions were refused: no"),
        ([asked("completions", 200), asked("completions", 400, "no")], ""),
        ([*[asked("completions", 429, "busy")] * 9, asked("completions", 200)], ""),
        ([asked("get_job", 404, "none", "GET"), asked("create_session", 409, "is there")], ""),
        ([asked("promote", 503)], "1 of 1 requests of promote were refused: HTTP 503"),
        ([asked("promote", 400, "x"), *[asked("completions", 400, "y")] * 2], "2 of 2 completions were refused: y"),
        ([asked("completions", 0)], ""),
    ],
)
def test_only_what_was_mostly_refused_to_the_end_is_told(exchanges: list[dict[str, Any]], said: str) -> None:
    assert ending.told(exchanges) == said


def test_where_nothing_can_be_read_nothing_is_said() -> None:
    assert ending.mark("http://127.0.0.1:9", "key") == -1
    assert ending.line("http://127.0.0.1:9", "key", -1) == ""
    assert ending.line("http://127.0.0.1:9", "key", 0) == ""
