"""Tables of a database server: the rows of every kind and their sums, as in metadata.sqlite, and who may write them.

`upgrade` brings a database here by Alembic, from whatever revision it is at; `versions` has a step for each. The first
makes the tables of format 7, which a state folder has (`emulator.state.migrations`).
"""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, MetaData, Table, Text
from sqlalchemy.engine import Connection

from emulator.core.errors import FailedPrecondition

_TABLES = MetaData()
ROWS = Table(
    "entities",
    _TABLES,
    Column("place", BigInteger, Identity(always=True), nullable=False),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("parent", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("entities_siblings", "kind", "parent", "place"),
    Index("entities_accounts", "account", "kind", "place"),
)
"""`place` orders rows as they were first written; `account` is whose they are, "" for the emulator's own."""
SUMS = Table(
    "siblings",
    _TABLES,
    Column("kind", Text, primary_key=True),
    Column("parent", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("latest", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    Index("siblings_accounts", "account"),
)
"""The sums of an account's families stand in a row of no kind, whose parent is the account: its root."""
LEASES = Table(
    "leases",
    _TABLES,
    Column("subject", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires", DateTime(timezone=True), nullable=False),
)
"""Who may write what: `token` grows with every new holder, and a transaction of an older one is refused."""
ABOUT = Table("about", _TABLES, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
"""What is said of the database itself: its `identity`, which a place for blobs is marked with."""


def upgrade(connection: Connection) -> None:
    """Make the tables, or bring them to this version's, within the transaction that the connection is in.

    Raises FailedPrecondition for a database that a newer version made.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", "emulator.state:schema")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise FailedPrecondition(
            f"the database is not one that this version can bring here ({error}): use the version that wrote it"
        ) from None
