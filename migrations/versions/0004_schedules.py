"""Schedules, and what each of their times came to."""

from alembic import op

from hodei.domain import schedule

revision = "0004"
down_revision = "0003"


def one_of(column: str, enum: type) -> str:
    """The CHECK that keeps a column to the words of its enum."""
    words = ", ".join(f"'{word.value}'" for word in enum)
    return f"CHECK ({column} IN ({words}))"


JOBS = """
ALTER TABLE public.jobs ADD COLUMN schedule_id uuid, ADD COLUMN scheduled_for timestamptz;
CREATE UNIQUE INDEX jobs_one_per_scheduled_time ON public.jobs (schedule_id, scheduled_for) WHERE schedule_id IS NOT NULL;
CREATE INDEX jobs_of_schedule_open ON public.jobs (schedule_id)
 WHERE schedule_id IS NOT NULL AND state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING');
"""

SCHEDULES = f"""
CREATE TABLE hodei.schedules (
    id                    uuid PRIMARY KEY,
    name                  text NOT NULL,
    job_id                uuid NOT NULL REFERENCES public.jobs ON DELETE CASCADE,
    command               text,
    cron                  text,
    schedule_time         timestamptz,
    timezone              text NOT NULL,
    overlap               text NOT NULL {one_of("overlap", schedule.Overlap)},
    catch_up              text NOT NULL {one_of("catch_up", schedule.CatchUp)},
    catch_up_limit        integer NOT NULL CHECK (catch_up_limit > 0),
    jitter_s              double precision NOT NULL DEFAULT 0 CHECK (jitter_s >= 0),
    start_at              timestamptz,
    end_at                timestamptz,
    pause_after_failures  integer CHECK (pause_after_failures > 0),
    state                 text NOT NULL CONSTRAINT schedules_state_check {one_of("state", schedule.ScheduleState)},
    state_reason          text,
    failures              integer NOT NULL DEFAULT 0,
    next_at               timestamptz,
    next_due_at           timestamptz,
    last_at               timestamptz,
    created_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_event_at         timestamptz NOT NULL DEFAULT '-infinity',
    CHECK ((cron IS NULL) <> (schedule_time IS NULL)),
    CHECK ((state = 'ACTIVE') = (next_at IS NOT NULL) AND (next_at IS NULL) = (next_due_at IS NULL))
);
CREATE INDEX schedules_due ON hodei.schedules (next_due_at) WHERE state = 'ACTIVE';
CREATE INDEX schedules_by_job ON hodei.schedules (job_id);
CREATE INDEX schedules_newest ON hodei.schedules (created_at DESC, id DESC);

CREATE TABLE hodei.schedule_firings (
    schedule_id    uuid NOT NULL REFERENCES hodei.schedules ON DELETE CASCADE,
    scheduled_for  timestamptz NOT NULL,
    kind           text NOT NULL {one_of("kind", schedule.FiringKind)},
    outcome        text NOT NULL {one_of("outcome", schedule.FiringOutcome)},
    reason         text,
    job_id         uuid,
    settled        boolean NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schedule_id, scheduled_for),
    CHECK ((outcome = 'fired') = (job_id IS NOT NULL))
);
CREATE INDEX schedule_firings_open ON hodei.schedule_firings (schedule_id, job_id) WHERE NOT settled;
CREATE INDEX schedule_firings_by_age ON hodei.schedule_firings (created_at) WHERE settled;
"""


def upgrade() -> None:
    op.execute(JOBS)
    op.execute(SCHEDULES)
