"""A trainer's calls as bare requests, for what no client of the vendor's says."""

from typing import Any

import httpx

BASE = "accounts/fireworks/models/qwen3-8b"


class Wire:
    """A model on a job's trainer, and a client that says exactly what it is told, as an old SDK might.

    `model` goes into the `create_model` request; `created` is that request's body.
    """

    def __init__(self, http: httpx.Client, job: str = "j1", *, account: str = "local", **model: object) -> None:
        self._http = http
        self._base = f"/training/v1/rlorTrainerJobs/{account}/{job}/api/v1/"
        session = self.post("create_session", {"tags": [], "sdk_version": "0.16.1"})["session_id"]
        self.created: dict[str, object] = {"session_id": session, "model_seq_id": 0, "base_model": BASE, **model}
        self.model_id = str(self.result(self.post("create_model", self.created))["model_id"])

    def send(self, verb: str, body: dict[str, object]) -> httpx.Response:
        """Send a call, whatever its answer is."""
        return self._http.post(self._base + verb, json=body)

    def post(self, verb: str, body: dict[str, object]) -> dict[str, Any]:
        """Send a call that must succeed; raises AssertionError with the answer otherwise."""
        answer = self.send(verb, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def submit(self, verb: str, seq: int, **body: object) -> str:
        """Send an operation; the id to fetch its result by."""
        return str(self.post(verb, {"model_id": self.model_id, "seq_id": seq, **body})["request_id"])

    def result(self, accepted: dict[str, Any] | str) -> dict[str, Any]:
        """Fetch the result of an accepted operation or of its id."""
        request_id = accepted if isinstance(accepted, str) else accepted["request_id"]
        return self.post("retrieve_future", {"request_id": request_id})

    def run(self, verb: str, seq: int, **body: object) -> dict[str, Any]:
        """Send an operation and fetch its result."""
        return self.result(self.submit(verb, seq, **body))
