-- Executions: one attempt each. A unique index lets at most one of a job be live.

-- name: execution_insert
INSERT INTO hodei.executions (id, job_id, attempt, worker_id, saga_id, state, command)
VALUES (:id, :job_id, :attempt, :worker_id, :saga_id, 'pending', :command)
ON CONFLICT (job_id, attempt) DO NOTHING;

-- name: execution_of_attempt
SELECT * FROM hodei.executions WHERE job_id = :job_id AND attempt = :attempt FOR UPDATE;

-- name: execution_for_agent
-- The execution as its agent may touch it: it is this worker's, and `live` says whether it was superseded.
SELECT e.*, j.spec, j.attempts AS job_fence, j.state AS job_state, e.state IN ('pending', 'running') AS live
  FROM hodei.executions e JOIN public.jobs j ON j.id = e.job_id
 WHERE e.id = :id AND e.worker_id = :worker_id
   FOR UPDATE OF e;

-- name: execution_set_accepted
UPDATE hodei.executions SET accepted_at = COALESCE(accepted_at, clock_timestamp())
 WHERE id = :id AND attempt = :fence AND state IN ('pending', 'running') AND reported_at IS NULL;

-- name: execution_set_running_if_pending
UPDATE hodei.executions SET state = 'running', started_at = clock_timestamp()
 WHERE id = :id AND attempt = :fence AND state = 'pending' AND reported_at IS NULL;

-- name: execution_set_reported
-- The agent's result, kept as it was said; the execution ends in CompleteJob.
UPDATE hodei.executions
   SET reported_at = clock_timestamp(), result = CAST(:result AS jsonb), exit_code = :exit_code, signal = :signal,
       error_code = :error_code, error_message = :error_message
 WHERE id = :id AND attempt = :fence AND state IN ('pending', 'running') AND reported_at IS NULL;

-- name: execution_set_ended
UPDATE hodei.executions
   SET state = :state, completed_at = clock_timestamp(), log_complete = :log_complete,
       error_code = COALESCE(:error_code, error_code), error_message = COALESCE(:error_message, error_message)
 WHERE id = :id AND state IN ('pending', 'running');

-- name: execution_add_log
UPDATE hodei.executions
   SET last_frame = :last_frame, log_entries = log_entries + :entries, log_bytes = log_bytes + :bytes
 WHERE id = :id;

-- name: execution_live_of_worker
SELECT * FROM hodei.executions WHERE worker_id = :worker_id AND state IN ('pending', 'running');

-- name: log_chunk_insert
INSERT INTO hodei.log_chunks (execution_id, seq, first_entry, entries, plain_size, codec, crc32, data)
VALUES (:execution_id, :seq, :first_entry, :entries, :plain_size, :codec, :crc32, :data);

-- name: log_chunks_after
-- The chunks that hold entries after this one, oldest first.
SELECT seq, first_entry, entries, plain_size, codec, crc32, data
  FROM hodei.log_chunks
 WHERE execution_id = :execution_id AND first_entry + entries > :after + 1 AND seq > :after_seq
 ORDER BY seq LIMIT :limit;

-- name: log_file_insert
INSERT INTO public.job_log_files (id, job_id, execution_id, storage_uri, size_bytes, entry_count, expires_at)
VALUES (:id, :job_id, :execution_id, :storage_uri, :size_bytes, :entry_count,
        clock_timestamp() + make_interval(secs => :retention_s))
ON CONFLICT (execution_id) DO UPDATE SET storage_uri = EXCLUDED.storage_uri, size_bytes = EXCLUDED.size_bytes,
        entry_count = EXCLUDED.entry_count;

-- name: execution_set_lost
-- The clock found out that its worker is gone; a result that was reported before wins. EXECUTION ends the attempt.
UPDATE hodei.executions SET error_code = :error_code, error_message = :error_message
 WHERE id = :id AND state IN ('pending', 'running') AND reported_at IS NULL AND error_code IS NULL;

-- name: executions_without_worker
-- Live attempts whose worker is TERMINATED and that nobody reported or gave up.
SELECT e.id, e.saga_id, w.termination_reason
  FROM hodei.executions e JOIN public.workers w ON w.id = e.worker_id
 WHERE e.state IN ('pending', 'running') AND e.reported_at IS NULL AND e.error_code IS NULL AND w.state = 'TERMINATED'
 LIMIT :limit;
