"""A connection to the server under test, and what a check notes down while it asks."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from emulator.core.clock import Clock, rfc3339
from emulator.http.schemas import ERROR, Schema
from emulator.journal.redact import Redactor

SHOWN = 200
TRIES = 3


@dataclass(frozen=True)
class Drift:
    """A place where an answer is not what docs/wire.md expects: the request, the field, what was expected and found."""

    check: str
    wire: str
    request: str
    field: str
    expected: str
    found: str


@dataclass(frozen=True)
class Outcome:
    """The result of a check: `agrees`, `differs`, `skipped` (why) or `broken` (it could not be carried out)."""

    check: str
    wire: str
    result: str
    why: str = ""


@dataclass
class Report:
    """The findings of one run of the contract."""

    base_url: str
    at: str
    created: bool
    outcomes: list[Outcome] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    """Texts of the service that nobody knew before."""

    @property
    def agrees(self) -> bool:
        return not self.drift and all(outcome.result != "broken" for outcome in self.outcomes)

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def markdown(self) -> str:
        """The report for people."""
        counts = {
            result: sum(o.result == result for o in self.outcomes)
            for result in ("agrees", "differs", "skipped", "broken")
        }
        lines = [
            f"# What {self.base_url} answers differently",
            "",
            f"{self.at}. "
            + ("Resources were created." if self.created else "Read-only.")
            + " "
            + ", ".join(f"{count} {result}" for result, count in counts.items())
            + ".",
            "",
            "| check | wire | result | |",
            "|---|---|---|---|",
            *(f"| {o.check} | {o.wire} | {o.result} | {_cell(o.why)} |" for o in self.outcomes),
        ]
        if self.drift:
            lines += ["", "| request | field | expected | found |", "|---|---|---|---|"]
            lines += [
                f"| {_cell(d.request)} | `{_cell(d.field)}` | {_cell(d.expected)} | {_cell(d.found)} |"
                for d in self.drift
            ]
        if self.told:
            lines += ["", "| what the service says | |", "|---|---|"]
            lines += [f"| {_cell(what)} | {_cell(text)} |" for what, text in self.told.items()]
        return "\n".join(lines) + "\n"


class Skip(Exception):
    """The server has nothing on which this can be checked; the message says what is missing."""


class Session:
    """Asks, and compares answers with schemas; never repeats a request that may have created something."""

    def __init__(
        self, base_url: str, api_key: str, *, client: httpx.Client | None = None, timeout_s: float = 120
    ) -> None:
        local = base_url.startswith("http://")
        self.http = client or httpx.Client(base_url=base_url, timeout=timeout_s, trust_env=not local)
        self._headers = {"X-Api-Key": api_key, "Authorization": f"Bearer {api_key}"}
        self._redactor = Redactor([api_key])
        self.report = Report(base_url, rfc3339(Clock().now(), 0), created=False)
        self.check = self.wire = self._request = ""
        self.account = ""

    def ask(
        self, method: str, path: str, *, key: bool = True, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request, with `headers` beside the key; connection failures of reads are tried again."""
        self._request = f"{method} {path}"
        known = self._headers if key else {} if headers else {"X-Api-Key": "no-such-key"}
        headers = {**known, **(headers or {})}
        tries = TRIES if method == "GET" else 1
        for left in reversed(range(tries)):
            try:
                return self.http.request(method, path, headers=headers, **options)
            except httpx.TransportError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def as_bearer(self) -> dict[str, str]:
        """Headers with the key as a bearer token and nowhere else."""
        return {"Authorization": self._headers["Authorization"]}

    def get(self, path: str, schema: Schema, **query: Any) -> Any:
        """The answer to a GET, compared with `schema`."""
        return self.expect(self.ask("GET", path, params=query), schema)

    def expect(self, answer: httpx.Response, schema: Schema, status: int = 200) -> Any:
        """Compare status and body field by field; the body, None when it is no JSON."""
        if answer.status_code != status:
            self.differs("status", status, f"{answer.status_code}: {answer.text[:SHOWN]}")
        try:
            body = answer.json()
        except ValueError:
            self.differs("body", "JSON", answer.text[:SHOWN])
            return None
        if answer.status_code == status:
            self.compare(body, schema)
        return body

    def refused(self, answer: httpx.Response, status: int, code: int | None = None) -> None:
        """The answer must be an error envelope (WIRE 1.2) with this status."""
        body = self.expect(answer, ERROR, status)
        if code is not None and isinstance(body, Mapping) and body.get("code") != code:
            self.differs("body.code", code, body.get("code"))

    def compare(self, body: Any, schema: Schema, path: str = "body") -> None:
        for error in Draft202012Validator(schema).iter_errors(body):
            where = path + error.json_path[1:]
            if error.validator == "required":
                missing = [name for name in error.validator_value if name not in error.instance]
                for name in missing:
                    self.differs(f"{where}.{name}", "to be there", "absent")
            else:
                self.differs(where, f"{error.validator} {error.validator_value}", error.instance)

    def differs(self, where: str, expected: object, found: object) -> None:
        shown = [self._redactor.text(str(value))[:SHOWN] for value in (where, expected, found)]
        drift = Drift(self.check, self.wire, self._redactor.text(self._request), *shown)
        if drift not in self.report.drift:
            self.report.drift.append(drift)

    def told(self, what: str, text: str) -> None:
        """Keep a text for the report that is not known and therefore compared with nothing."""
        self.report.told[f"{self.check}: {what}"] = self._redactor.text(text)[:SHOWN]

    def message(self, answer: httpx.Response) -> str:
        """The message of a refusal; the text of what is no envelope."""
        try:
            body = answer.json()
        except ValueError:
            return answer.text[:SHOWN]
        return str(body.get("message", body)) if isinstance(body, Mapping) else str(body)

    def differs_unless_success(self, result: Mapping[str, Any]) -> None:
        """The result of an operation must be no error."""
        if "error" in result:
            self.differs("body", "a result", result["error"])

    def must(self, where: str, expected: object, found: object) -> None:
        """Note a difference unless both are equal."""
        if expected != found:
            self.differs(where, expected, found)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
