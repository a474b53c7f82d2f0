"""One emulator whose rows are on a PostgreSQL server."""

import threading
from pathlib import Path

import pytest

from emulator.core.errors import FailedPrecondition, InvalidArgument, StorageFailed
from emulator.state import schema
from emulator.state.leases import Holder
from emulator.state.server_database import ServerDatabase
from emulator.state.store import Store
from emulator.state.sums import Siblings, checksum
from tests.stores import postgres

HERE, THERE = Holder("here", "http://here"), Holder("there", "http://there")
JOB = ("job", "accounts/a/rlorTrainerJobs/one")
ROW = ("checkpoint", f"{JOB[1]}/checkpoints/step-1")


def opened(address: str, holder: Holder = HERE, lease_s: float = 1.0) -> ServerDatabase:
    store = ServerDatabase(address, holder, lease_s=lease_s)
    store.begin()
    return store


def test_what_is_written_is_there_after_it_was_closed(database: str) -> None:
    store = opened(database)
    store.write({JOB: {"created": 7}, ROW: {"blob": "a/one/step-1", "text": "ö\u0000"}})
    store.write({JOB: {"created": 7, "updated": 9}})
    store.close()
    again = opened(database)
    assert dict(again.all("job")) == {JOB[1]: {"created": 7, "updated": 9}}
    assert again.of("checkpoint", JOB[1]) == [(ROW[1], {"blob": "a/one/step-1", "text": "ö\u0000"})]
    assert again.read(*ROW)
    assert again.read("job", "accounts/a/rlorTrainerJobs/none") is None
    assert again.blobs("checkpoint") == {"a/one/step-1"}
    assert again.families("checkpoint")[JOB[1]].rows == 1
    assert again.families("job")["accounts/a"].latest == 9
    again.write({}, [ROW])
    assert not again.families("checkpoint")
    again.replace({JOB: {"created": 1}})
    assert dict(again.all("job")) == {JOB[1]: {"created": 1}}
    again.close()


def test_rows_come_in_the_order_in_which_they_were_first_written(database: str) -> None:
    store, plain = opened(database), Store()
    names = [f"{JOB[1]}/checkpoints/{name}" for name in ("b", "c", "a")]
    for kept in (store, plain):
        for name in names:
            kept.write({("checkpoint", name): {}})
        kept.write({("checkpoint", names[0]): {"step": 1}})
    assert list(store.all("checkpoint")) == list(plain.all("checkpoint"))
    store.close()


DAMAGES = {
    "a body": "UPDATE entities SET body = replace(body, '7', '8') WHERE kind = 'job'",
    "a name": "UPDATE entities SET key = key || 'x' WHERE kind = 'job'",
    "a row that has gone": "DELETE FROM entities WHERE kind = 'job'",
    "a sum": "UPDATE siblings SET total = total + 1 WHERE kind = 'job'",
    "a sum that has gone": "DELETE FROM siblings WHERE kind = 'job'",
    "a row that is older than its sum": "UPDATE entities SET body = '{\"created\":7}', checksum = 1 WHERE kind = 'job'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_is_not_what_was_stored_is_refused(database: str, damage: str) -> None:
    store = opened(database)
    store.write({JOB: {"created": 7, "updated": 9}, ("session", "accounts/a/trainingSessions/s"): {}})
    with postgres.connect(database) as connection:
        connection.execute(DAMAGES[damage])
    with pytest.raises(StorageFailed, match="damaged"):
        list(store.all("job"))
    if "sum" not in damage:
        with pytest.raises(StorageFailed, match="damaged"):
            store.read(*JOB)
    store.close()


def test_one_process_at_a_time_writes(database: str) -> None:
    store = opened(database, lease_s=2.0)
    other = ServerDatabase(database, THERE, lease_s=0.1)
    with pytest.raises(FailedPrecondition, match=r"another emulator \(here\) at http://here"):
        other.begin()
    store.close()
    other.begin()
    other.close()


def test_a_holder_that_was_taken_for_dead_stores_nothing_more(database: str) -> None:
    """It was stopped for longer than its lease, and goes on when another has taken over."""
    store, lost = opened(database, lease_s=30), list[str]()
    store.leases.lost = lost.append
    store.write({JOB: {"created": 1}})
    with postgres.connect(database) as connection:
        connection.execute("UPDATE leases SET expires = now() - interval '1 s'")
    other = opened(database, THERE)
    other.write({JOB: {"created": 2}})
    with pytest.raises(StorageFailed, match="another emulator has taken over"):
        store.write({JOB: {"created": 3}})
    assert other.read(*JOB) == {"created": 2}
    assert lost == [""]
    other.close()
    store.close()


def test_a_transaction_keeps_others_from_taking_over_until_it_is_done(database: str) -> None:
    store = opened(database, lease_s=30)
    taken = threading.Event()

    def take() -> None:
        other = opened(database, THERE)
        taken.set()
        other.close()

    with store._engine.begin() as connection:
        store.leases.fence(connection, [""], "on")
        with postgres.connect(database) as direct:
            direct.execute("SET lock_timeout = '100ms'")
            with pytest.raises(Exception, match="lock timeout"):
                direct.execute("UPDATE leases SET expires = now() - interval '1 s'")
    with postgres.connect(database) as direct:
        direct.execute("UPDATE leases SET expires = now() - interval '1 s'")
    thread = threading.Thread(target=take)
    thread.start()
    assert taken.wait(10)
    thread.join()
    store.close()


def test_an_address_of_another_kind_is_refused() -> None:
    for address in ("mysql://root@/x", "postgresql://u:secret@h/x", "sqlite:///x", "no address"):
        with pytest.raises(InvalidArgument, match=r"postgresql\+psycopg://") as refused:
            ServerDatabase(address, HERE)
        assert "secret" not in refused.value.message


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="cannot be used") as refused:
        ServerDatabase(f"postgresql+psycopg://u:secret@/x?host={tmp_path}", HERE)
    assert "secret" not in refused.value.message


def test_a_server_that_loses_what_it_acknowledges_is_refused() -> None:
    if postgres.programs() is None:
        pytest.skip(postgres.MISSING)
    with postgres.server() as server:
        address = server.database()
        server.kill()
        server.start("fsync=off")
        with pytest.raises(FailedPrecondition, match="fsync = off"):
            ServerDatabase(address, HERE)


def test_a_database_of_the_first_revision_is_brought_here_with_its_rows(database: str) -> None:
    """The first step has the tables of a state folder of format 7, with one root for all sums."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, text

    engine = create_engine(database)
    family = ("job", "accounts/a")
    body = b'{"created":7}'
    siblings = Siblings().beside(checksum(*JOB, body), 7)
    root = Siblings().beside(siblings.checksum(family))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "emulator.state:schema")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "format_7")
        connection.execute(
            text("INSERT INTO entities (kind, key, parent, blob, checksum, body) VALUES (:k, :n, :p, '', :c, :b)"),
            {"k": JOB[0], "n": JOB[1], "p": family[1], "c": checksum(*JOB, body), "b": body.decode()},
        )
        for one, (kind, parent) in ((siblings, family), (root, ("", ""))):
            connection.execute(
                text("INSERT INTO siblings VALUES (:k, :p, :n, :t, :l, :c)"),
                {"k": kind, "p": parent, "n": one[0], "t": one[1], "l": one[2], "c": one.checksum((kind, parent))},
            )
    engine.dispose()
    store = opened(database)
    assert dict(store.all("job")) == {JOB[1]: {"created": 7}}
    store.write({ROW: {"created": 8}, JOB: {"created": 9}})
    assert dict(store.all("job")) == {JOB[1]: {"created": 9}}
    store.close()


def test_the_migrations_make_the_tables_that_are_used(database: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    opened(database).close()
    engine = create_engine(database)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.ROWS.metadata)
    engine.dispose()
    assert [one for one in differences if "alembic_version" not in str(one)] == []


def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    opened(database).close()
    with postgres.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    with pytest.raises(FailedPrecondition, match="use the version that wrote it"):
        ServerDatabase(database, HERE)
