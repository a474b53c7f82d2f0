"""`dataloader.json`: how many raw data rows each checkpoint has consumed.

The control plane has no place for it, so it is the one local file a run depends on.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ftsim.training.errors import CheckpointError

FILE_NAME = "dataloader.json"
KEEP = 20
_PENDING = "pending:"


class Cursors:
    """The cursors of one `log_path`; a damaged file is refused, never taken for none; a write is whole or not at all.

    A cursor is announced before its save and recorded after it, so that a process killed in between still knows
    what the saved row had seen, and never takes an announcement for a checkpoint.
    """

    def __init__(self, log_path: str | os.PathLike[str]) -> None:
        self.folder = Path(log_path)
        self.path = self.folder / FILE_NAME

    def recorded(self) -> dict[str, int]:
        """Row name to rows consumed, oldest write first; `CheckpointError` when the file is damaged."""
        return {name: value for name, value in self._load().items() if not name.startswith(_PENDING)}

    def announced(self) -> dict[str, int]:
        """As `recorded`, for saves that were begun and never recorded."""
        return {name.removeprefix(_PENDING): value for name, value in self._load().items() if name.startswith(_PENDING)}

    def announce(self, name: str, data_consumed: int) -> None:
        """Note that a save under `name` begins."""
        self._update({_PENDING + name: data_consumed})

    def record(self, names: dict[str, int]) -> None:
        """Add or renew cursors; the newest `KEEP` by order of writing stay, whatever their step."""
        self._update(names)

    def _update(self, changes: dict[str, int]) -> None:
        # Other announcements stay: what a dead process had begun to save may be torn, or show later.
        replaced = {form for name in changes for form in (name, _PENDING + name.removeprefix(_PENDING))}
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder):
            kept = {name: value for name, value in self._load().items() if name not in replaced}
            newest = dict([*kept.items(), *changes.items()][-KEEP:])
            replace_file(self.path, json.dumps(newest, indent=1).encode())

    def _load(self) -> dict[str, int]:
        try:
            loaded = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self._damaged(f"it is not JSON ({error})") from error
        if not isinstance(loaded, dict):
            raise self._damaged("it does not hold an object")
        for name, value in loaded.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise self._damaged(f"{name!r} maps to {value!r}, not to a number of rows")
        return loaded

    def _damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is damaged: {reason}. It says how many data rows each checkpoint has seen; "
            "restore it from a copy, or start over with another log_path"
        )


def replace_file(path: Path, content: bytes) -> None:
    """Give `path` this content; several writers at once each leave a whole file, the last one's stays."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one read-modify-write; without flock the write is still atomic."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
