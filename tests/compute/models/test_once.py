"""A folder that is written once: whole for everybody, whoever writes, dies or comes late."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ftsim.compute.models.once import write_once


def writer(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "file").write_text(text)

    return write


def test_it_is_written_once_and_only_read_after_that(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    assert write_once(target, writer("first")) == target
    write_once(target, writer("second"))
    assert (target / "file").read_text() == "first"
    assert target.stat().st_mode & 0o777 == 0o755
    assert list(target.parent.iterdir()) == [target]


def test_of_several_at_once_one_wins_and_nobody_leaves_anything_behind(tmp_path: Path) -> None:
    together = Barrier(4)

    def write(number: int) -> str:
        def fill(folder: Path) -> None:
            writer(str(number))(folder)
            together.wait(10)

        return (write_once(tmp_path / "folder", fill) / "file").read_text()

    with ThreadPoolExecutor(4) as pool:
        seen = set(pool.map(write, range(4)))
    assert len(seen) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("error", [OSError(28, "no space left"), KeyboardInterrupt()])
def test_a_writer_that_fails_says_so_and_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        writer("half")(folder)
        raise error

    with pytest.raises(type(error)):
        write_once(tmp_path / "folder", fail)
    assert not list(tmp_path.iterdir())
