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
WEB = ("fastapi", "starlette", "uvicorn", "httpx", "pydantic")
COMPUTING = ("errors", "kinds", "limits", "catalogue", "own_warnings", "adam", "answer_format", "images")
# The rooms, each with the rooms it may import from: an arrow that is not here points up.
ROOMS = {
    "emulator.core": set(),
    "emulator.quirks": {"emulator.core"},
    "emulator.state": {"emulator.core", "emulator.quirks"},
    "emulator.journal": {"emulator.core", "emulator.quirks", "emulator.state"},
    "emulator.backend": {"emulator.core"},
    "emulator.light": {"emulator.core", "emulator.backend"},
    "emulator.platform": {f"emulator.{room}" for room in ("core", "quirks", "state", "journal", "backend")},
    "emulator.http": {f"emulator.{room}" for room in ("core", "quirks", "state", "journal", "backend", "platform")},
    "ftsim.training": set(),
    # Of the emulator, what computes knows the protocol, errors, kinds, limits, the one catalogue, its own warnings.
    "ftsim.compute": {"emulator.backend", *(f"emulator.core.{one}" for one in COMPUTING)},
    "ftsim.extras": set(),
    "ftsim.shared_clock": set(),
    "ftsim.local": {"emulator", "ftsim.compute", "ftsim.extras"},
    "ftsim.process": {"emulator", "ftsim.compute", "ftsim.local", "ftsim.extras", "ftsim.shared_clock"},
    "ftsim.inspect": {"emulator", "ftsim.training.checkpoints.rows"},
    "ftsim.testing": {"emulator", "ftsim.Emulator", "ftsim.compute", "ftsim.extras", "ftsim.shared_clock"},
    "ftsim.scenarios": {"emulator", *(f"ftsim.{room}" for room in ("compute", "training", "testing"))},
    "ftsim.tools": {
        "emulator",
        *(f"ftsim.{room}" for room in ("compute", "training", "testing", "scenarios", "process", "inspect")),
    },
    # Commands may use everything, and nothing uses a command.
    "ftsim.cli": {
        "emulator",
        *(f"ftsim.{room}" for room in ("compute", "training", "scenarios", "process", "inspect", "tools", "extras")),
    },
}


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


def files(room: str) -> list[Path]:
    folder = ROOT / room.replace(".", "/")
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_the_rooms_beneath_it_alone(room: str) -> None:
    allowed = (room, *ROOMS[room])
    assert files(room)
    for path in files(room):
        for name in reach(path, "emulator", "ftsim") - {"emulator", "ftsim"}:
            parent = name.rpartition(".")[0]
            fine = any(known == start or known.startswith(f"{start}.") for start in allowed for known in (name, parent))
            assert fine or any(start.startswith(f"{name}.") for start in allowed), f"{path} imports {name}"


def test_every_room_of_the_emulator_has_its_arrows() -> None:
    inside = [path for path in (ROOT / "emulator").iterdir() if path.is_dir() or path.suffix == ".py"]
    rooms = {path.stem for path in inside if not path.name.startswith("__")}
    assert rooms - {"server"} == {room.removeprefix("emulator.") for room in ROOMS if room.startswith("emulator.")}


def test_every_room_of_ftsim_has_its_arrows() -> None:
    inside = [path for path in (ROOT / "ftsim").iterdir() if path.is_dir() or path.suffix == ".py"]
    rooms = {path.stem for path in inside if not path.name.startswith("__")}
    assert rooms == {room.removeprefix("ftsim.") for room in ROOMS if room.startswith("ftsim.")}


def test_no_room_imports_from_one_that_imports_from_it() -> None:
    for room, beneath in ROOMS.items():
        for other in beneath & ROOMS.keys():
            assert room not in ROOMS[other], f"{room} and {other} import from each other"


@pytest.mark.parametrize("path", files("emulator.core"))
def test_the_core_imports_the_standard_library_and_itself(path: Path) -> None:
    for name in imports(path):
        assert name.partition(".")[0] in {*sys.stdlib_module_names, "emulator"}, f"{path} imports {name}"


@pytest.mark.parametrize("path", EMULATOR, ids=shown(EMULATOR))
def test_the_emulator_imports_neither_torch_nor_ftsim(path: Path) -> None:
    assert not reach(path, "torch", "transformers", "peft", "ftsim", "fireworks")


@pytest.mark.parametrize("room", [room for room in ROOMS if room.startswith("emulator.") and room != "emulator.http"])
def test_only_http_knows_http(room: str) -> None:
    for path in files(room):
        # The archive reads a file that somebody hands in: pydantic checks it there.
        web = WEB[:-1] if path.name == "archive.py" else WEB
        assert not reach(path, *web), path


@pytest.mark.parametrize("path", [p for p in FTSIM if "training" in p.parts])
def test_the_client_side_would_run_against_the_real_service(path: Path) -> None:
    # torch is for losses computed on the client's side alone.
    torch = () if path.name == "losses.py" else ("torch",)
    assert not reach(path, *torch)


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


@pytest.mark.parametrize("path", [p for p in EMULATOR if p.name != "clock.py"])
def test_only_the_clock_reads_the_time(path: Path) -> None:
    assert not calls(path, "time") & {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"}
    assert not calls(path, "datetime") & {"now", "utcnow", "today"}


@pytest.mark.parametrize("path", [p for p in EMULATOR if p.name != "ids.py"])
def test_only_ids_makes_ids_and_chance(path: Path) -> None:
    assert not reach(path, "uuid", "random", "secrets")


def test_the_drawing_has_every_room_in_a_box_that_stands_on_those_it_uses() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    drawing = [line.partition("|")[2] for line in page.splitlines() if line.startswith("    ") and line.endswith("|")]
    assert len([box for line in drawing for box in line.split("|") if box.strip()]) == 12
    found = [
        (room[0], number, room.start()) for number, line in enumerate(drawing) for room in re.finditer("[a-z]+", line)
    ]
    place = {room: where for room, *where in found}
    assert sorted(room for room, *_ in found) == sorted(
        {*(room.split(".")[1] for room in ROOMS), "server"} - {"extras", "shared_clock"}
    )
    for room, used in ROOMS.items():
        for other in {name.split(".")[1] for name in used if "." in name} & place.keys() - {room.split(".")[1]}:
            assert place[room.split(".")[1]] < place[other], f"{room} is drawn beneath {other}"


def test_the_page_names_every_module_and_folder() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    left_out = ("__init__.py", "__main__.py", "__pycache__")
    for path in (path for package in ("emulator", "ftsim") for path in (ROOT / package).iterdir()):
        name = f"{path.name}/" if path.is_dir() else path.name
        if path.name not in left_out and (path.is_dir() or path.suffix == ".py"):
            assert re.search(rf"(?<![\w.]){re.escape(name)}", page), f"{path} is not in docs/architecture.md"
