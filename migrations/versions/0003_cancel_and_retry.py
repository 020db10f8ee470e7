"""How often a job went back to the queue: each such try has sagas and a worker of its own."""

from alembic import op

revision = "0003"
down_revision = "0002"

TRIES = """
ALTER TABLE public.jobs ADD COLUMN tries integer NOT NULL DEFAULT 0;
UPDATE public.jobs SET tries = infra_retries + GREATEST(0, max_attempts - 1 - user_retries);
"""


def upgrade() -> None:
    op.execute(TRIES)
