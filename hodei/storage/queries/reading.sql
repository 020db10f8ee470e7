-- What people look at. Lists are paged by key, never by offset.

-- name: read_job
SELECT j.*, p.name AS provider_name, p.provider_type,
       e.id AS execution_id, e.log_entries, e.log_bytes, e.log_complete, e.state AS execution_state, e.reported_at,
       CASE WHEN j.state = 'PENDING' AND NOT j.held THEN
           (SELECT count(*) + 1 FROM public.jobs q
             WHERE q.state = 'PENDING' AND NOT q.held AND q.requested_provider = j.requested_provider
               AND (q.priority, j.queued_at, j.id) > (j.priority, q.queued_at, q.id))
       END AS queue_position,
       ARRAY(SELECT s.name FROM hodei.secrets s WHERE s.owner_id = j.id ORDER BY s.name) AS secret_names
  FROM public.jobs j
  LEFT JOIN public.provider_configs p ON p.id = j.selected_provider_id
  LEFT JOIN hodei.executions e ON e.job_id = j.id AND e.attempt = j.attempts
 WHERE j.id = :id;

-- name: read_job_state
SELECT state, held FROM public.jobs WHERE id = :id;

-- name: read_job_states
SELECT id FROM public.jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT');

-- name: read_jobs
SELECT j.*, p.name AS provider_name, p.provider_type,
       e.id AS execution_id, e.log_entries, e.log_bytes, e.log_complete, e.state AS execution_state, e.reported_at,
       NULL AS queue_position, ARRAY(SELECT s.name FROM hodei.secrets s WHERE s.owner_id = j.id ORDER BY s.name) AS secret_names
  FROM (SELECT * FROM public.jobs
         WHERE (CAST(:states AS text[]) IS NULL OR state = ANY(CAST(:states AS text[])))
           AND (CAST(:labels AS jsonb) IS NULL OR labels @> CAST(:labels AS jsonb))
           AND (CAST(:name AS text) IS NULL OR name = :name)
           AND (CAST(:pipeline_id AS uuid) IS NULL OR pipeline_id = :pipeline_id)
           AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
         ORDER BY created_at DESC, id DESC LIMIT :limit) j
  LEFT JOIN public.provider_configs p ON p.id = j.selected_provider_id
  LEFT JOIN hodei.executions e ON e.job_id = j.id AND e.attempt = j.attempts
 ORDER BY j.created_at DESC, j.id DESC;

-- name: read_job_events
SELECT * FROM public.domain_events WHERE aggregate_id = :job_id ORDER BY occurred_at;

-- name: read_events
SELECT * FROM public.domain_events
 WHERE (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
   AND (CAST(:aggregate_id AS uuid) IS NULL OR aggregate_id = :aggregate_id)
   AND (CAST(:correlation_id AS uuid) IS NULL OR correlation_id = :correlation_id)
   AND (CAST(:after_at AS timestamptz) IS NULL OR (occurred_at, id) > (:after_at, CAST(:after_id AS uuid)))
 ORDER BY occurred_at, id LIMIT :limit;

-- name: read_sagas
SELECT s.*, (SELECT jsonb_agg(to_jsonb(st) - 'id' - 'saga_id' - 'input_data' ORDER BY st.step_order)
               FROM public.saga_steps st WHERE st.saga_id = s.id) AS steps
  FROM public.sagas s
 WHERE (CAST(:id AS uuid) IS NULL OR s.id = :id)
   AND (CAST(:state AS text) IS NULL OR s.state = :state)
   AND (CAST(:saga_type AS text) IS NULL OR s.saga_type = :saga_type)
   AND (CAST(:correlation_id AS uuid) IS NULL OR s.correlation_id = :correlation_id)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (s.started_at, s.id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY s.started_at DESC, s.id DESC LIMIT :limit;

-- name: read_saga_audit
SELECT saga_id, event_type, step_name, message, payload, occurred_at FROM public.saga_audit_events
 WHERE saga_id = ANY(CAST(:ids AS uuid[])) ORDER BY occurred_at;

-- name: read_executions
SELECT e.*, w.provider_type FROM hodei.executions e LEFT JOIN public.workers w ON w.id = e.worker_id
 WHERE (CAST(:id AS uuid) IS NULL OR e.id = :id)
   AND (CAST(:job_id AS uuid) IS NULL OR e.job_id = :job_id)
   AND (CAST(:state AS text) IS NULL OR e.state = :state)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (e.created_at, e.id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY e.created_at DESC, e.id DESC LIMIT :limit;

-- name: read_log_execution
-- The execution whose log is read: a certain attempt of a job, or its last.
SELECT e.id, e.job_id, e.attempt, e.state, e.log_entries, e.log_bytes, e.log_complete, e.reported_at, j.state AS job_state
  FROM hodei.executions e JOIN public.jobs j ON j.id = e.job_id
 WHERE (CAST(:execution_id AS uuid) IS NULL OR e.id = :execution_id)
   AND (CAST(:job_id AS uuid) IS NULL OR e.job_id = :job_id)
   AND (CAST(:attempt AS integer) IS NULL OR e.attempt = :attempt)
 ORDER BY e.attempt DESC LIMIT 1;

-- name: read_workers
SELECT w.*, w.provider_id, p.name AS provider_name
  FROM public.workers w LEFT JOIN public.provider_configs p ON p.id = w.provider_id
 WHERE (CAST(:id AS uuid) IS NULL OR w.id = :id)
   AND (CAST(:states AS text[]) IS NULL OR w.state = ANY(CAST(:states AS text[])))
   AND (CAST(:provider AS text) IS NULL OR p.name = :provider OR w.provider_type = :provider)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (w.created_at, w.id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY w.created_at DESC, w.id DESC LIMIT :limit;

-- name: read_open_sagas_of_job
SELECT s.id, s.saga_type, s.state, s.error_message, s.waiting_until, s.lease_owner, s.started_at, s.metadata,
       (SELECT st.step_name FROM public.saga_steps st
         WHERE st.saga_id = s.id AND st.state IN ('IN_PROGRESS', 'COMPENSATING', 'PENDING') ORDER BY st.step_order LIMIT 1) AS step
  FROM public.sagas s
 WHERE s.correlation_id = :job_id AND s.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')
 ORDER BY s.started_at;

-- name: summary_open_jobs
SELECT state, count(*) AS jobs, extract(epoch FROM clock_timestamp() - min(state_since)) AS oldest_s
  FROM public.jobs WHERE state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING') AND NOT held GROUP BY state;

-- name: summary_ended_jobs
SELECT state, count(*) AS jobs FROM public.jobs
 WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT') AND created_at > clock_timestamp() - interval '1 day' GROUP BY state;

-- name: summary_workers
SELECT state, count(*) AS workers FROM public.workers WHERE state <> 'TERMINATED' GROUP BY state;

-- name: summary_sagas
SELECT state, count(*) AS sagas FROM public.sagas
 WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') GROUP BY state;

-- name: read_attempts_before
SELECT attempt, state, error_code, error_message FROM hodei.executions
 WHERE job_id = :id AND attempt < :attempt ORDER BY attempt DESC LIMIT 10;
