"""A page of jobs is read from an index, newest first, whatever it is filtered by."""

from alembic import op

revision = "0008"
down_revision = "0007"

INDEXES = """
CREATE INDEX jobs_by_name ON public.jobs (name, created_at DESC, id DESC);
DROP INDEX public.jobs_by_pipeline;
CREATE INDEX jobs_by_pipeline ON public.jobs (pipeline_id, created_at DESC, id DESC) WHERE pipeline_id IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(INDEXES)
