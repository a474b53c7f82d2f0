"""Runs the steps in the transaction of whoever asks; Alembic imports it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
