"""Makes the tables that metadata.sqlite of format 7 has: rows of every kind, and the sums of siblings."""

import sqlalchemy as sa
from alembic import op

revision = "format_7"
down_revision = None


def upgrade() -> None:
    """Make them, for a database without any."""
    op.create_table(
        "entities",
        sa.Column("place", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("checksum", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("entities_siblings", "entities", ["kind", "parent", "place"])
    op.create_table(
        "siblings",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("parent", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("latest", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.BigInteger, nullable=False),
    )
