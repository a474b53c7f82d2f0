"""The report that a scenario returns, and the checks that end it when something is not as claimed."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from emulator.journal.journal import Exchange

SDK_1_2_28 = "fireworks-ai 1.2.28"
"""A version of the vendor's client, for `upstream` and `still_upstream`."""
_SHOWN = 400


class ScenarioFailed(AssertionError):
    """A scenario did not find what it claims."""


@dataclass(frozen=True)
class Shown:
    """One exchange as a report shows it; bodies are cut."""

    method: str
    path: str
    status: int
    request: str
    response: str

    @classmethod
    def of(cls, exchange: Exchange) -> "Shown":
        path = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
        return cls(exchange.method, path, exchange.status, _text(exchange.request), _text(exchange.response))


@dataclass
class Report:
    """A reproduced failure: what the user sees, the exchanges that matter, what a right client does, in sentences."""

    sees: Sequence[str]
    right: Sequence[str]
    exchanges: Sequence[Exchange] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        shown = [asdict(Shown.of(exchange)) for exchange in self.exchanges]
        return {"sees": list(self.sees), "exchanges": shown, "right": list(self.right)}


def claim(holds: object, what: str) -> None:
    """Raises ScenarioFailed with `what` unless it holds."""
    if not holds:
        raise ScenarioFailed(what)


def still_upstream(version: str, holds: object, what: str) -> None:
    """Claim a fault of the installed vendor client, last seen in `version`; a client without it fails the scenario."""
    if not holds:
        raise ScenarioFailed(
            f"no longer so in the installed client (known upstream in {version}): {what}. If a new release mends it, "
            "give the scenario the last version that has the fault and turn the claim round"
        )


def refusal(call: Callable[..., Any], *args: Any, **options: Any) -> Exception:
    """The exception that a call ends with; raises ScenarioFailed when it succeeds."""
    try:
        call(*args, **options)
    except Exception as error:
        return error
    raise ScenarioFailed(f"{getattr(call, '__name__', call)} should have been refused and was not")


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ... ({len(text)} characters)"
