"""What was handed to the broker a week ago is found without looking at what was since."""

from alembic import op

revision = "0009"
down_revision = "0008"

INDEX = """
CREATE INDEX outbox_events_published ON public.outbox_events (published_at) WHERE status = 'PUBLISHED';
"""


def upgrade() -> None:
    op.execute(INDEX)
