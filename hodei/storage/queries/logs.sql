-- Logs: frames as they came, in the partition of the day on which their execution was made.

-- name: log_chunks_copy
COPY hodei.log_chunks (log_day, execution_id, seq, first_entry, entries, plain_size, codec, crc32, data)
FROM STDIN (FORMAT binary);

-- name: execution_add_log
UPDATE hodei.executions
   SET last_frame = :last_frame, log_entries = log_entries + :entries, log_bytes = log_bytes + :bytes
 WHERE id = :id;

-- name: log_chunks_after
-- The chunks that hold entries after this one, oldest first: as many as fit, and at least one.
WITH place AS (
    SELECT GREATEST(CAST(:after_seq AS bigint), COALESCE(
               (SELECT seq - 1 FROM hodei.log_chunks
                 WHERE log_day = :log_day AND execution_id = :execution_id AND first_entry <= CAST(:after AS bigint) + 1
                 ORDER BY first_entry DESC, seq DESC LIMIT 1), 0)) AS seq
), next AS (
    SELECT c.seq, sum(c.plain_size) OVER (ORDER BY c.seq) - c.plain_size AS before
      FROM hodei.log_chunks c
     WHERE c.log_day = :log_day AND c.execution_id = :execution_id AND c.seq > (SELECT seq FROM place)
       AND c.first_entry + c.entries > CAST(:after AS bigint) + 1
       AND (CAST(:since AS timestamptz) IS NULL OR c.stored_at >= :since)
     ORDER BY c.seq LIMIT :limit
)
SELECT c.seq, c.first_entry, c.entries, c.plain_size, c.codec, c.crc32, c.data
  FROM next JOIN hodei.log_chunks c ON c.log_day = :log_day AND c.execution_id = :execution_id AND c.seq = next.seq
 WHERE next.before < :budget_bytes
 ORDER BY c.seq;

-- name: log_chunk_before
-- The newest chunk below this one.
SELECT seq, first_entry, entries, plain_size, codec, crc32, data
  FROM hodei.log_chunks
 WHERE log_day = :log_day AND execution_id = :execution_id AND seq < :before_seq
 ORDER BY seq DESC LIMIT 1;

-- name: log_find
-- The execution whose log is read: a certain attempt of a job, or its last. `expired`: its log is kept no longer.
SELECT e.id, e.job_id, e.attempt, e.state, e.log_day, e.log_entries, e.log_bytes, e.log_complete, j.name AS job_name,
       d.dropped_at IS NOT NULL OR (e.state NOT IN ('pending', 'running') AND COALESCE(f.expires_at,
           e.completed_at + make_interval(secs => :retention_s)) <= clock_timestamp()) AS expired
  FROM hodei.executions e
  JOIN public.jobs j ON j.id = e.job_id
  LEFT JOIN public.job_log_files f ON f.execution_id = e.id
  LEFT JOIN hodei.log_days d ON d.day = e.log_day
 WHERE (CAST(:execution_id AS uuid) IS NULL OR e.id = :execution_id)
   AND (CAST(:job_id AS uuid) IS NULL OR e.job_id = :job_id)
   AND (CAST(:attempt AS integer) IS NULL OR e.attempt = :attempt)
 ORDER BY e.attempt DESC LIMIT 1;

-- name: log_states
-- Jobs whose logs are followed, with all of their attempts: one look for all followers of a process.
SELECT j.id AS job_id, j.state AS job_state, j.attempts, j.exit_code, j.error_code, j.error_message,
       e.id AS execution_id, e.attempt, e.state, e.log_day, e.log_entries, e.log_bytes, e.log_complete
  FROM public.jobs j LEFT JOIN hodei.executions e ON e.job_id = j.id
 WHERE j.id = ANY(CAST(:ids AS uuid[]))
 ORDER BY j.id, e.attempt;

-- name: log_file_insert
INSERT INTO public.job_log_files (id, job_id, execution_id, storage_uri, size_bytes, entry_count, expires_at)
VALUES (:id, :job_id, :execution_id, :storage_uri, :size_bytes, :entry_count,
        clock_timestamp() + make_interval(secs => :retention_s))
ON CONFLICT (execution_id) DO UPDATE SET storage_uri = EXCLUDED.storage_uri, size_bytes = EXCLUDED.size_bytes,
        entry_count = EXCLUDED.entry_count;

-- name: log_files_expired
SELECT id, job_id, execution_id, storage_uri FROM public.job_log_files
 WHERE deleted_at IS NULL AND expires_at <= clock_timestamp()
 ORDER BY expires_at LIMIT :limit;

-- name: log_file_set_deleted
UPDATE public.job_log_files SET deleted_at = clock_timestamp() WHERE id = :id AND deleted_at IS NULL;

-- name: log_day_open
-- True when the day's partition was made just now; a day that was dropped is not opened again.
SELECT hodei.open_log_day(CAST(:day AS date));

-- name: log_days_open_ahead
-- Today and the days after it: nobody's first line of a day waits for its partition.
SELECT count(*) FILTER (WHERE hodei.open_log_day((clock_timestamp() AT TIME ZONE 'UTC')::date + ahead)) AS opened
  FROM generate_series(0, CAST(:days AS integer)) AS ahead;

-- name: log_days_to_drop
-- Days that are over for longer than logs are kept and of which every execution has expired. A running job's log is in
-- the partition of the day on which its execution was made, so that day stays until the job's own log has expired.
SELECT d.day FROM hodei.log_days d
 WHERE d.dropped_at IS NULL
   AND (d.day + 1)::timestamp AT TIME ZONE 'UTC' + make_interval(secs => GREATEST(:retention_s, :margin_s)) <= clock_timestamp()
   AND NOT EXISTS (
       SELECT 1 FROM hodei.executions e LEFT JOIN public.job_log_files f ON f.execution_id = e.id
        WHERE e.log_day = d.day
          AND (e.state IN ('pending', 'running')
               OR COALESCE(f.expires_at, e.completed_at + make_interval(secs => :retention_s)) > clock_timestamp()))
 ORDER BY d.day LIMIT :limit;

-- name: log_day_drop
-- False when somebody was at it for longer than others may be made to wait: the next look tries again.
SELECT hodei.drop_log_day(CAST(:day AS date));
