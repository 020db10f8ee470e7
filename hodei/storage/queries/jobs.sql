-- Jobs: every change of a state names the states it may start from.

-- name: jobs_insert
-- Any number of jobs, each with its JobCreated and that one's outbox row, in one statement.
WITH new AS (
    SELECT * FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS item
        (id uuid, event_id uuid, name text, spec jsonb, held boolean, requested_provider text, pipeline_id uuid,
         priority smallint, user_retries integer, labels jsonb, schedule_id uuid, scheduled_for timestamptz,
         pipeline_run_id uuid, pipeline_node text, payload jsonb)
), job AS (
    INSERT INTO public.jobs (id, name, spec, state, held, requested_provider, pipeline_id, priority, max_attempts,
                             user_retries, labels, correlation_id, request_id, last_event_at, schedule_id, scheduled_for,
                             pipeline_run_id, pipeline_node)
    SELECT id, name, spec, 'PENDING', held, requested_provider, pipeline_id, priority, 1 + user_retries, user_retries,
           labels, id, :request_id, clock_timestamp(), schedule_id, scheduled_for, pipeline_run_id, pipeline_node
      FROM new
 RETURNING *
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT new.event_id, job.last_event_at, 'JobCreated', 'job', job.id, job.id, :actor, new.payload
      FROM job JOIN new ON new.id = job.id
 RETURNING id, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT job.*, NULL AS provider_name, NULL AS provider_type, NULL AS log_entries, NULL AS log_bytes, NULL AS log_complete,
       NULL AS queue_position
  FROM job ORDER BY id;

-- name: job_lock
SELECT * FROM public.jobs WHERE id = :id FOR UPDATE;

-- name: job_set_scheduled_if_pending
UPDATE public.jobs
   SET state = 'SCHEDULED', state_since = clock_timestamp(), selected_provider_id = :provider_id, worker_id = :worker_id
 WHERE id = :id AND state = 'PENDING' AND NOT held AND cancel_requested_at IS NULL;

-- name: job_set_assigned_if_waiting
-- The fence: the attempt's number only grows, and only here.
UPDATE public.jobs
   SET state = 'ASSIGNED', state_since = clock_timestamp(), selected_provider_id = :provider_id, worker_id = :worker_id,
       attempts = attempts + 1, error_code = NULL, error_message = NULL
 WHERE id = :id AND state IN ('PENDING', 'SCHEDULED') AND cancel_requested_at IS NULL AND attempts = :attempt - 1
RETURNING attempts;

-- name: job_set_running_if_assigned
UPDATE public.jobs
   SET state = 'RUNNING', state_since = clock_timestamp(), started_at = clock_timestamp()
 WHERE id = :id AND state = 'ASSIGNED' AND attempts = :fence;

-- name: job_set_ended
-- The one way to an end; guarded by state and fence. A fence of NULL: an end outside any attempt.
UPDATE public.jobs
   SET state = :state, state_since = clock_timestamp(), completed_at = clock_timestamp(),
       started_at = COALESCE(started_at, :started_at), exit_code = :exit_code, result = CAST(:result AS jsonb),
       error_code = :error_code, error_message = :error_message
 WHERE id = :id AND state = ANY(CAST(:from_states AS text[]))
   AND (CAST(:fence AS integer) IS NULL OR attempts = :fence);

-- name: job_set_pending_again
-- A retry: back to the queue, due later, from whichever state its attempt ended in. Not queued anew: its time in the queue
-- goes on, because it never got a place.
UPDATE public.jobs
   SET state = 'PENDING', state_since = clock_timestamp(), worker_id = NULL,
       queued_at = CASE WHEN :queued_anew THEN clock_timestamp() ELSE queued_at END,
       selected_provider_id = NULL, started_at = NULL, due_at = clock_timestamp() + make_interval(secs => :delay_s),
       infra_retries = infra_retries + :infra, user_retries = user_retries - :user, tries = tries + 1,
       error_code = :error_code, error_message = :error_message
 WHERE id = :id AND state = ANY(CAST(:from_states AS text[]))
   AND (CAST(:fence AS integer) IS NULL OR attempts = :fence);

-- name: job_queue_head
-- What may run at a provider of these names and labels, in the order in which it should; rows that another dispatcher holds are left to it, and so
-- are jobs that a worker is reserved for: those are being given to it. A job whose last attempt was never reported waits until
-- that one's worker is confirmed gone, or its lease has run out, so that no two attempts overlap; a self-hosted
-- worker's agent that registers again has ended what it had.
SELECT id, spec, priority, attempts, tries, requested_provider, labels
  FROM public.jobs
 WHERE state = 'PENDING' AND NOT held AND requested_provider = ANY(CAST(:names AS text[]))
   AND due_at <= clock_timestamp() AND cancel_requested_at IS NULL
   AND COALESCE(spec -> 'required_labels', '{}') <@ CAST(:labels AS jsonb)
   AND NOT EXISTS (SELECT 1 FROM public.workers w
                    WHERE w.reserved_for = jobs.id AND w.state IN ('CREATING', 'CONNECTING', 'READY'))
   AND NOT EXISTS (SELECT 1 FROM hodei.executions e JOIN public.workers w ON w.id = e.worker_id
                    WHERE e.job_id = jobs.id AND e.attempt = jobs.attempts AND e.reported_at IS NULL
                      AND e.accepted_at IS NOT NULL AND w.state <> 'TERMINATED'
                      AND NOT (w.provider_type = 'self-hosted' AND COALESCE(w.registered_at >= e.created_at, false))
                      AND w.last_heartbeat > clock_timestamp() - make_interval(secs => :lease_s))
 ORDER BY priority DESC, queued_at, id
 LIMIT :limit
   FOR UPDATE OF jobs SKIP LOCKED;

-- name: job_queue_overdue
-- Jobs that waited longer than they may. The wait between two attempts is none of theirs: neither the back-off, nor that for the
-- end of the last attempt's worker (as in job_queue_head).
SELECT id FROM public.jobs
 WHERE state = 'PENDING' AND NOT held
   AND GREATEST(queued_at, due_at) + make_interval(secs => COALESCE((spec #>> '{timeouts,queue_s}')::float8, 86400))
       < clock_timestamp()
   AND NOT EXISTS (SELECT 1 FROM hodei.executions e JOIN public.workers w ON w.id = e.worker_id
                    WHERE e.job_id = jobs.id AND e.attempt = jobs.attempts AND e.reported_at IS NULL
                      AND e.accepted_at IS NOT NULL AND w.state <> 'TERMINATED'
                      AND NOT (w.provider_type = 'self-hosted' AND COALESCE(w.registered_at >= e.created_at, false))
                      AND w.last_heartbeat > clock_timestamp() - make_interval(secs => :lease_s))
 LIMIT :limit
   FOR UPDATE SKIP LOCKED;

-- name: job_next_due
SELECT count(*) AS waiting, min(queued_at) AS oldest
  FROM public.jobs WHERE state = 'PENDING' AND NOT held AND due_at <= clock_timestamp();

-- name: job_request_cancel
-- The wish is noted once: a second one finds the first's time.
UPDATE public.jobs SET cancel_requested_at = clock_timestamp()
 WHERE id = :id AND cancel_requested_at IS NULL AND state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING');

-- name: job_set_pending_by_hand
-- A finished job is asked for again: a further attempt, with an infrastructure budget of its own, and no cancel. One that waited for
-- the runs before it of a schedule that is gone waits for nobody.
UPDATE public.jobs
   SET state = 'PENDING', state_since = clock_timestamp(), queued_at = clock_timestamp(), due_at = clock_timestamp(),
       worker_id = NULL, selected_provider_id = NULL, started_at = NULL, completed_at = NULL, cancel_requested_at = NULL,
       exit_code = NULL, result = NULL, error_code = NULL, error_message = NULL, infra_retries = 0, tries = tries + 1,
       max_attempts = GREATEST(max_attempts, attempts + 1),
       held = held AND (schedule_id IS NULL OR EXISTS (SELECT FROM hodei.schedules s WHERE s.id = jobs.schedule_id))
 WHERE id = :id AND state IN ('FAILED', 'TIMEOUT', 'CANCELLED');

-- name: job_delete
-- With its attempts; its events and sagas stay, they are the record.
DELETE FROM public.jobs
 WHERE id = :id AND (state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT') OR (state = 'PENDING' AND held));

-- name: job_awaits_its_last_worker
-- The worker whose end a job waits for before its next attempt (the same rule as in job_queue_head).
SELECT w.id, w.last_heartbeat + make_interval(secs => :lease_s) AS lease_ends
  FROM public.jobs j JOIN hodei.executions e ON e.job_id = j.id AND e.attempt = j.attempts
  JOIN public.workers w ON w.id = e.worker_id
 WHERE j.id = :id AND e.reported_at IS NULL AND e.accepted_at IS NOT NULL AND w.state <> 'TERMINATED'
   AND NOT (w.provider_type = 'self-hosted' AND COALESCE(w.registered_at >= e.created_at, false))
   AND w.last_heartbeat > clock_timestamp() - make_interval(secs => :lease_s);

-- name: job_note_awaited
-- Why the worker that is made for it does not run yet, though it still may. NULL: nothing is in its way any more.
UPDATE public.jobs SET error_code = :error_code, error_message = :error_message
 WHERE id = :id AND worker_id = :worker_id AND state = 'SCHEDULED'
   AND (error_code, error_message) IS DISTINCT FROM (CAST(:error_code AS text), CAST(:error_message AS text));

-- name: job_is_cancelled_before_its_worker
-- Whether the job that this worker is made for is being cancelled.
SELECT cancel_requested_at IS NOT NULL FROM public.jobs WHERE id = :id AND state = 'SCHEDULED' AND worker_id = :worker_id;

-- name: log_chunks_forget
DELETE FROM hodei.log_chunks c USING hodei.executions e
 WHERE e.job_id = :job_id AND c.log_day = e.log_day AND c.execution_id = e.id;

-- name: log_files_forget
DELETE FROM public.job_log_files WHERE job_id = :job_id RETURNING job_id, execution_id, storage_uri;

-- name: job_set_pending_to_execute
-- A definition is executed, or what has ended is executed again: with all of its budgets, as if it had just been submitted.
UPDATE public.jobs
   SET state = 'PENDING', held = false, spec = CAST(:spec AS jsonb), state_since = clock_timestamp(), queued_at = clock_timestamp(),
       due_at = clock_timestamp(), worker_id = NULL, selected_provider_id = NULL, started_at = NULL, completed_at = NULL,
       cancel_requested_at = NULL, exit_code = NULL, result = NULL, error_code = NULL, error_message = NULL, infra_retries = 0,
       user_retries = :retries, max_attempts = attempts + 1 + :retries, tries = tries + 1
 WHERE id = :id AND (state IN ('SUCCEEDED', 'FAILED', 'TIMEOUT', 'CANCELLED') OR (state = 'PENDING' AND held));
