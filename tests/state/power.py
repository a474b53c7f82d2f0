"""A power failure without pulling a plug: a process whose unsynced writes are lost when it is killed.

`Plug.library()` builds a library that remembers what was synced; `Plug.pull()` makes the folder that is on the disk.
A file or a folder's names are what they were at the last fsync, or, drawn by chance, what they are now: a disk may have
written more than it was asked for, and never less.
"""

import random
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "drop_unsynced.c"
COMPILER = shutil.which("cc")


class Plug:
    """One state folder `root` under watch; `shadow` is where the library notes what was synced."""

    def __init__(self, root: Path, shadow: Path, seed: int) -> None:
        self.root = root
        self.shadow = shadow
        self._random = random.Random(seed)
        shadow.mkdir()

    @staticmethod
    def library(folder: Path) -> Path:
        """The compiled library."""
        built = folder / "drop_unsynced.so"
        command = [str(COMPILER), "-O1", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        return built

    def environment(self, library: Path) -> dict[str, str]:
        """Variables for the process that writes below the root."""
        return {"LD_PRELOAD": str(library), "DROP_ROOT": str(self.root), "DROP_SHADOW": str(self.shadow)}

    def pull(self, into: Path, *, lucky: float = 0.0) -> Path:
        """The tree on the disk; with `lucky` the share of files and folders that were written although nobody asked."""
        identities = _identities([self.root, *self.root.rglob("*")])
        files = {identity: path for path, identity in identities.items()}
        self._folder(identities[self.root], into, files, lucky)
        return into

    def _folder(self, identity: str, into: Path, files: dict[str, Path], lucky: float) -> None:
        into.mkdir(mode=0o700)
        names = [line.split(" ", 2) for line in self._noted(identity).decode().splitlines()]
        if identity in files and self._random.random() < lucky:
            here = [path for path in files.values() if path.parent == files[identity]]
            by_path = {path: inner for inner, path in files.items()}
            names = [[by_path[path], "d" if path.is_dir() else "f", path.name] for path in here]
        for inner, kind, name in names:
            if kind == "d":
                self._folder(inner, into / name, files, lucky)
            elif inner in files and self._random.random() < lucky:
                shutil.copyfile(files[inner], into / name)
            else:
                (into / name).write_bytes(self._noted(inner))

    def _noted(self, identity: str) -> bytes:
        """Nothing when it was never synced: an inode of which no byte has reached the disk."""
        file = self.shadow / identity
        return file.read_bytes() if file.exists() else b""


def _identities(paths: list[Path]) -> dict[Path, str]:
    """As the library names inodes: number and birth, since numbers are given again. Left out is what has just gone."""
    told = subprocess.run(
        ["stat", "-c", "%i %W %w|%n", *map(str, paths)], capture_output=True, text=True, check=False
    ).stdout
    found = {}
    for line in told.splitlines():
        about, _, name = line.partition("|")
        number, seconds, text = about.split(" ", 2)
        nanoseconds = text.partition(".")[2].partition(" ")[0] or "0"
        found[Path(name)] = f"{number}-{seconds}.{int(nanoseconds)}"
    return found
