"""Quirks as text: wishes of the command line, profiles of YAML files."""

from pathlib import Path

import pytest

from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument
from emulator.quirks import profiles
from emulator.quirks.engine import Quirks
from emulator.quirks.table import QUIRKS


@pytest.fixture
def quirks() -> Quirks:
    return Quirks(Clock(), QUIRKS)


@pytest.mark.parametrize(
    ("text", "value", "where", "left"),
    [
        ("rows.time_precision=mixed", "mixed", {}, None),
        ("rows.visible_after_lists=2@job=j1", 2, {"job": "j1"}, None),
        ("hotload.fail_next=true@deployment=d,times=1", True, {"deployment": "d"}, 1),
        ("hotload.fail_next=True,times=3", True, {}, 3),
        ("http.delay_s=0.5@endpoint=promote,chance=0.25", 0.5, {"endpoint": "promote"}, None),
        ('rows.omit=["createTime","promotable"],for_s=60', ["createTime", "promotable"], {}, None),
        ("http.fail=503@endpoint=list_checkpoints,job=j", 503, {"endpoint": "list_checkpoints", "job": "j"}, None),
        ("rows.extra_type=", "", {}, None),
    ],
)
def test_a_quirk_is_written_in_a_line(
    quirks: Quirks, text: str, value: object, where: dict[str, str], left: int | None
) -> None:
    setting = profiles.parse(text, quirks.table).apply(quirks)
    assert (setting.value, dict(setting.where), setting.left) == (value, where, left)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows.time_precision", "write name=value"),
        ("rows.nonsense=1", "unknown quirk 'rows.nonsense'.*docs/quirks.md"),
        ("rows.visible_after_list=1", "did you mean 'rows.visible_after_lists'?"),
        ("http.fail=503@foo=1", "unknown selector of quirk http.fail: 'foo'; use endpoint, job"),
        ("http.fail=503@jobs=j1", "'jobs', did you mean 'job'?"),
        ("http.fail=503@job=j1,foo=1", "unknown selector of quirk http.fail: 'foo'"),
        ("http.fail=503,times=2,foo=1", "unknown selector of quirk http.fail: 'foo'"),
        ("hotload.fail_next=True@job=j1", "selector of quirk hotload.fail_next: 'job'; use deployment, checkpoint"),
        ("errors.style=text@job=j1", "errors.style cannot be selected by 'job': it holds for everything"),
        ("rows.time_precision=mixed@foo=1", "unknown selector of quirk rows.time_precision: 'foo'"),
        ("http.fail=503@endpoint=promot", "unknown endpoint of quirk http.fail: 'promot', did you mean 'promote'?"),
        ("rows.time_precision=hours", "none of"),
        ("hotload.fail_next=maybe", "takes a bool"),
        ("hotload.fail_next=1", "takes a bool"),
        ("http.fail=many", "takes a int"),
        ("http.fail=503,times=often", "give a number"),
        ("http.fail=503,chance=2", "probability"),
    ],
)
def test_a_quirk_that_is_none_is_refused(quirks: Quirks, text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        profiles.parse(text, quirks.table).apply(quirks)
    assert quirks.active() == []


@pytest.mark.parametrize("name", ["production-like", "april-2026", "chaos"])
def test_a_built_in_profile_turns_on_what_it_lists(quirks: Quirks, name: str) -> None:
    settings = profiles.apply(quirks, name)
    assert quirks.active() == settings
    assert len(settings) >= 10
    assert profiles.names()[name]


def test_a_profile_may_come_from_a_file(quirks: Quirks, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine:\n  quirks:\n    - {name: http.fail, value: 503, times: 2, endpoint: promote}\n")
    (setting,) = profiles.apply(quirks, file)
    assert (setting.left, dict(setting.where)) == (2, {"endpoint": "promote"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "no mapping"),
        ("a: {quirks: x}", "list of quirks"),
        ("a: {}", "list of quirks"),
        ("a: {quirks: [{name: http.fail}]}", "a name and a value"),
        ("a: {quirks: [{name: http.fail, value: 503, times: soon}]}", "numbers"),
        ("a: {quirks: [{name: http.fail, value: 503, planet: mars}]}", "unknown selector"),
        ("a: {quirks: [{name: http.fail, value: 503}, {name: http.fail, value: x}]}", "takes a int"),
        ("a: [", "no profile"),
    ],
)
def test_a_bad_profile_turns_nothing_on(quirks: Quirks, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=said):
        profiles.apply(quirks, file)
    assert quirks.active() == []


def test_an_unknown_profile_names_those_there_are(quirks: Quirks) -> None:
    with pytest.raises(InvalidArgument, match="production-like, april-2026, chaos"):
        profiles.apply(quirks, "sunny")
