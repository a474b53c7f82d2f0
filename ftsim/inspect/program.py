"""Reads a program without running it, and says which names nobody serves and what the service would refuse.

What stands in the text as a string or a number is judged, also where a name was given it once; what is computed is not.
Modules of the program's own folder that it imports are read too.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emulator.core.catalogue import ACCOUNTS
from emulator.core.errors import PlatformError
from emulator.core.names import check_dns_label, check_model_id, is_loadable
from emulator.platform.jobs.spec import CONTEXT_STEP, LONGEST_DISPLAY_NAME, LONGEST_INACTIVITY_S
from emulator.platform.models.catalogue import Catalogue
from emulator.quirks import jobs, saves, trainers
from ftsim.inspect.machine import EMULATOR_KEY, Trouble

MOST_MODULES = 50
LONGEST_ID = 63
SESSION_SUFFIX = 9
"""Characters that the client adds to a sampler's name: a dash and eight hex digits."""
LEAST_IDLE_WINDOW_S = 300
_MODEL = re.compile(r"accounts/([^/\s]+)/models/([A-Za-z0-9][^/\s#@\"']*)")
_SHAPE = re.compile(r"accounts/([^/\s]+)/trainingShapes/[^\s#@\"']+")
_HERE = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])")
_SAVES = ("save_state", "save_weights", "save_weights_for_sampler", "save_weights_for_sampler_ext")
_SAMPLERS = _SAVES[2:]
_POOLED = (
    "create_lora_training_client",
    "create_training_client_from_state_with_optimizer",
    "create_training_client_from_state",
)
_RETIRED = {
    "datasets": "data sets are not written since 2026-11-15: give the program a local JSONL file or a gs:// path",
    "supervised_fine_tuning_jobs": "no new managed jobs are accepted: train on a trainer job",
    "dpo_jobs": "no new managed jobs are accepted: train on a trainer job",
    "reinforcement_fine_tuning_jobs": "whether new managed jobs are accepted is not known: train on a trainer job",
}
_WRITES = frozenset({"create", "update", "upload", "validate_upload", "preview", "split", "get_download_endpoint"})


class UnreadableProgram(Exception):
    """The file is no Python program that can be read; the message says why."""


@dataclass
class Reading:
    """A program that was read: the names of models and shapes in it with whether they are listed, and the troubles."""

    names: dict[str, bool] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    pooled: bool = False
    """Say whether it trains on the serverless pool, by what it calls."""


def read(path: Path, *, for_service: bool = False) -> Reading:
    """Read a program and the modules beside it; raises UnreadableProgram."""
    catalogue, reading = Catalogue.load(), Reading()
    modules = list(_modules(path))
    reading.pooled = any(_is_pooled(tree) for _, tree in modules)
    for file, tree in modules:
        _Reader(file.name, tree, catalogue, reading, for_service=for_service).read()
    return reading


class _Reader:
    """One module. A trouble that only the service has is noted with `_refused`."""

    def __init__(
        self, file: str, tree: ast.Module, catalogue: Catalogue, reading: Reading, *, for_service: bool
    ) -> None:
        self._file, self._tree, self._catalogue, self._reading = file, tree, catalogue, reading
        self._for_service = for_service
        self._constants = _constants(tree)

    def read(self) -> None:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._text(node, node.value)
            elif isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.For):
                self._loop(node)

    def _text(self, node: ast.AST, text: str) -> None:
        for match in _MODEL.finditer(text):
            if match[1] in ACCOUNTS:
                self._model(node, match[0])
        for match in _SHAPE.finditer(text):
            if match[1] in ACCOUNTS:
                self._shape(node, match[0])
        if _HERE.match(text):
            self._refused(node, "G9", f"{text} is this machine: read the address from FIREWORKS_BASE_URL")
        if "/_ftsim/" in text:
            self._refused(node, "", "the control API /_ftsim/ is the emulator's alone")
        if text.startswith(EMULATOR_KEY):
            self._refused(node, "F18", "a key of an emulator stands in the program: read it from FIREWORKS_API_KEY")

    def _model(self, node: ast.AST, name: str) -> None:
        listed = name in self._catalogue.models
        self._reading.names[name] = listed
        if self._catalogue.model(name) is None:
            self._trouble(node, "", self._catalogue.why_unknown(name))
        elif not listed:
            self._refused(
                node, "", f"{name} is not in the catalogue: it is served here by its family, and may not exist there"
            )

    def _shape(self, node: ast.AST, name: str) -> None:
        try:
            shape, _ = self._catalogue.training_shape(name)
        except PlatformError as unknown:
            self._reading.names[name] = False
            self._trouble(node, "", str(unknown))
            return
        listed = shape.name in self._catalogue.training_shapes and not shape.name.rpartition("/")[2].startswith("ts-")
        self._reading.names[name] = listed
        if not listed:
            self._refused(node, "", f"{name} is not in the catalogue: it stands in for the shapes of its model here")

    def _call(self, call: ast.Call) -> None:
        called = _called(call)
        given = {one.arg: one.value for one in call.keywords if one.arg}
        if called in _SAVES:
            self._save(call, called, given)
        for name, node in given.items():
            if (rule := _SETTINGS.get(name)) is not None:
                value = self._value(node)
                if value is not None and (said := rule(value)):
                    self._refused(node, *said)
        if called == "Config" and {"infra", "weight_sync"} & given.keys():
            self._refused(
                call,
                "H5",
                "infra= and weight_sync= are the forms of April: use trainer=, deployment= and the top-level intervals",
            )
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        why = _RETIRED.get(owner.attr) if called in _WRITES and isinstance(owner, ast.Attribute) else None
        if why is not None:
            self._refused(call, "", why)
        if "annotations" in given and isinstance(given["annotations"], ast.Dict):
            keys = [self._value(key) for key in given["annotations"].keys if key is not None]
            for key in keys:
                if isinstance(key, str) and not key.startswith("custom/"):
                    self._refused(call, "E26", f"the tag key {key!r} is not customer-writable: begin it with custom/")

    def _save(self, call: ast.Call, called: str, given: Mapping[str, ast.expr]) -> None:
        node = call.args[0] if call.args else given.get("name")
        name = self._value(node) if node is not None else None
        if "ttl_seconds" in given and self._value(given["ttl_seconds"]) is not None:
            self._refused(call, "B5", "ttl_seconds is not supported on a save: checkpoints are kept with their job")
        if self._value(given.get("overwrite")) is True:
            self._refused(call, "B1", "overwrite=True is not supported: give each save a name of its own")
        if not isinstance(name, str):
            return
        if not is_loadable(name):
            self._refused(
                call,
                "B3",
                f"{name!r} is refused when it is loaded: lower case, digits and dashes, at most {LONGEST_ID}",
            )
        longest = saves.SERVERLESS_NAMES_MAX_LEN.default
        if self._reading.pooled and len(name) > longest:
            self._refused(call, "G1", f"{name!r} has {len(name)} characters: at most {longest} on the pool")
        elif called in _SAMPLERS and len(name) > LONGEST_ID - SESSION_SUFFIX:
            most = LONGEST_ID - SESSION_SUFFIX
            self._refused(call, "B4", f"{name!r} has {len(name)} characters: with its suffix at most {most} fit")

    def _loop(self, loop: ast.For) -> None:
        """A loop of more turns than the pool has places, each of which opens a run."""
        turns, places = loop.iter, trainers.SESSIONS_QUOTA.default
        if not (isinstance(turns, ast.Call) and _called(turns) == "range" and len(turns.args) == 1):
            return
        count = self._value(turns.args[0])
        opens = any(isinstance(one, ast.Call) and _called(one) in _POOLED for one in ast.walk(loop))
        if opens and isinstance(count, int) and count > places:
            self._refused(
                loop, "G4", f"{count} runs are opened, and the pool has {places} places: end their sessions in between"
            )

    def _value(self, node: ast.expr | None) -> object:
        """Return what stands there as text or number, or was given to a name once; None for what is computed."""
        if isinstance(node, ast.Name):
            return self._constants.get(node.id)
        return node.value if isinstance(node, ast.Constant) else None

    def _trouble(self, node: ast.AST, entry: str, sentence: str) -> None:
        found = Trouble(f"{self._file}:{getattr(node, 'lineno', 0)}", entry, sentence)
        if found not in self._reading.troubles:
            self._reading.troubles.append(found)

    def _refused(self, node: ast.AST, entry: str, sentence: str) -> None:
        if self._for_service:
            self._trouble(node, entry, sentence)


def _rank(value: object) -> tuple[str, str] | None:
    most = jobs.MAX_LORA_RANK.default
    bad = isinstance(value, int) and not 0 <= value <= most
    return ("C10", f"a LoRA rank of {value} is refused: 1 to {most}, or 0 for full-parameter") if bad else None


def _context(value: object) -> tuple[str, str] | None:
    bad = isinstance(value, int) and value % CONTEXT_STEP
    return (
        ("F18", f"a context length of {value} is refused with a training shape: it must be divisible by {CONTEXT_STEP}")
        if bad
        else None
    )


def _display(value: object) -> tuple[str, str] | None:
    bad = isinstance(value, str) and len(value) > LONGEST_DISPLAY_NAME
    return (
        ("", f"a display name has at most {LONGEST_DISPLAY_NAME} characters, this one {len(str(value))}")
        if bad
        else None
    )


def _idle(value: object) -> tuple[str, str] | None:
    seconds = float(value.rstrip("s")) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?s", value) else value
    bad = isinstance(seconds, int | float) and seconds > LONGEST_INACTIVITY_S
    return ("F21", f"an inactivity timeout of {value} is refused: at most {LONGEST_INACTIVITY_S:g} s") if bad else None


def _cleanup(value: object) -> tuple[str, str] | None:
    sentence = "disable_inactivity_cleanup is for the vendor's own account: give inactivity_timeout of hours"
    return ("F21", sentence) if value is True else None


def _window(value: object) -> tuple[str, str] | None:
    seconds = float(value.rstrip("s")) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?s", value) else value
    bad = isinstance(seconds, int | float) and seconds < LEAST_IDLE_WINDOW_S
    return ("", f"a scale-to-zero window of {value} is too short: at least {LEAST_IDLE_WINDOW_S} s") if bad else None


def _id(check: Callable[[str], object], entry: str) -> Callable[[object], tuple[str, str] | None]:
    def rule(value: object) -> tuple[str, str] | None:
        if not isinstance(value, str):
            return None
        try:
            check(value)
        except PlatformError as refused:
            return entry, str(refused)
        return None

    return rule


_SETTINGS: Mapping[str, Callable[[object], tuple[str, str] | None]] = {
    "lora_rank": _rank,
    "rank": _rank,
    "max_context_length": _context,
    "display_name": _display,
    "inactivity_timeout": _idle,
    "disable_inactivity_cleanup": _cleanup,
    "scale_to_zero_window": _window,
    "output_model_id": _id(check_model_id, "D4"),
    "requested_job_id": _id(lambda value: check_dns_label(value, "job id"), ""),
    "deployment_id": _id(lambda value: check_dns_label(value, "deployment id"), ""),
}
"""Settings by the name of their argument, and what the service says of a value."""


def _modules(path: Path) -> Iterator[tuple[Path, ast.Module]]:
    """The program, and the modules of its folder that it imports, each once."""
    waiting, seen = [path], set[Path]()
    while waiting and len(seen) < MOST_MODULES:
        file = waiting.pop(0)
        if file.resolve() in seen:
            continue
        seen.add(file.resolve())
        tree = _parsed(file)
        yield file, tree
        for name in _imports(tree):
            beside = path.parent.joinpath(*name.split("."))
            waiting += [one for one in (beside.with_suffix(".py"), beside / "__init__.py") if one.is_file()]


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise UnreadableProgram(f"{file}: {error.strerror or error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnreadableProgram(f"{file} is no Python program: {error}") from None


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _constants(tree: ast.Module) -> dict[str, object]:
    """Names that are given a text or a number, once in the whole module."""
    found: dict[str, list[object]] = {}
    for node in ast.walk(tree):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(value.value if isinstance(value, ast.Constant) else None)
    return {name: values[0] for name, values in found.items() if len(values) == 1 and values[0] is not None}


def _is_pooled(tree: ast.Module) -> bool:
    """Say whether it trains on the pool: it calls what only the pool has, or says serverless=True."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if _called(node) == "create_lora_training_client":
                return True
            for one in node.keywords:
                if one.arg == "serverless" and isinstance(one.value, ast.Constant) and one.value.value is True:
                    return True
    return False


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
