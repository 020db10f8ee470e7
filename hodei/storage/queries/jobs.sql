-- Jobs: every change of a state names the states it may start from.

-- name: jobs_insert
-- Any number of jobs, each with its JobCreated and that one's outbox row, in one statement.
WITH new AS (
    SELECT * FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS item
        (id uuid, event_id uuid, name text, spec jsonb, held boolean, requested_provider text, pipeline_id uuid,
         priority smallint, user_retries integer, labels jsonb, payload jsonb)
), job AS (
    INSERT INTO public.jobs (id, name, spec, state, held, requested_provider, pipeline_id, priority, max_attempts,
                             user_retries, labels, correlation_id, request_id, last_event_at)
    SELECT id, name, spec, 'PENDING', held, requested_provider, pipeline_id, priority, 1 + user_retries, user_retries,
           labels, id, :request_id, clock_timestamp()
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
-- A retry: back to the queue, due later, from whichever state its attempt ended in.
UPDATE public.jobs
   SET state = 'PENDING', state_since = clock_timestamp(), queued_at = clock_timestamp(), worker_id = NULL,
       selected_provider_id = NULL, started_at = NULL, due_at = clock_timestamp() + make_interval(secs => :delay_s),
       infra_retries = infra_retries + :infra, user_retries = user_retries - :user,
       error_code = :error_code, error_message = :error_message
 WHERE id = :id AND state = ANY(CAST(:from_states AS text[]))
   AND (CAST(:fence AS integer) IS NULL OR attempts = :fence);

-- name: job_queue_head
-- What may run at a provider, in the order in which it should; rows that another dispatcher holds are left to it, and so
-- are jobs that a worker is reserved for: those are being given to it.
SELECT id, spec, priority, attempts, infra_retries, user_retries, requested_provider, labels
  FROM public.jobs
 WHERE state = 'PENDING' AND NOT held AND requested_provider = ANY(CAST(:names AS text[]))
   AND due_at <= clock_timestamp() AND cancel_requested_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM public.workers w
                    WHERE w.reserved_for = jobs.id AND w.state IN ('CREATING', 'CONNECTING', 'READY'))
 ORDER BY priority DESC, queued_at, id
 LIMIT :limit
   FOR UPDATE OF jobs SKIP LOCKED;

-- name: job_queue_overdue
-- Jobs that waited longer than they may.
SELECT id FROM public.jobs
 WHERE state = 'PENDING' AND NOT held
   AND queued_at + make_interval(secs => COALESCE((spec #>> '{timeouts,queue_s}')::float8, 86400)) < clock_timestamp()
 LIMIT :limit
   FOR UPDATE SKIP LOCKED;

-- name: job_next_due
SELECT count(*) AS waiting, min(queued_at) AS oldest
  FROM public.jobs WHERE state = 'PENDING' AND NOT held AND due_at <= clock_timestamp();
