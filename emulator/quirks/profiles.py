"""Quirks as text: `name=value@job=j1,times=1` from a command line, and named sets of them from YAML files."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from emulator.core.errors import InvalidArgument
from emulator.quirks.engine import SELECTORS, Quirk, Quirks, Setting, unknown_quirk
from emulator.quirks.platforms import VALUES

BUILT_IN = Path(__file__).with_name("profiles.yaml")
_BUDGETS = ("times", "for_s", "chance")
_OTHER_OPTION = re.compile(r"[@,]([A-Za-z_]+)=")
_OPTION = re.compile(rf"[@,]({'|'.join((*SELECTORS, *_BUDGETS))})=")


@dataclass(frozen=True)
class QuirkSpec:
    """A setting of a quirk that somebody asks for; `budget` holds times, for_s, chance, `where` selectors."""

    name: str
    value: Any
    budget: Mapping[str, float] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)

    def apply(self, quirks: Quirks) -> Setting:
        """Turn it on; raises InvalidArgument."""
        options: dict[str, Any] = {**self.budget, **self.where}
        return quirks.set(self.name, self.value, **options)


def parse(text: str, table: Mapping[str, Quirk[Any]]) -> QuirkSpec:
    """A spec from `name=value[@selector=id][,times=n][,for_s=t][,chance=p]`; raises InvalidArgument."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise InvalidArgument(f"quirk {text!r}: write name=value, or name=value@job=j1,times=1")
    if name not in table:
        raise unknown_quirk(name, table)
    value, *options = _OPTION.split(rest)
    given = dict(zip(options[::2], options[1::2], strict=True))
    for option in given.values():
        _refuse_options_in(table[name], option)
    budget = {key: _number(name, key, given[key]) for key in _BUDGETS if key in given}
    try:
        checked = table[name].check(typed(table[name], value))
    except InvalidArgument:
        _refuse_options_in(table[name], value)
        raise
    return QuirkSpec(name, checked, budget, {key: given[key] for key in SELECTORS if key in given})


def _refuse_options_in(quirk: Quirk[Any], text: str) -> None:
    """Raises InvalidArgument when the text goes on with `@something=`, which then is no selector that there is."""
    for key in _OTHER_OPTION.findall(text):
        quirk.check_selectors({key: ""})


def names() -> dict[str, str]:
    """The built-in profiles and what each is about."""
    return {name: str(profile["about"]) for name, profile in _read(BUILT_IN).items()}


def load(name: str | Path) -> list[QuirkSpec]:
    """The specs of a built-in profile, or of all profiles in a YAML file; raises InvalidArgument."""
    built_in = _read(BUILT_IN)
    if str(name) in built_in:
        return _specs(str(name), built_in[str(name)])
    if not Path(name).is_file():
        raise InvalidArgument(f"unknown profile {str(name)!r}: use {', '.join(built_in)}, or a YAML file")
    return [spec for title, profile in _read(Path(name)).items() for spec in _specs(title, profile)]


def apply(quirks: Quirks, name: str | Path) -> list[Setting]:
    """Turn on a whole profile; raises InvalidArgument, and then none of it is on."""
    applied: list[Setting] = []
    try:
        applied.extend(spec.apply(quirks) for spec in load(name))
    except InvalidArgument:
        for setting in applied:
            setting.off()
        raise
    return applied


def _read(path: Path) -> dict[str, Any]:
    try:
        read = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidArgument(f"{path} is no profile: {error}") from error
    if not isinstance(read, dict):
        raise InvalidArgument(f"{path} is no profile: it holds no mapping of names to profiles")
    return read


def _specs(title: str, profile: Any) -> list[QuirkSpec]:
    if isinstance(profile, dict) and profile.get("platform") in VALUES:
        return [QuirkSpec(quirk.name, value) for quirk, value in VALUES[profile["platform"]].items()]
    entries = profile.get("quirks") if isinstance(profile, dict) else None
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise InvalidArgument(f"profile {title}: give a list of quirks")
    return [_spec(title, entry) for entry in entries]


def _spec(title: str, entry: Any) -> QuirkSpec:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or "value" not in entry:
        raise InvalidArgument(f"profile {title}: an entry has a name and a value, got {entry!r}")
    options = {key: given for key, given in entry.items() if key not in ("name", "value")}
    budget = {key: given for key, given in options.items() if key in _BUDGETS}
    if not all(type(given) in (int, float) for given in budget.values()):
        raise InvalidArgument(f"profile {title}: {entry['name']}: {', '.join(_BUDGETS)} are numbers")
    where = {str(key): str(given) for key, given in options.items() if key not in _BUDGETS}
    return QuirkSpec(entry["name"], entry["value"], budget, where)


def _number(name: str, key: str, text: str) -> float:
    try:
        return int(text) if key == "times" else float(text)
    except ValueError:
        raise InvalidArgument(f"quirk {name}: {key} is {text!r}, give a number") from None


def typed(quirk: Quirk[Any], text: str) -> Any:
    """The text as a value of the quirk's type; raises InvalidArgument."""
    if isinstance(quirk.default, str):
        return text
    try:
        return json.loads(text.lower() if isinstance(quirk.default, bool) else text)
    except ValueError:
        raise InvalidArgument(f"quirk {quirk.name} takes a {type(quirk.default).__name__}, got {text!r}") from None
