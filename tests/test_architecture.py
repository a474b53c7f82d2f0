"""The arrows of docs/architecture.md, read off the imports."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EMULATOR = sorted((ROOT / "emulator").rglob("*.py"))
FTSIM = sorted((ROOT / "ftsim").rglob("*.py"))
CORE = ("kinds", "names", "errors", "clock", "ids", "transitions")
WEB = ("fastapi", "starlette", "uvicorn", "httpx", "pydantic")
ROUTES = ("control", "gateway", "inference")
COMPUTE = ("trainer", "sampler", "models", "checkpoints", "backend")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))


def imports(path: Path) -> Iterator[str]:
    """Full names of everything a file imports, wherever in it."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reach(path: Path, *forbidden: str) -> set[str]:
    return {name for name in imports(path) if any(name == f or name.startswith(f"{f}.") for f in forbidden)}


def calls(path: Path, module: str) -> set[str]:
    """Attributes of a module that a file uses, as in `time.time`."""
    return {
        node.attr
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    }


def shown(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_is_something_to_read() -> None:
    assert len(EMULATOR) > 20
    assert len(FTSIM) > 10


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_the_standard_library_and_itself(module: str) -> None:
    allowed = {*sys.stdlib_module_names, *(f"emulator.{other}" for other in CORE)}
    path = ROOT / "emulator" / f"{module}.py"
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] in allowed or ".".join(parts[:2]) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("path", EMULATOR, ids=shown(EMULATOR))
def test_the_emulator_imports_neither_torch_nor_ftsim(path: Path) -> None:
    assert not reach(path, "torch", "transformers", "peft", "ftsim", "fireworks")


@pytest.mark.parametrize("path", [p for p in EMULATOR if "platform" in p.parts])
def test_the_rules_know_no_http(path: Path) -> None:
    assert not reach(path, *WEB, *(f"emulator.{route}" for route in ROUTES), "emulator.web", "emulator.app")


@pytest.mark.parametrize("name", ["world", "entities", "store", "blobs", "quirks", "quirk_table", "backend"])
def test_the_state_knows_neither_http_nor_the_rules(name: str) -> None:
    path = ROOT / "emulator" / f"{name}.py"
    assert not reach(path, *WEB, "emulator.platform", "emulator.web", *(f"emulator.{route}" for route in ROUTES))


@pytest.mark.parametrize("path", [p for p in FTSIM if "training" in p.parts])
def test_the_client_side_would_run_against_the_real_service(path: Path) -> None:
    # torch is for losses computed on the client's side alone.
    torch = () if path.name == "preference_losses.py" else ("torch",)
    others = {path.stem for path in (ROOT / "ftsim").glob("*")} - {"training", "__init__"}
    assert not reach(path, "emulator", *torch, *(f"ftsim.{module}" for module in others))


RECIPES = sorted((ROOT / "ftsim" / "training" / "recipes").glob("*_loop.py"))


@pytest.mark.parametrize("path", RECIPES, ids=shown(RECIPES))
def test_a_recipe_is_short_and_holds_no_class_but_its_config(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 200
    assert [node.name for node in nodes(path) if isinstance(node, ast.ClassDef)] == ["Config"]
    saving = {"save_state", "save_weights_for_sampler_ext", "load_state_with_optimizer", "promote_checkpoint"}
    assert not {node.attr for node in nodes(path) if isinstance(node, ast.Attribute)} & saving


@pytest.mark.parametrize("path", RECIPES, ids=shown(RECIPES))
def test_a_recipe_reaches_the_vendors_client_and_none_of_what_answers_it(path: Path) -> None:
    seen, waiting = {path}, [path]
    reached: set[str] = set()
    while waiting:
        for name in imports(waiting.pop()):
            reached.add(name.partition(".")[0])
            module = ROOT / f"{name.replace('.', '/')}.py"
            if name.startswith("ftsim.") and module.exists() and module not in seen:
                assert name.startswith("ftsim.training."), f"{path.name} reaches {name}"
                seen.add(module)
                waiting.append(module)
    assert "fireworks" in reached
    assert "emulator" not in reached


@pytest.mark.parametrize("name", COMPUTE)
def test_what_computes_knows_of_the_emulator_only_the_protocol(name: str) -> None:
    paths = [ROOT / "ftsim" / f"{name}.py", *(ROOT / "ftsim" / name).glob("*.py")]
    for path in (path for path in paths if path.exists()):
        found = {name for name in reach(path, "emulator") if name != "emulator"}
        allowed = ("emulator.backend", "emulator.errors", "emulator.kinds")
        assert not {name for name in found if not name.startswith(allowed)}, path


@pytest.mark.parametrize("path", [p for p in EMULATOR if p.name != "clock.py"])
def test_only_the_clock_reads_the_time(path: Path) -> None:
    assert not calls(path, "time") & {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"}
    assert not calls(path, "datetime") & {"now", "utcnow", "today"}


@pytest.mark.parametrize("path", [p for p in EMULATOR if p.name != "ids.py"])
def test_only_ids_makes_ids_and_chance(path: Path) -> None:
    assert not reach(path, "uuid", "random", "secrets")


def test_the_page_names_every_module_and_folder() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    left_out = ("__init__.py", "__main__.py", "__pycache__")
    for path in (path for package in ("emulator", "ftsim") for path in (ROOT / package).iterdir()):
        name = f"{path.name}/" if path.is_dir() else path.name
        if path.name not in left_out and (path.is_dir() or path.suffix == ".py"):
            assert re.search(rf"(?<![\w.]){re.escape(name)}", page), f"{path} is not in docs/architecture.md"
