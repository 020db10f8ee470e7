"""Log chunks in a partition for each day, dropped whole; exported files that were deleted are marked."""

from alembic import op

revision = "0002"
down_revision = "0001"

DAYS = """
ALTER TABLE hodei.executions
  ADD COLUMN log_day date NOT NULL GENERATED ALWAYS AS ((created_at AT TIME ZONE 'UTC')::date) STORED;
CREATE INDEX executions_by_log_day ON hodei.executions (log_day);

CREATE TABLE hodei.log_days (
    day         date PRIMARY KEY,
    opened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at  timestamptz
);

ALTER TABLE hodei.log_chunks RENAME TO log_chunks_before;
ALTER TABLE hodei.log_chunks_before RENAME CONSTRAINT log_chunks_pkey TO log_chunks_before_pkey;

CREATE TABLE hodei.log_chunks (
    log_day       date NOT NULL,
    execution_id  uuid NOT NULL,
    seq           bigint NOT NULL,
    first_entry   bigint NOT NULL,
    entries       integer NOT NULL,
    plain_size    integer NOT NULL,
    codec         smallint NOT NULL,
    crc32         bigint NOT NULL,
    data          bytea NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (execution_id, seq, log_day)
) PARTITION BY RANGE (log_day);
ALTER TABLE hodei.log_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX log_chunks_by_entry ON hodei.log_chunks (execution_id, first_entry);
"""

OPEN = """
CREATE FUNCTION hodei.open_log_day(wanted date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    part text := 'log_chunks_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF EXISTS (SELECT 1 FROM hodei.log_days WHERE day = wanted) THEN
        RETURN false;
    END IF;
    INSERT INTO hodei.log_days (day) VALUES (wanted) ON CONFLICT (day) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Made apart and then attached: that stops neither readers nor writers of the other days.
    EXECUTE format('CREATE TABLE hodei.%I (LIKE hodei.log_chunks INCLUDING ALL)', part);
    EXECUTE format('ALTER TABLE hodei.log_chunks ATTACH PARTITION hodei.%I FOR VALUES FROM (%L) TO (%L)',
                   part, wanted, wanted + 1);
    RETURN true;
END $$;
"""

DROP = """
CREATE FUNCTION hodei.drop_log_day(wanted date) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- Dropping needs all other users out for a moment; whoever comes meanwhile waits no longer than this.
    PERFORM set_config('lock_timeout', '100ms', true);
    EXECUTE format('DROP TABLE IF EXISTS hodei.%I', 'log_chunks_' || to_char(wanted, 'YYYYMMDD'));
    UPDATE hodei.log_days SET dropped_at = clock_timestamp() WHERE day = wanted;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
"""

MOVE = """
SELECT hodei.open_log_day(day) FROM (
    SELECT DISTINCT log_day AS day FROM hodei.executions
     UNION
    SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date + ahead FROM generate_series(0, 3) AS ahead) AS days;

INSERT INTO hodei.log_chunks (log_day, execution_id, seq, first_entry, entries, plain_size, codec, crc32, data, stored_at)
SELECT e.log_day, c.execution_id, c.seq, c.first_entry, c.entries, c.plain_size, c.codec, c.crc32, c.data, c.stored_at
  FROM hodei.log_chunks_before c JOIN hodei.executions e ON e.id = c.execution_id;
DROP TABLE hodei.log_chunks_before;
"""

FILES = """
ALTER TABLE public.job_log_files ADD COLUMN deleted_at timestamptz;
CREATE INDEX job_log_files_by_expiry ON public.job_log_files (expires_at) WHERE deleted_at IS NULL;
"""


def upgrade() -> None:
    for statements in (DAYS, OPEN, DROP, MOVE, FILES):
        op.execute(statements)
