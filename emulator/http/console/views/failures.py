"""Shows every switch by subject: what it does, whether it is on, the failures that it causes, and their cures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.core.clock import SECOND
from emulator.core.errors import InvalidArgument
from emulator.quirks import failures, profiles
from emulator.quirks.engine import Quirk, Quirks, Setting, unknown_quirk
from emulator.quirks.table import GROUPS


@dataclass(frozen=True)
class Active:
    """A setting that is on; `number` tells it from others of the same switch."""

    number: int
    value: str
    where: str
    left: str


@dataclass(frozen=True)
class Switch:
    """A switch: `choices` are the values it takes as text, empty where any value of its `type` is one."""

    name: str
    doc: str
    type: str
    default: str
    here: str
    choices: list[str]
    suggested: str
    by: tuple[str, ...]
    active: list[Active]
    entries: list[failures.Entry]
    missing: list[str]


@dataclass(frozen=True)
class Group:
    """Switches of one subject."""

    title: str
    switches: list[Switch]
    on: int


@dataclass(frozen=True)
class FailuresPage:
    """All switches that were asked for. `on` is how many settings are on in all."""

    groups: list[Group]
    on: int
    profiles: dict[str, str]


def catalogue(quirks: Quirks, words: str = "", only_on: bool = False) -> FailuresPage:
    """The switches in whose name, text or failures `words` are."""
    active: dict[str, list[Active]] = {}
    settings = quirks.active()
    for number, setting in enumerate(settings):
        active.setdefault(setting.name, []).append(_active(number, setting))
    groups = []
    for title, members in GROUPS.items():
        found = [_switch(quirk, active.get(quirk.name, []), quirks) for quirk in members]
        found = [one for one in found if _has(one, words.lower()) and (one.active or not only_on)]
        if found:
            groups.append(Group(title, found, sum(len(one.active) for one in found)))
    return FailuresPage(groups, len(settings), profiles.names())


def turn_on(quirks: Quirks, sent: Mapping[str, str]) -> Setting:
    """Turn a switch on as a form says; raises InvalidArgument."""
    quirk = quirks.table.get(sent.get("name", ""))
    if quirk is None:
        raise unknown_quirk(sent.get("name", ""), quirks.table)
    value = profiles.typed(quirk, sent.get("value", ""))
    selected = {key: sent.get(f"where_{key}", "").strip() for key in quirk.by}
    where: dict[str, Any] = {key: value for key, value in selected.items() if value}
    times, for_s = sent.get("times", "").strip(), sent.get("for_s", "").strip()
    try:
        budget = (int(times) if times else None, float(for_s) if for_s else None)
    except ValueError:
        raise InvalidArgument(f"quirk {quirk.name}: times and seconds are numbers") from None
    return quirks.set(quirk.name, value, times=budget[0], for_s=budget[1], **where)


def turn_off(quirks: Quirks, name: str) -> int:
    """Turn all settings of a switch off, or of all switches without a name; returns how many there were."""
    found = [setting for setting in quirks.active() if name in ("", setting.name)]
    for setting in found:
        setting.off()
    return len(found)


def _switch(quirk: Quirk[Any], active: list[Active], quirks: Quirks) -> Switch:
    known = failures.entries()
    choices = [str(one) for one in quirk.choices]
    if isinstance(quirk.default, bool):
        choices = ["true", "false"]
    beneath = quirks.beneath(quirk)
    default = _text(quirk.default)
    return Switch(
        quirk.name,
        quirk.doc,
        type(quirk.default).__name__,
        default,
        "" if beneath is None else _text(beneath),
        choices,
        _suggested(quirk),
        quirk.by,
        active,
        [known[one] for one in quirk.failures if one in known],
        [one for one in quirk.failures if one not in known],
    )


def _suggested(quirk: Quirk[Any]) -> str:
    """A value that does something: the first that is not the default, or a number within the bounds."""
    if isinstance(quirk.default, bool):
        return _text(not quirk.default)
    if quirk.choices:
        return str(next((one for one in quirk.choices if one != quirk.default), quirk.default))
    if isinstance(quirk.default, int | float):
        least = quirk.bounds[0]
        if quirk.name in ("http.fail", "http.apply_then_fail"):
            return "503"
        return _text(type(quirk.default)(least if least > 0 else 1))
    return "[]" if isinstance(quirk.default, list) else ""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "[]" if value == [] else str(value)


def _active(number: int, setting: Setting) -> Active:
    left = [] if setting.left is None else [f"{setting.left} more"]
    if setting.until is not None:
        left.append(f"{max(0, setting.until - setting.registry.now()) // SECOND} s more")
    if setting.chance < 1:
        left.append(f"chance {setting.chance:g}")
    where = ", ".join(f"{key} {value}" for key, value in setting.where.items())
    return Active(number, _text(setting.value), where or "everywhere", ", ".join(left) or "until it is turned off")


def _has(switch: Switch, words: str) -> bool:
    texts = [switch.name, switch.doc, *(one.id for one in switch.entries), *(one.title for one in switch.entries)]
    return not words or any(words in text.lower() for text in texts)
