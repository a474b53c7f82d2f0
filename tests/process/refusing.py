"""`ftsim` on a disk that takes nothing: `python -m tests.process.refusing full serve ...`, or `read-only:FOLDER`.

On the full one no byte can be written to any file of the machine, temporary ones neither; in the folder that is for
reading alone nothing can be made, opened for writing, moved or removed.
"""

import errno
import os
import resource
import sys

from ftsim.cli.main import app

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.utime"}
CHANGES |= {"os.truncate", "sqlite3.connect"}


def read_only(root: str) -> None:
    """Refuse whatever would change something below a folder."""

    def watch(event: str, given: tuple[object, ...]) -> None:
        if event == "open":
            flags = given[2] if isinstance(given[2], int) else 0
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            changes = event in CHANGES
        if changes and isinstance(given[0], str | bytes | os.PathLike) and os.fsdecode(given[0]).startswith(root):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(given[0]))

    sys.addaudithook(watch)


if __name__ == "__main__":
    how, _, folder = sys.argv.pop(1).partition(":")
    if how == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    else:
        read_only(folder)
    app()
