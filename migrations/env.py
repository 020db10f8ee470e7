"""Alembic's entry: runs the migrations on the connection that ``hodei.storage.migrate`` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="hodei",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
