"""Python imports this at start-up because `ftsim run` puts this folder in front of PYTHONPATH.

It runs in whatever interpreter the program uses, so it needs the standard library only. These things happen:

- the SDK's default address (a constant and default arguments, not read from the environment: WIRE 1.1) becomes
  FIREWORKS_BASE_URL as its modules are imported;
- `training.*` is `ftsim.training.*`, the same module objects, unless a package of that name can be imported;
- `ftsim` itself can be imported, also where it is not installed;
- the last lines of `ftsim run` are said before the program ends;
- with `--map`, mapped addresses are answered from files, and nothing else is reached (`ftsim_mapped`);
- with `--fast-forward`, waits take no time that nobody needs (`ftsim_forward`).

The user's own `sitecustomize`, if there is one, runs afterwards as if this file were not there.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

PUBLIC_ADDRESS = "https://api.fireworks.ai"
SDK = "fireworks.training.sdk"


def _redirected(value: object, address: str) -> object:
    """`value` with the public address replaced; anything but such a string stays."""
    if isinstance(value, str) and (value == PUBLIC_ADDRESS or value.startswith(PUBLIC_ADDRESS + "/")):
        return address + value[len(PUBLIC_ADDRESS) :]
    return value


def _redirect_function(function: types.FunctionType, address: str) -> None:
    if function.__defaults__:
        function.__defaults__ = tuple(_redirected(value, address) for value in function.__defaults__)
    if function.__kwdefaults__:
        defaults = function.__kwdefaults__
        function.__kwdefaults__ = {name: _redirected(value, address) for name, value in defaults.items()}


def _redirect_namespace(owner: object, module_name: str, address: str) -> None:
    """Constants, default arguments and methods that `module_name` itself defines."""
    for name, value in list(vars(owner).items()):
        value = getattr(value, "__func__", value)
        if isinstance(value, str) and not name.startswith("__"):
            if _redirected(value, address) != value:
                setattr(owner, name, _redirected(value, address))
        elif isinstance(value, types.FunctionType):
            _redirect_function(value, address)
        elif isinstance(value, type) and value.__module__ == module_name and isinstance(owner, types.ModuleType):
            _redirect_namespace(value, module_name, address)


class _Redirector:
    """Finds the SDK's modules as usual and edits them once they have run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != SDK and not name.startswith(SDK + "."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            run(module)
            address = os.environ.get("FIREWORKS_BASE_URL", "").rstrip("/")
            if address:
                _redirect_namespace(module, name, address)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _AliasLoader(importlib.abc.InspectLoader):
    """Gives `training.x` the module object of `ftsim.training.x`."""

    def __init__(self, real_name: str) -> None:
        self.real_name = real_name

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = importlib.import_module(self.real_name)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__spec__ = self.own_spec  # importlib has just put the alias there

    def get_code(self, fullname: str) -> types.CodeType | None:
        """The code that `python -m training.x` runs."""
        return self._real_loader().get_code(self.real_name)

    def get_source(self, fullname: str) -> str | None:
        return self._real_loader().get_source(self.real_name)

    def is_package(self, fullname: str) -> bool:
        return self._real_loader().is_package(self.real_name)

    def _real_loader(self) -> importlib.abc.InspectLoader:
        spec = importlib.util.find_spec(self.real_name)
        assert spec is not None
        assert isinstance(spec.loader, importlib.abc.InspectLoader)
        return spec.loader


class _Training:
    """Resolves `training` to `ftsim.training` unless another finder has a package or a cookbook folder of that name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "training":
            if self._found_elsewhere():
                return None
        elif not name.startswith("training.") or not self._lent():
            return None
        real_name = "ftsim." + name
        try:
            real = importlib.util.find_spec(real_name)
        except ModuleNotFoundError:
            return None
        if real is None:
            return None
        is_package = real.submodule_search_locations is not None
        spec = importlib.machinery.ModuleSpec(name, _AliasLoader(real_name), origin=real.origin, is_package=is_package)
        spec.has_location = real.has_location
        if is_package:
            spec.submodule_search_locations = real.submodule_search_locations
        return spec

    def _lent(self) -> bool:
        module = sys.modules.get("training")
        return module is not None and module is sys.modules.get("ftsim.training")

    def _found_elsewhere(self) -> bool:
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec("training", None)
            if spec is not None and (spec.loader is not None and spec.origin is not None):
                return True
            for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
                if os.path.isdir(os.path.join(folder, "recipes")) or os.path.isdir(os.path.join(folder, "utils")):
                    return True
        return False


class _Itself:
    """The last resort for `ftsim` and `emulator`: the copy that started this program."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        root = os.environ.get("FTSIM_PACKAGE_ROOT")
        if root and path is None and name in ("ftsim", "emulator"):
            return importlib.machinery.PathFinder.find_spec(name, [root])
        return None


def _run_the_users_own() -> None:
    """Import the `sitecustomize` that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _say_lines_at_the_end() -> None:
    """Have the program that `ftsim run` became say its last lines; without this, a process beside it does."""
    if f'"pid": {os.getpid()},' not in os.environ.get("FTSIM_ENDING", ""):
        return  # another process of the program
    file = os.path.join(os.environ.get("FTSIM_PACKAGE_ROOT", ""), "ftsim", "process", "ending.py")
    try:
        spec = importlib.util.spec_from_file_location("_ftsim_ending", file)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.at_exit()
    except Exception:  # an older Python that cannot read the file: the program must run all the same
        return


if os.path.exists(os.environ.get("FTSIM_FAST_FORWARD", "")):  # before anything else takes a lock or a clock
    import ftsim_forward  # it lies beside this file

    ftsim_forward.install(os.environ["FTSIM_FAST_FORWARD"])
sys.meta_path[:0] = [_Training(), _Redirector()]
sys.meta_path.append(_Itself())
if os.environ.get("FTSIM_MAP"):
    import ftsim_mapped  # type: ignore[import-not-found]  # it lies beside this file

    ftsim_mapped.install()
_say_lines_at_the_end()
_run_the_users_own()
