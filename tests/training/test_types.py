"""The recipes' own code says what it takes: a fork's editor and mypy find a mistake before a run does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import ftsim.training

FOLDER = Path(ftsim.training.__file__).parent


def parameters() -> Iterator[tuple[str, str]]:
    """Place and annotation of every parameter in ftsim.training, but self and cls."""
    for path in sorted(FOLDER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                more = [one for one in (given.vararg, given.kwarg) if one is not None]
                for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, *more):
                    if one.arg not in ("self", "cls"):
                        hint = ast.unparse(one.annotation) if one.annotation else "Any"
                        yield f"{path.relative_to(FOLDER)}: {node.name}({one.arg})", hint


def test_fewer_than_3_percent_of_the_parameters_may_be_anything() -> None:
    found = list(parameters())
    assert len(found) > 400
    untyped = [place for place, hint in found if hint == "Any"]
    assert len(untyped) < 0.03 * len(found), untyped
