"""Says of each row whose it is, sums up by account, and makes the table of leases."""

import sqlalchemy as sa
from alembic import op

from emulator.state.sums import Siblings, account_of

revision = "accounts_and_leases"
down_revision = "format_7"

_ROWS = sa.table("entities", sa.column("account"), sa.column("kind"), sa.column("key"))
_SUMS = sa.table(
    "siblings",
    *(sa.column(name) for name in ("account", "kind", "parent", "count", "total", "latest", "checksum")),
)


def upgrade() -> None:
    """Give rows and sums their account, from their names; one root becomes one for each account."""
    for name in ("entities", "siblings"):
        op.add_column(name, sa.Column("account", sa.Text, nullable=False, server_default=""))
    _fill(op.get_bind())
    for name in ("entities", "siblings"):
        op.alter_column(name, "account", server_default=None)
    op.create_index("entities_accounts", "entities", ["account", "kind", "place"])
    op.create_index("siblings_accounts", "siblings", ["account"])
    op.create_table(
        "leases",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
    )
    about = op.create_table(
        "about", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
    op.execute(about.insert().values(name="identity", value=sa.func.gen_random_uuid().cast(sa.Text)))


def _fill(connection: sa.Connection) -> None:
    for kind, key in connection.execute(sa.select(_ROWS.c.kind, _ROWS.c.key)).all():
        mine = _ROWS.update().where(_ROWS.c.kind == kind, _ROWS.c.key == key)
        connection.execute(mine.values(account=account_of(key)))
    roots: dict[str, Siblings] = {}
    connection.execute(_SUMS.delete().where(_SUMS.c.kind == ""))
    for kind, parent, checksum in connection.execute(sa.select(_SUMS.c.kind, _SUMS.c.parent, _SUMS.c.checksum)).all():
        account = account_of(parent)
        mine = _SUMS.update().where(_SUMS.c.kind == kind, _SUMS.c.parent == parent)
        connection.execute(mine.values(account=account))
        roots[account] = roots.get(account, Siblings()).beside(checksum)
    for account, (count, total, latest) in roots.items():
        own = Siblings(count, total, latest).checksum(("", account))
        root = {"kind": "", "parent": account, "count": count, "total": total, "latest": latest, "checksum": own}
        connection.execute(_SUMS.insert().values(account=account, **root))
