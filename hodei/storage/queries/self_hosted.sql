-- Self-hosted workers: rows that a person asked for, whose agents come and go.

-- name: self_hosted_provider_ensure
-- Their provider is there from the first of them on.
INSERT INTO public.provider_configs (id, name, provider_type, status, config, priority, max_workers, capabilities)
VALUES (:id, 'self-hosted', 'self-hosted', 'ACTIVE', '{}', 0, :max_workers, CAST(:capabilities AS jsonb))
ON CONFLICT DO NOTHING;

-- name: self_hosted_insert
-- Its agent has `connect_s` to call for the first time.
INSERT INTO public.workers (id, provider_id, provider_type, worker_type, state, max_jobs, holds_place, connect_deadline)
VALUES (:id, :provider_id, 'self-hosted', :worker_type, 'CONNECTING', 0, true,
        clock_timestamp() + make_interval(secs => :connect_s))
RETURNING *;

-- name: self_hosted_heard_of
-- Somebody says that it is there, before its agent can.
UPDATE public.workers SET last_heartbeat = clock_timestamp()
 WHERE id = :id AND provider_type = 'self-hosted' AND state = 'CONNECTING' AND registered_at IS NULL AND agent = '{}';

-- name: worker_set_away
-- A self-hosted worker's agent has left, is silent, or is not trusted any more: its session is refused until it registers again,
-- which it does only when nothing of its jobs lives.
WITH away AS (
    UPDATE public.workers
       SET state = 'CONNECTING', registered_at = NULL, reserved_for = NULL, current_job_id = NULL,
           last_job_id = COALESCE(current_job_id, reserved_for, last_job_id), updated_at = clock_timestamp()
     WHERE id = :id AND provider_type = 'self-hosted' AND state IN ('CONNECTING', 'READY', 'BUSY') AND registered_at IS NOT NULL
 RETURNING id
), messages AS (
    DELETE FROM hodei.worker_messages WHERE worker_id IN (SELECT id FROM away)
)
SELECT id FROM away;

-- name: worker_note_left
-- Its agent said goodbye: nothing of ours is on its host until it registers again.
UPDATE public.workers SET registered_at = NULL, agent = agent || '{"left": true}', updated_at = clock_timestamp()
 WHERE id = :id AND provider_type = 'self-hosted';

-- name: worker_set_returned
-- The agent of a self-hosted worker registers again, as a new process: what it was told before is worth nothing. It keeps a job that it
-- has reported and that is only to be completed.
WITH back AS (
    UPDATE public.workers
       SET state = CASE WHEN state = 'BUSY' AND NOT :lost THEN 'BUSY' ELSE 'CONNECTING' END,
           current_job_id = CASE WHEN state = 'BUSY' AND NOT :lost THEN current_job_id END,
           last_job_id = COALESCE(current_job_id, reserved_for, last_job_id), reserved_for = NULL,
           registered_at = clock_timestamp(), last_heartbeat = clock_timestamp(), updated_at = clock_timestamp(),
           agent = CAST(:agent AS jsonb), provider_resource_id = COALESCE(NULLIF(CAST(:agent AS jsonb) ->> 'hostname', ''), provider_resource_id)
     WHERE id = :id AND provider_type = 'self-hosted' AND state IN ('CONNECTING', 'READY', 'BUSY')
 RETURNING id
), messages AS (
    DELETE FROM hodei.worker_messages WHERE worker_id IN (SELECT id FROM back)
)
SELECT id FROM back;

-- name: self_hosted_idle
-- Those that are connected and that nobody reserved; READY alone is not enough, the inbox must have been polled lately.
SELECT id, worker_type FROM public.workers
 WHERE state = 'READY' AND reserved_for IS NULL AND provider_id = :provider_id AND current_job_id IS NULL
   AND last_heartbeat > clock_timestamp() - interval '15 s'
 ORDER BY updated_at LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: self_hosted_silent
-- Those without a job whose agent was not heard of for a while. Our own downtime is not their silence.
SELECT id FROM public.workers
 WHERE provider_type = 'self-hosted' AND state IN ('CONNECTING', 'READY') AND registered_at IS NOT NULL AND reserved_for IS NULL
   AND GREATEST(last_heartbeat, :reachable_since) < clock_timestamp() - make_interval(secs => :lost_after_s)
 LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: self_hosted_never_started
-- Those whose token was not used in time.
SELECT w.id FROM public.workers w
 WHERE w.provider_type = 'self-hosted' AND w.state = 'CONNECTING' AND w.agent = '{}' AND w.connect_deadline < clock_timestamp()
 LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: self_hosted_has_left
-- Whether nothing of ours is on its host: its agent never called, said goodbye, or has by its own clock killed what it had.
SELECT agent = '{}' OR agent ? 'left' OR last_heartbeat < clock_timestamp() - make_interval(secs => :lease_s)
  FROM public.workers WHERE id = :id;

-- name: self_hosted_of_type
-- Those that live, by whether they are connected and free. NULL: of any type.
SELECT count(*) AS registered,
       count(*) FILTER (WHERE state IN ('READY', 'BUSY') AND last_heartbeat > clock_timestamp() - interval '15 s') AS connected
  FROM public.workers
 WHERE provider_type = 'self-hosted' AND state IN ('CONNECTING', 'READY', 'BUSY')
   AND (CAST(:worker_type AS text) IS NULL OR worker_type = :worker_type);

-- name: job_queue_head_for_self_hosted
-- The first job that asks for a self-hosted worker with these labels: by their provider's name, or by the type that it requires. It
-- may ask for no image and no limits, which they cannot give. The rest is as in job_queue_head.
SELECT id, spec, priority, attempts, tries, requested_provider, labels
  FROM public.jobs
 WHERE state = 'PENDING' AND NOT held
   AND (requested_provider = 'self-hosted' OR (requested_provider = 'auto' AND (spec -> 'required_labels') ? 'type'))
   AND due_at <= clock_timestamp() AND cancel_requested_at IS NULL
   AND COALESCE(spec -> 'required_labels', '{}') <@ CAST(:labels AS jsonb)
   AND spec ->> 'image' IS NULL AND spec ->> 'cpu' IS NULL AND spec ->> 'memory_bytes' IS NULL
   AND NOT EXISTS (SELECT 1 FROM public.workers w
                    WHERE w.reserved_for = jobs.id AND w.state IN ('CREATING', 'CONNECTING', 'READY'))
   AND NOT EXISTS (SELECT 1 FROM hodei.executions e JOIN public.workers w ON w.id = e.worker_id
                    WHERE e.job_id = jobs.id AND e.attempt = jobs.attempts AND e.reported_at IS NULL
                      AND e.accepted_at IS NOT NULL AND w.state <> 'TERMINATED'
                      AND (w.registered_at IS NULL OR w.registered_at < e.created_at)
                      AND w.last_heartbeat > clock_timestamp() - make_interval(secs => :lease_s))
 ORDER BY priority DESC, queued_at, id
 LIMIT 1
   FOR UPDATE OF jobs SKIP LOCKED;

-- name: self_hosted_tell_to_leave
-- Nobody else can end it: its agent is told.
WITH next AS (
    UPDATE public.workers SET inbox_seq = inbox_seq + 1 WHERE id = :id AND provider_type = 'self-hosted' RETURNING inbox_seq
)
INSERT INTO hodei.worker_messages (worker_id, seq, kind, payload)
SELECT :id, inbox_seq, 'shutdown', '{"reason": "ended"}' FROM next;
