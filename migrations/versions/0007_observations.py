"""What happens is counted where it happens: durations and numbers for `/metrics` that outlive every process; and jobs' traces.

Each change of a state notes an observation in its own transaction, and waits for nobody: a table that is only added to has no row
that two could want. The clock folds them into totals, of which there are as many as there are series.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = """
CREATE TABLE hodei.observations (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    metric   text NOT NULL,
    labels   text[] NOT NULL,
    seconds  double precision,
    times    integer NOT NULL DEFAULT 1
);

CREATE TABLE hodei.totals (
    metric   text NOT NULL,
    labels   text[] NOT NULL,
    le       double precision NOT NULL,
    times    bigint NOT NULL,
    seconds  double precision NOT NULL,
    PRIMARY KEY (metric, labels, le)
);

CREATE INDEX outbox_events_failed ON public.outbox_events (created_at) WHERE status = 'FAILED';
"""

JOBS = """
CREATE FUNCTION hodei.observe_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hodei.observations (metric, labels, times)
    SELECT 'hodei_jobs_submitted_total', ARRAY[requested_provider], count(*) FROM new_jobs GROUP BY requested_provider;
    RETURN NULL;
END $$;
CREATE TRIGGER observe_new_jobs AFTER INSERT ON public.jobs REFERENCING NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION hodei.observe_new_jobs();

CREATE FUNCTION hodei.observe_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place text := COALESCE((SELECT name FROM public.provider_configs
                             WHERE id = COALESCE(NEW.selected_provider_id, OLD.selected_provider_id)), NEW.requested_provider);
    was_open boolean := OLD.state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING');
BEGIN
    IF was_open AND NOT OLD.held THEN
        INSERT INTO hodei.observations (metric, labels, seconds)
        VALUES ('hodei_job_state_duration_seconds', ARRAY[lower(OLD.state), place],
                GREATEST(0, extract(epoch FROM NEW.state_since - OLD.state_since)));
    END IF;
    IF NEW.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT') THEN
        INSERT INTO hodei.observations (metric, labels, seconds)
        VALUES ('hodei_jobs_ended_total', ARRAY[lower(NEW.state), COALESCE(NEW.error_code, ''), place], NULL),
               ('hodei_job_duration_seconds', ARRAY[lower(NEW.state), place],
                GREATEST(0, extract(epoch FROM NEW.state_since - NEW.queued_at)));
    ELSIF NEW.state = 'PENDING' AND was_open THEN
        INSERT INTO hodei.observations (metric, labels)
        VALUES ('hodei_job_retries_total', ARRAY[COALESCE(NEW.error_code, ''), place]);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER observe_job AFTER UPDATE ON public.jobs
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION hodei.observe_job();
"""

SAGAS = """
CREATE FUNCTION hodei.observe_saga() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hodei.observations (metric, labels, seconds)
    VALUES ('hodei_saga_duration_seconds', ARRAY[NEW.saga_type, lower(NEW.state)],
            extract(epoch FROM NEW.completed_at - NEW.started_at));
    RETURN NULL;
END $$;
CREATE TRIGGER observe_saga AFTER UPDATE ON public.sagas
    FOR EACH ROW WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL) EXECUTE FUNCTION hodei.observe_saga();

CREATE FUNCTION hodei.observe_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hodei.observations (metric, labels, seconds)
    SELECT 'hodei_step_duration_seconds', ARRAY[saga_type, NEW.step_name, lower(NEW.state)],
           GREATEST(0, extract(epoch FROM NEW.completed_at - COALESCE(NEW.started_at, NEW.completed_at)))
      FROM public.sagas WHERE id = NEW.saga_id;
    RETURN NULL;
END $$;
CREATE TRIGGER observe_step AFTER UPDATE ON public.saga_steps
    FOR EACH ROW WHEN (OLD.state <> NEW.state AND NEW.state IN ('COMPLETED', 'FAILED')) EXECUTE FUNCTION hodei.observe_step();
"""

WORKERS = """
CREATE FUNCTION hodei.observe_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN ('CREATING', 'CONNECTING') AND NEW.state = 'READY' THEN
        INSERT INTO hodei.observations (metric, labels, seconds)
        VALUES ('hodei_worker_start_duration_seconds', ARRAY[NEW.provider_type],
                extract(epoch FROM clock_timestamp() - NEW.created_at));
    ELSIF NEW.state = 'TERMINATED' THEN
        INSERT INTO hodei.observations (metric, labels, seconds)
        VALUES ('hodei_worker_lifetime_seconds', ARRAY[NEW.provider_type],
                extract(epoch FROM clock_timestamp() - NEW.created_at));
        IF OLD.state = 'TERMINATING' THEN
            INSERT INTO hodei.observations (metric, labels, seconds)
            VALUES ('hodei_worker_destroy_duration_seconds', ARRAY[NEW.provider_type],
                    GREATEST(0, extract(epoch FROM clock_timestamp() - OLD.updated_at)));
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER observe_worker AFTER UPDATE ON public.workers
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION hodei.observe_worker();
"""

OUTBOX = """
CREATE FUNCTION hodei.observe_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hodei.observations (metric, labels, times)
    SELECT 'hodei_outbox_published_total', ARRAY[]::text[], count(*) FROM changed WHERE status = 'PUBLISHED' HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER observe_outbox AFTER UPDATE ON public.outbox_events REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION hodei.observe_outbox();
"""


TRACES = """
CREATE TABLE hodei.traces (
    job_id       uuid PRIMARY KEY REFERENCES public.jobs ON DELETE CASCADE,
    traceparent  text NOT NULL,
    told_at      timestamptz,
    told_until   timestamptz NOT NULL DEFAULT '-infinity',
    runs         integer NOT NULL DEFAULT 0
);
CREATE INDEX traces_to_tell ON hodei.traces (job_id) WHERE told_at IS NULL;

CREATE FUNCTION hodei.trace_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE hodei.traces SET told_at = NULL WHERE job_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER trace_again AFTER UPDATE ON public.jobs
    FOR EACH ROW WHEN (NEW.state = 'PENDING' AND OLD.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT'))
    EXECUTE FUNCTION hodei.trace_again();
"""


def upgrade() -> None:
    for statements in (TABLES, JOBS, SAGAS, WORKERS, OUTBOX, TRACES):
        op.execute(statements)
