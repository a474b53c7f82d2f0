"""A PostgreSQL server of the tests' own: in a temporary folder, reached by a socket in it, as a user without rights."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

MISSING = "no PostgreSQL is installed: its server programs are neither on the path nor in /usr/lib/postgresql"


def programs() -> Path | None:
    """The folder of the newest server programs, None where there are none."""
    there = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    found = str(there[-1]) if there else shutil.which("pg_ctl")
    return Path(found).resolve().parent if found else None


class Postgres:
    """A running server; `start` and `kill` end and begin its process, its data stay."""

    def __init__(self, folder: Path, user: str | None) -> None:
        self.folder = folder
        self._user = user
        self._made = 0

    def start(self, *settings: str) -> None:
        """Run it, with settings written `name=value`, until it answers."""
        said = ("listen_addresses=", f"unix_socket_directories={self.folder}", *settings)
        self._control("-w", "-l", str(self.folder / "log"), "-o", " ".join(f"-c {one}" for one in said), "start")

    def kill(self) -> None:
        """End it at once, as a death of the machine would; what it has acknowledged is on the disk."""
        self._control("-m", "immediate", "stop")

    def _control(self, *words: str) -> None:
        bin_ = programs()
        assert bin_ is not None
        command = [str(bin_ / "pg_ctl"), "-D", str(self.folder / "data"), *words]
        subprocess.run(command, check=True, user=self._user, stdout=subprocess.DEVNULL, cwd=self.folder)

    def database(self) -> str:
        """The address of a new, empty database."""
        self._made += 1
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE state_{self._made}")
        return f"postgresql+psycopg://postgres@/state_{self._made}?host={self.folder}"


def connect(address: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection to look at what is stored, or to damage it."""
    name, _, host = address.partition("@/")[2].partition("?host=")
    return psycopg.connect(f"host={host} user=postgres dbname={name}", autocommit=True)


@contextmanager
def server() -> Iterator[Postgres]:
    """A server until the end; a root starts it as another user, since PostgreSQL refuses to run as root."""
    bin_ = programs()
    assert bin_ is not None
    user = None if os.geteuid() else next(name for name in ("postgres", "nobody") if _known(name))
    folder = Path(tempfile.mkdtemp(prefix="ftsim-pg-"))
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        made = [str(bin_ / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust"]
        made += ["-E", "UTF8", "--no-locale"]
        subprocess.run(made, check=True, user=user, stdout=subprocess.DEVNULL, cwd=folder)
        found = Postgres(folder, user)
        found.start()
        try:
            yield found
        finally:
            found.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _known(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user))
    except KeyError:
        return False
