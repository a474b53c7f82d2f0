"""The pages that the documentation's site makes by itself: one for each failure, every message, every finding."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from emulator.quirks.failures import entries
from ftsim.inspect.messages import symptoms

ROOT = Path(__file__).parent.parent


@cache
def pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return dict(hooks.pages())


@pytest.mark.parametrize("identifier", ["A1", "A12", "D6", "E14"])
def test_a_failure_has_a_page_with_symptom_cause_cure_and_how_to_reproduce_it(identifier: str) -> None:
    page = pages()[f"failures/{identifier}.md"]
    entry = entries()[identifier]
    assert page.startswith(f"# {identifier}: {entry.title}")
    assert entry.sees in page
    assert entry.cause in page
    assert entry.cure in page
    assert f"ftsim reproduce {identifier}" in page


def test_every_failure_has_a_page_and_every_message_leads_to_one() -> None:
    assert {f"failures/{identifier}.md" for identifier in entries()} <= set(pages())
    index = pages()["failures/messages.md"]
    for symptom in symptoms():
        for identifier in symptom.entries:
            assert f"({identifier}.md)" in index
            assert all(
                pattern.removeprefix("^") in pages()[f"failures/{identifier}.md"] for pattern in symptom.patterns
            )


def test_every_script_of_findings_is_told_with_what_was_seen() -> None:
    page = pages()["findings.md"]
    for script in (ROOT / "findings").glob("*.sh"):
        assert f"findings/{script.name}" in page
        assert "utput seen" in script.read_text("utf-8")


def test_the_control_api_is_listed() -> None:
    page = pages()["reference/control.md"]
    assert "| POST | `/_ftsim/clock` |" in page
    assert len(re.findall(r"^\| (?:GET|POST|PUT|DELETE) \|", page, flags=re.M)) > 10


def test_every_page_stands_in_the_navigation() -> None:
    text = (ROOT / "docs" / "mkdocs.yml").read_text("utf-8")
    navigation = str(yaml.safe_load(text.partition("\nnav:")[2].partition("\nvalidation:")[0]))
    alone = {page for page in pages() if not re.fullmatch(r"failures/[A-H]\d+\.md", page)}
    assert {page for page in alone if f"'{page}'" not in navigation} == set()
