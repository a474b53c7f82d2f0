"""The style of the house, as far as a program can judge it: sizes, names in the field's own terms, docstrings."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in ("emulator", "ftsim")}
LARGEST = 350
LITERARY = frozenset(("shelf", "teller", "lexicon", "speech", "jury", "hurried", "steady", "site", "grant", "blame"))
"""Words that had to be learnt before a sentence could be read, each replaced by the field's term."""
SPOKEN = ("emulator/server.py", "emulator/http", "emulator/platform", "ftsim/process", "ftsim/inspect", "ftsim/cli",
          "ftsim/tools")  # fmt: skip
"""Where every docstring begins with its subject or a verb."""


def length(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def test_no_file_is_too_long_to_be_read_in_one_sitting() -> None:
    long = {str(path.relative_to(ROOT)): length(path) for found in FILES.values() for path in found}
    assert {name: lines for name, lines in long.items() if lines > LARGEST} == {}


def test_a_module_of_ftsim_holds_more_than_one_thought() -> None:
    assert 80 <= statistics.median(length(path) for path in FILES["ftsim"]) <= 200


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives: to classes, functions, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("package", FILES)
def test_names_are_terms_of_the_field(package: str) -> None:
    literary = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES[package]
        for name in names(ast.parse(path.read_text("utf-8")))
        if words(name) & LITERARY
    ]
    assert literary == []


@pytest.mark.parametrize("room", SPOKEN)
def test_a_docstring_begins_with_its_subject_or_a_verb(room: str) -> None:
    paths = sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / room]
    assert paths
    riddles = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.match(r'\s*r?"""(What|Whether|Who|Where|How|Why)\b', line)
    ]
    assert riddles == []


@pytest.mark.parametrize("package", FILES)
def test_an_entry_of_the_catalogue_never_stands_for_a_reason(package: str) -> None:
    """A comment that is an id alone says nothing to whoever has not learnt the catalogue."""
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES[package]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"#\s*\(?[A-F]\d{1,2}\)?\s*$", line)
    ]
    assert bare == []
