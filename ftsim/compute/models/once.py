"""Folders that are written once and then only read, by however many processes at a time."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_once(target: Path, write: Callable[[Path], None]) -> Path:
    """`target`, which is there and whole on return; `write` fills a folder beside it, and the first rename wins.

    Whatever `write` raises goes through, and nothing is left behind.
    """
    if target.is_dir():
        return target
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
