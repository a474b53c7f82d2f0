"""The style of the house, as far as a program can judge it: sizes, names in the field's own terms, docstrings."""

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in ("emulator", "ftsim")}
LARGEST = 350
LITERARY = frozenset(("shelf", "teller", "lexicon", "speech", "jury", "hurried", "steady", "site", "grant", "blame"))
"""Words that had to be learnt before a sentence could be read, each replaced by the field's term."""
FORMATTED_BY_HAND = 40
"""Tables that need their columns, in code and tests; everything else is laid out by the formatter."""
PAGES = {"README.md", "LICENSE", "CHANGELOG.md"}
QUESTION = re.compile(r"(What|Whether|Who|Which|Where|When|How|Why)\b")
TOP = {"pyproject.toml", "tox.ini", "emulator", "ftsim", "tests", "fixtures", "docs", "findings", *PAGES}


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


@pytest.mark.parametrize("package", [*FILES, "tests"])
def test_a_docstring_begins_with_its_subject_or_a_verb(package: str) -> None:
    unsaid = [
        f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if (docstring := ast.get_docstring(node)) and QUESTION.match(docstring)
    ]
    assert unsaid == []


def test_the_formatter_is_switched_off_for_tables_alone() -> None:
    switch = re.compile(r"# fmt: (?:off|skip)$", re.MULTILINE)
    places = [
        str(path.relative_to(ROOT))
        for package in (*FILES, "tests")
        for path in sorted((ROOT / package).rglob("*.py"))
        for _ in switch.findall(path.read_text("utf-8"))
    ]
    assert len(places) <= FORMATTED_BY_HAND, places


def test_nothing_else_lies_at_the_top() -> None:
    """A file that belongs to a tool lies in .ci, one for contributors in .github."""
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    if not (ROOT / ".git").exists():
        pytest.skip("an unpacked distribution holds whatever its user put there")
    listed = subprocess.run(git, check=True, capture_output=True, text=True).stdout.splitlines()
    assert {Path(name).parts[0] for name in listed} - TOP == {".ci", ".github", ".gitignore"}


@pytest.mark.parametrize("package", FILES)
def test_an_entry_of_the_catalogue_never_stands_for_a_reason(package: str) -> None:
    """A comment that is an id alone says nothing to whoever has not learnt the catalogue."""
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES[package]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"#\s*\(?(FAILURES )?[A-F]\d{1,2}(, [A-F]\d{1,2})*\)?\s*$", line)
    ]
    assert bare == []
