"""Which logs have no file yet, because their folder could not be written when their attempt ended."""

from alembic import op

revision = "0005"
down_revision = "0004"

TO_EXPORT = """
ALTER TABLE hodei.executions ADD COLUMN log_to_export boolean NOT NULL DEFAULT false;
CREATE INDEX executions_log_to_export ON hodei.executions (completed_at) WHERE log_to_export;
"""


def upgrade() -> None:
    op.execute(TO_EXPORT)
