"""Servers of the stores: a PostgreSQL and an S3 server for all tests here, with a database and a bucket for each."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

if any(find_spec(module) is None for module in ("psycopg", "alembic", "s3fs", "moto")):
    collect_ignore_glob = ["test_*.py"]  # `tox -e stores` installs them
else:
    from tests.stores import postgres, s3

_buckets = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[postgres.Postgres]":
    """A running server."""
    if postgres.programs() is None:
        pytest.skip(postgres.MISSING)
    with postgres.server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a running S3 server."""
    with s3.server() as address:
        yield address


@pytest.fixture
def database(postgres_server: "postgres.Postgres") -> str:
    """The address of an empty database."""
    return postgres_server.database()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A folder for blobs."""
    return str(tmp_path / "blobs")


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place in a bucket of its own; the environment has what is needed to reach it."""
    import s3fs

    for name, value in {**s3.KEYS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    name = f"tests-{next(_buckets)}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return f"s3://{name}/some/where"


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest) -> str:
    """A place for blobs, of either kind."""
    place: str = request.getfixturevalue(request.param)
    return place
