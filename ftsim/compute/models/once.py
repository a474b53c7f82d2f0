"""Folders that are written once and then only read, by however many processes at a time."""

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_elsewhere: dict[Path, Path] = {}


def write_once(target: Path, write: Callable[[Path], None]) -> Path:
    """`target`, which is there and whole on return; `write` fills a folder beside it, and the first rename wins.

    Where the disk refuses it is a temporary folder, which this process alone uses. Whatever else `write` raises goes
    through, and nothing is left behind.
    """
    if target.is_dir():
        return target
    if target in _elsewhere:
        return _elsewhere[target]
    try:
        return _written(target, write)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    folder = Path(tempfile.mkdtemp(prefix="ftsim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _elsewhere[target] = _written(folder / target.name, write)
    return _elsewhere[target]


def _written(target: Path, write: Callable[[Path], None]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        write(aside)
        aside.chmod(0o755)
        try:
            os.rename(aside, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target
