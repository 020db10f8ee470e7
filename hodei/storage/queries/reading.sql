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
           AND (CAST(:schedule_id AS uuid) IS NULL OR schedule_id = :schedule_id)
           AND (CAST(:provider AS text) IS NULL OR requested_provider = :provider)
           AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
           AND (CAST(:until AS timestamptz) IS NULL OR created_at < :until)
           AND (CAST(:text AS text) IS NULL OR strpos(lower(concat_ws(' ', name, spec ->> 'command', error_message)), lower(:text)) > 0)
           AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
         ORDER BY created_at DESC, id DESC LIMIT :limit) j
  LEFT JOIN public.provider_configs p ON p.id = j.selected_provider_id
  LEFT JOIN hodei.executions e ON e.job_id = j.id AND e.attempt = j.attempts
 ORDER BY j.created_at DESC, j.id DESC;

-- name: read_jobs_horizon
-- When the last of the next so many jobs of a list was made; no row when there are not so many.
SELECT created_at FROM public.jobs
 WHERE (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY created_at DESC, id DESC OFFSET :count LIMIT 1;

-- name: read_queue
-- What waits for a worker, in the order in which it gets one; a job's position is among those that wait for the same provider.
SELECT j.*, p.name AS provider_name, p.provider_type,
       e.id AS execution_id, e.log_entries, e.log_bytes, e.log_complete, e.state AS execution_state, e.reported_at,
       ARRAY(SELECT s.name FROM hodei.secrets s WHERE s.owner_id = j.id ORDER BY s.name) AS secret_names
  FROM (SELECT *, row_number() OVER (PARTITION BY requested_provider ORDER BY priority DESC, queued_at, id) AS queue_position
          FROM public.jobs WHERE state = 'PENDING' AND NOT held) j
  LEFT JOIN public.provider_configs p ON p.id = j.selected_provider_id
  LEFT JOIN hodei.executions e ON e.job_id = j.id AND e.attempt = j.attempts
 WHERE (CAST(:labels AS jsonb) IS NULL OR j.labels @> CAST(:labels AS jsonb))
   AND (CAST(:provider AS text) IS NULL OR j.requested_provider = :provider)
   AND (CAST(:text AS text) IS NULL OR strpos(lower(concat_ws(' ', j.name, j.spec ->> 'command')), lower(:text)) > 0)
   AND (CAST(:after_at AS timestamptz) IS NULL
        OR (-j.priority, j.queued_at, j.id) > (-CAST(:after_priority AS integer), :after_at, CAST(:after_id AS uuid)))
 ORDER BY j.priority DESC, j.queued_at, j.id LIMIT :limit;

-- name: read_job_events
SELECT * FROM public.domain_events
 WHERE aggregate_id = :job_id
   AND (CAST(:after_at AS timestamptz) IS NULL OR (occurred_at, id) > (:after_at, CAST(:after_id AS uuid)))
 ORDER BY occurred_at, id LIMIT :limit;

-- name: read_events
SELECT * FROM public.domain_events
 WHERE (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
   AND (CAST(:aggregate_id AS uuid) IS NULL OR aggregate_id = :aggregate_id)
   AND (CAST(:correlation_id AS uuid) IS NULL OR correlation_id = :correlation_id)
   AND (CAST(:actor AS text) IS NULL OR actor = :actor)
   AND (CAST(:since AS timestamptz) IS NULL OR occurred_at >= :since)
   AND (CAST(:until AS timestamptz) IS NULL OR occurred_at < :until)
   AND (CAST(:text AS text) IS NULL OR strpos(lower(concat_ws(' ', event_type, payload)), lower(:text)) > 0)
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
   AND (CAST(:since AS timestamptz) IS NULL OR s.started_at >= :since)
   AND (CAST(:until AS timestamptz) IS NULL OR s.started_at < :until)
   AND (CAST(:text AS text) IS NULL OR strpos(lower(concat_ws(' ', s.error_message, s.metadata)), lower(:text)) > 0)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (s.started_at, s.id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY s.started_at DESC, s.id DESC LIMIT :limit;

-- name: read_job_sagas
SELECT s.*, (SELECT jsonb_agg(to_jsonb(st) - 'id' - 'saga_id' - 'input_data' ORDER BY st.step_order)
               FROM public.saga_steps st WHERE st.saga_id = s.id) AS steps
  FROM public.sagas s
 WHERE s.correlation_id = :job_id
   AND (CAST(:after_at AS timestamptz) IS NULL OR (s.started_at, s.id) > (:after_at, CAST(:after_id AS uuid)))
 ORDER BY s.started_at, s.id LIMIT :limit;

-- name: read_saga_audit
SELECT saga_id, event_type, step_name, message, payload, occurred_at FROM public.saga_audit_events
 WHERE saga_id = ANY(CAST(:ids AS uuid[])) ORDER BY occurred_at;

-- name: read_executions
SELECT e.*, w.provider_type FROM hodei.executions e LEFT JOIN public.workers w ON w.id = e.worker_id
 WHERE (CAST(:id AS uuid) IS NULL OR e.id = :id)
   AND (CAST(:job_id AS uuid) IS NULL OR e.job_id = :job_id)
   AND (CAST(:worker_id AS uuid) IS NULL OR e.worker_id = :worker_id)
   AND (CAST(:states AS text[]) IS NULL OR e.state = ANY(CAST(:states AS text[])))
   AND (CAST(:since AS timestamptz) IS NULL OR e.created_at >= :since)
   AND (CAST(:until AS timestamptz) IS NULL OR e.created_at < :until)
   AND (CAST(:text AS text) IS NULL OR strpos(lower(concat_ws(' ', e.command, e.error_message)), lower(:text)) > 0)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (e.created_at, e.id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY e.created_at DESC, e.id DESC LIMIT :limit;

-- name: read_job_executions
SELECT e.*, w.provider_type FROM hodei.executions e LEFT JOIN public.workers w ON w.id = e.worker_id
 WHERE e.job_id = :job_id
   AND (CAST(:after_at AS timestamptz) IS NULL OR (e.created_at, e.id) > (:after_at, CAST(:after_id AS uuid)))
 ORDER BY e.created_at, e.id LIMIT :limit;

-- name: read_workers
SELECT w.*, w.provider_id, p.name AS provider_name
  FROM public.workers w LEFT JOIN public.provider_configs p ON p.id = w.provider_id
 WHERE (CAST(:id AS uuid) IS NULL OR w.id = :id)
   AND (CAST(:states AS text[]) IS NULL OR w.state = ANY(CAST(:states AS text[])))
   AND (CAST(:provider AS text) IS NULL OR p.name = :provider OR w.provider_type = :provider)
   AND (CAST(:worker_type AS text) IS NULL OR COALESCE(w.worker_type, w.provider_type) = :worker_type)
   AND (CAST(:since AS timestamptz) IS NULL OR w.created_at >= :since)
   AND (CAST(:until AS timestamptz) IS NULL OR w.created_at < :until)
   AND (CAST(:text AS text) IS NULL
        OR strpos(lower(concat_ws(' ', w.worker_type, w.provider_resource_id, w.termination_reason)), lower(:text)) > 0)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (w.created_at, w.id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY w.created_at DESC, w.id DESC LIMIT :limit;

-- name: read_open_sagas_of_job
SELECT s.id, s.saga_type, s.state, s.error_message, s.waiting_until, s.lease_owner, s.started_at, s.metadata, clock_timestamp() AS now,
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

-- name: read_provisioning_of_worker
-- How the making of a worker goes that was asked for by hand.
SELECT state, error_code, error_message, metadata, started_at, completed_at FROM public.sagas
 WHERE correlation_id = :id AND subject_id = :id AND saga_type = 'PROVISIONING';

-- name: read_promised_execution
-- An attempt that was asked for by its id and has not begun, or never will; the event that asked for it has that id.
SELECT ev.id, ev.occurred_at, j.id AS job_id, j.state, j.spec, j.attempts, j.error_code, j.error_message, j.completed_at,
       CAST(ev.payload ->> 'attempt' AS integer) AS attempt
  FROM public.domain_events ev JOIN public.jobs j ON j.id = ev.aggregate_id
 WHERE ev.id = :id AND ev.event_type = 'JobExecuteRequested';
