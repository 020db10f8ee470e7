-- Traces: which trace a job's spans belong to. There are rows only for jobs that were submitted while traces were asked for.

-- name: traces_insert
INSERT INTO hodei.traces (job_id, traceparent)
SELECT job_id, traceparent FROM jsonb_to_recordset(CAST(:traces AS jsonb)) AS item (job_id uuid, traceparent text)
ON CONFLICT (job_id) DO NOTHING;

-- name: trace_of_job
SELECT job_id, traceparent FROM hodei.traces WHERE job_id = :job_id;

-- name: trace_of_saga
SELECT t.job_id, t.traceparent FROM public.sagas s JOIN hodei.traces t ON t.job_id = s.correlation_id WHERE s.id = :saga_id;

-- name: trace_of_worker
-- The trace of the job that the worker was made for, has, or had last, and the attempt.
SELECT t.job_id, t.traceparent, j.attempts AS attempt
  FROM public.workers w JOIN public.jobs j ON j.id = COALESCE(w.current_job_id, w.reserved_for, w.last_job_id)
  JOIN hodei.traces t ON t.job_id = j.id
 WHERE w.id = :worker_id;

-- name: traces_to_tell
-- Jobs that have ended, with all that was done for them, and are not told of. What was done an hour ago while nobody wanted to know is
-- not told of any more.
SELECT t.job_id, t.traceparent, t.told_until, t.runs
  FROM hodei.traces t JOIN public.jobs j ON j.id = t.job_id
 WHERE t.told_at IS NULL AND j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT') AND j.completed_at > clock_timestamp() - interval '1 hour'
   AND (j.completed_at < clock_timestamp() - interval '60 s'
        OR NOT EXISTS (SELECT FROM public.sagas s WHERE s.correlation_id = t.job_id AND s.completed_at IS NULL))
 ORDER BY j.completed_at LIMIT :limit FOR UPDATE OF t SKIP LOCKED;

-- name: trace_told
UPDATE hodei.traces SET told_at = clock_timestamp(), told_until = clock_timestamp(), runs = runs + 1 WHERE job_id = :job_id;

-- name: trace_job
SELECT j.id, j.name, j.state, j.created_at, j.queued_at, j.completed_at, j.exit_code, j.error_code, j.error_message, j.attempts,
       p.name AS provider
  FROM public.jobs j LEFT JOIN public.provider_configs p ON p.id = j.selected_provider_id WHERE j.id = :job_id;

-- name: trace_sagas
SELECT s.id, s.saga_type, s.state, s.error_code, s.error_message, s.started_at, s.completed_at,
       CAST(s.metadata ->> 'attempt' AS integer) AS attempt,
       (SELECT jsonb_agg(jsonb_build_object('name', st.step_name, 'state', st.state, 'error', st.error_message,
                                            'began', extract(epoch FROM st.started_at), 'ended', extract(epoch FROM st.completed_at))
                         ORDER BY st.step_order)
          FROM public.saga_steps st WHERE st.saga_id = s.id AND st.started_at IS NOT NULL) AS steps
  FROM public.sagas s
 WHERE s.correlation_id = :job_id AND s.started_at > CAST(:since AS timestamptz) ORDER BY s.started_at;

-- name: trace_executions
SELECT e.*, w.provider_type, w.created_at AS worker_created_at, w.registered_at, w.max_jobs
  FROM hodei.executions e LEFT JOIN public.workers w ON w.id = e.worker_id
 WHERE e.job_id = :job_id AND e.created_at > CAST(:since AS timestamptz) ORDER BY e.attempt;

-- name: trace_outbox
SELECT o.event_type, o.created_at, o.published_at
  FROM public.domain_events ev JOIN public.outbox_events o ON o.idempotency_key = 'event:' || ev.id
 WHERE ev.aggregate_id = :job_id AND o.published_at IS NOT NULL AND o.created_at > CAST(:since AS timestamptz)
 ORDER BY o.created_at;
