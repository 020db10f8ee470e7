-- Executions: one attempt each. A unique index lets at most one of a job be live.

-- name: execution_insert
INSERT INTO hodei.executions (id, job_id, attempt, worker_id, saga_id, state, command)
VALUES (:id, :job_id, :attempt, :worker_id, :saga_id, 'pending', :command)
ON CONFLICT (job_id, attempt) DO NOTHING;

-- name: execution_of_attempt
SELECT * FROM hodei.executions WHERE job_id = :job_id AND attempt = :attempt FOR UPDATE;

-- name: execution_for_agent
-- The execution as its agent may touch it: it is this worker's, and `live` says whether it was superseded.
SELECT e.*, j.spec, j.attempts AS job_fence, j.state AS job_state, e.state IN ('pending', 'running') AS live,
       d.day IS NOT NULL AS log_day_is_open, d.dropped_at AS log_dropped_at
  FROM hodei.executions e JOIN public.jobs j ON j.id = e.job_id LEFT JOIN hodei.log_days d ON d.day = e.log_day
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
       log_to_export = (CAST(:state AS text) = 'lost'),
       error_code = COALESCE(:error_code, error_code), error_message = COALESCE(:error_message, error_message)
 WHERE id = :id AND state IN ('pending', 'running');

-- name: execution_to_cancel
-- The attempt that an agent has accepted and not reported. Takes no lock.
SELECT id, attempt, worker_id FROM hodei.executions
 WHERE job_id = :job_id AND attempt = :attempt AND state IN ('pending', 'running')
   AND accepted_at IS NOT NULL AND reported_at IS NULL;

-- name: execution_set_log_to_export
-- Set for a lost attempt, and when the folder of the logs could not be written as the attempt ended; unset once its file is there.
UPDATE hodei.executions SET log_to_export = :to_export WHERE id = :id AND log_to_export <> :to_export;

-- name: executions_log_to_export
-- In no order, so that some that cannot be exported do not hide the others.
SELECT e.* FROM hodei.executions e WHERE e.log_to_export ORDER BY random() LIMIT :limit;

-- name: executions_log_to_export_count
SELECT count(*) AS waiting, extract(epoch FROM clock_timestamp() - min(completed_at)) AS oldest_s
  FROM hodei.executions WHERE log_to_export;

-- name: execution_live_of_worker
SELECT * FROM hodei.executions WHERE worker_id = :worker_id AND state IN ('pending', 'running');

-- name: executions_to_recover
-- The live attempts of a worker, each with how often its job's worker was taken for lost before. Not those that are being
-- cancelled: when the worker is gone they are. Nor those that TIMEOUT ends: the job has run out of its time, not lost its worker.
SELECT e.id, e.job_id, e.attempt,
       (SELECT count(*) FROM public.sagas s WHERE s.correlation_id = e.job_id AND s.saga_type = 'RECOVERY'
           AND s.completed_at IS NOT NULL) AS recovered_before
  FROM hodei.executions e JOIN public.jobs j ON j.id = e.job_id
 WHERE e.worker_id = :worker_id AND e.state IN ('pending', 'running') AND e.reported_at IS NULL
   AND j.cancel_requested_at IS NULL
   AND NOT EXISTS (SELECT FROM public.sagas s
                    WHERE s.correlation_id = e.job_id AND s.saga_type = 'TIMEOUT' AND s.completed_at IS NULL);

-- name: execution_set_lost
-- The clock found out that its worker is gone; a result that was reported before wins. EXECUTION ends the attempt.
UPDATE hodei.executions SET error_code = :error_code, error_message = :error_message
 WHERE id = :id AND state IN ('pending', 'running') AND reported_at IS NULL AND error_code IS NULL;

-- name: executions_without_worker
-- Live attempts whose worker is TERMINATED, or is being ended and has said nothing for longer than its lease (its provider may never
-- answer again), and that nobody reported or gave up. TIMEOUT and CANCELLATION end the worker first and
-- then the attempt: until they have, the attempt is theirs, and the job has run out of its time, or is cancelled, and has lost no worker.
SELECT e.id, e.job_id, e.saga_id, w.termination_reason
  FROM hodei.executions e JOIN public.workers w ON w.id = e.worker_id
 WHERE e.state IN ('pending', 'running') AND e.reported_at IS NULL AND e.error_code IS NULL
   AND (w.state = 'TERMINATED'
        OR (w.state = 'TERMINATING' AND w.last_heartbeat < clock_timestamp() - make_interval(secs => :lease_s)))
   AND NOT EXISTS (SELECT FROM public.sagas s
                    WHERE s.correlation_id = e.job_id AND s.saga_type IN ('TIMEOUT', 'CANCELLATION') AND s.completed_at IS NULL)
 LIMIT :limit;

-- name: execution_revoke_if_not_accepted
-- Nothing of it was started: its agent asks before it starts anything, and will be told that the attempt is over.
UPDATE hodei.executions SET state = 'cancelled', completed_at = clock_timestamp(), log_complete = true
 WHERE id = :id AND state = 'pending' AND accepted_at IS NULL AND reported_at IS NULL;

-- name: executions_past_their_time
-- Attempts that should have been ended by their agent, which has been silent since: those that ran longer than they may, or wrote
-- nothing for longer than they may. Our own downtime is not an agent's silence. Those that a TIMEOUT ends already hide no other.
SELECT e.id, e.job_id, e.attempt, e.worker_id, x.kind,
       (SELECT count(*) FROM public.sagas s WHERE s.correlation_id = e.job_id AND s.saga_type = 'TIMEOUT'
           AND s.completed_at IS NOT NULL) AS overtaken_before
  FROM hodei.executions e
  JOIN public.jobs j ON j.id = e.job_id AND j.attempts = e.attempt
  JOIN public.workers w ON w.id = e.worker_id
  LEFT JOIN LATERAL (SELECT c.stored_at FROM hodei.log_chunks c
                      WHERE c.log_day = e.log_day AND c.execution_id = e.id ORDER BY c.seq DESC LIMIT 1) last ON true
  CROSS JOIN LATERAL (
      SELECT CASE WHEN e.started_at + make_interval(secs => (j.spec ->> 'timeout_s')::float8 + (j.spec ->> 'grace_s')::float8
                                                            + :margin_s) < clock_timestamp() THEN 'run'
                  WHEN COALESCE(last.stored_at, e.started_at)
                       + make_interval(secs => (j.spec #>> '{timeouts,idle_s}')::float8 + (j.spec ->> 'grace_s')::float8
                                               + :margin_s) < clock_timestamp() THEN 'idle' END AS kind) x
 WHERE e.state = 'running' AND e.reported_at IS NULL AND j.state = 'RUNNING' AND j.cancel_requested_at IS NULL
   AND GREATEST(w.last_heartbeat, :reachable_since)
       < clock_timestamp() - make_interval(secs => CASE x.kind WHEN 'run' THEN :run_silent_s WHEN 'idle' THEN :idle_silent_s END)
   AND NOT EXISTS (SELECT FROM public.sagas s
                    WHERE s.correlation_id = e.job_id AND s.saga_type = 'TIMEOUT' AND s.completed_at IS NULL)
 LIMIT :limit;
