-- Workers.

-- name: worker_insert
INSERT INTO public.workers (id, provider_id, provider_type, state, reserved_for, max_jobs, holds_place,
                            provisioning_saga_id, image, connect_deadline)
VALUES (:id, :provider_id, :provider_type, 'CREATING', :reserved_for, :max_jobs, true, :saga_id, :image, :connect_deadline)
ON CONFLICT (id) DO NOTHING;

-- name: worker_lock
SELECT *, clock_timestamp() AS now FROM public.workers WHERE id = :id FOR UPDATE;

-- name: worker_get
SELECT * FROM public.workers WHERE id = :id;

-- name: worker_set_infrastructure
-- Its container exists. The agent may have been quicker than this row: then only the resource is noted.
UPDATE public.workers
   SET provider_resource_id = COALESCE(:resource_id, provider_resource_id), updated_at = clock_timestamp(),
       state = CASE WHEN state = 'CREATING' THEN 'CONNECTING' ELSE state END
 WHERE id = :id;

-- name: worker_set_registered
UPDATE public.workers
   SET registered_at = COALESCE(registered_at, clock_timestamp()), last_heartbeat = clock_timestamp(), updated_at = clock_timestamp(),
       agent = CAST(:agent AS jsonb)
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING', 'READY', 'BUSY', 'DRAINING');

-- name: worker_set_ready_if_connecting
-- Its inbox is open now.
UPDATE public.workers SET state = 'READY', inbox_polled_at = clock_timestamp(), last_heartbeat = clock_timestamp(), updated_at = clock_timestamp()
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING') AND registered_at IS NOT NULL;

-- name: worker_touch_inbox
UPDATE public.workers SET inbox_polled_at = clock_timestamp(), last_heartbeat = clock_timestamp()
 WHERE id = ANY(CAST(:ids AS uuid[])) AND state <> 'TERMINATED';

-- name: worker_set_busy_if_ready
UPDATE public.workers
   SET state = 'BUSY', current_job_id = :job_id, last_job_id = :job_id, reserved_for = NULL, updated_at = clock_timestamp()
 WHERE id = :id AND state = 'READY' AND (reserved_for IS NULL OR reserved_for = :job_id);

-- name: worker_set_ready_if_busy
-- A worker of many jobs, between two of them.
UPDATE public.workers SET state = 'READY', current_job_id = NULL, updated_at = clock_timestamp()
 WHERE id = :id AND state = 'BUSY' AND max_jobs <> 1;

-- name: worker_set_terminating
-- Nothing is handed to it any more, and its one-time token is worth nothing.
WITH gone AS (
    UPDATE public.workers
       SET state = 'TERMINATING', updated_at = clock_timestamp(), destroy_after = clock_timestamp() + make_interval(secs => :destroy_in_s),
           termination_reason = COALESCE(termination_reason, :reason), reserved_for = NULL
     WHERE id = :id AND state IN ('CREATING', 'CONNECTING', 'READY', 'BUSY', 'DRAINING')
 RETURNING id
), revoked AS (
    UPDATE hodei.worker_tokens SET expires_at = clock_timestamp()
     WHERE worker_id IN (SELECT id FROM gone) AND kind = 'one_time' AND used_at IS NULL
)
SELECT id FROM gone;

-- name: worker_set_terminated
-- The provider confirmed that nothing is left: the place is free again, exactly once, and all tokens are void.
WITH gone AS (
    UPDATE public.workers
       SET state = 'TERMINATED', updated_at = clock_timestamp(), terminated_at = clock_timestamp(), current_job_id = NULL,
           reserved_for = NULL, holds_place = false,
           termination_reason = COALESCE(termination_reason, :reason)
     WHERE id = :id AND state <> 'TERMINATED'
 RETURNING id, provider_id, terminated_at
), place AS (
    UPDATE public.provider_configs p SET places_taken = places_taken - 1
      FROM public.workers w
     WHERE w.id = :id AND w.holds_place AND w.state <> 'TERMINATED' AND p.id = w.provider_id AND p.places_taken > 0
       AND EXISTS (SELECT 1 FROM gone)
), tokens AS (
    DELETE FROM hodei.worker_tokens WHERE worker_id IN (SELECT id FROM gone)
), messages AS (
    DELETE FROM hodei.worker_messages WHERE worker_id IN (SELECT id FROM gone)
)
SELECT id FROM gone;

-- name: workers_to_destroy
SELECT id, provider_id, provider_resource_id FROM public.workers
 WHERE state = 'TERMINATING' AND destroy_after <= clock_timestamp()
 ORDER BY destroy_after LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: worker_destroy_tried
UPDATE public.workers
   SET destroy_tries = destroy_tries + 1, destroy_after = clock_timestamp() + LEAST(interval '2 s' * power(2, LEAST(destroy_tries, 6)), interval '60 s')
 WHERE id = :id AND state = 'TERMINATING';

-- name: workers_to_watch
-- Workers whose provider should be asked: those that do not connect, and those that have gone silent. Our own downtime is not their
-- silence: it counts from when agents could last reach us.
SELECT id, provider_id, state, current_job_id, provisioning_saga_id, last_heartbeat, created_at, max_jobs,
       extract(epoch FROM clock_timestamp() - GREATEST(last_heartbeat, :reachable_since)) AS silent_s
  FROM public.workers
 WHERE (state IN ('CREATING', 'CONNECTING') AND provider_resource_id IS NOT NULL
        AND updated_at < clock_timestamp() - interval '1 s')
    OR (state IN ('READY', 'BUSY', 'DRAINING')
        AND GREATEST(last_heartbeat, :reachable_since) < clock_timestamp() - make_interval(secs => :lost_after_s))
 ORDER BY updated_at LIMIT :limit;

-- name: worker_find_idle
-- A connected worker that nobody reserved and that fits; READY alone is not enough, its inbox must have been polled lately.
SELECT id, provider_id FROM public.workers
 WHERE state = 'READY' AND reserved_for IS NULL AND provider_id = :provider_id AND current_job_id IS NULL
   AND last_heartbeat > clock_timestamp() - interval '15 s' AND image IS NOT DISTINCT FROM :image
 ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: worker_reserve
UPDATE public.workers SET reserved_for = :job_id WHERE id = :id AND state = 'READY' AND reserved_for IS NULL;

-- name: token_insert
INSERT INTO hodei.worker_tokens (token_hash, worker_id, kind, expires_at)
VALUES (:token_hash, :worker_id, :kind, clock_timestamp() + make_interval(secs => CAST(:ttl_s AS float8)))
ON CONFLICT (token_hash) DO NOTHING;

-- name: token_lock
SELECT t.*, t.expires_at <= clock_timestamp() AS expired, w.state AS worker_state, w.max_jobs
  FROM hodei.worker_tokens t JOIN public.workers w ON w.id = t.worker_id
 WHERE t.token_hash = :token_hash FOR UPDATE OF t;

-- name: token_spend
UPDATE hodei.worker_tokens SET used_at = clock_timestamp(), session_hash = :session_hash
 WHERE token_hash = :token_hash AND kind = 'one_time' AND used_at IS NULL AND expires_at > clock_timestamp();

-- name: session_find
SELECT t.worker_id, w.state, w.provider_id FROM hodei.worker_tokens t JOIN public.workers w ON w.id = t.worker_id
 WHERE t.token_hash = :token_hash AND t.kind = 'session' AND w.state <> 'TERMINATED'
   AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp());

-- name: message_send
WITH next AS (
    UPDATE public.workers SET inbox_seq = inbox_seq + 1 WHERE id = :worker_id RETURNING inbox_seq
)
INSERT INTO hodei.worker_messages (worker_id, seq, kind, payload)
SELECT :worker_id, inbox_seq, :kind, CAST(:payload AS jsonb) FROM next;

-- name: messages_after
SELECT seq, kind, payload FROM hodei.worker_messages WHERE worker_id = :worker_id AND seq > :after ORDER BY seq;

-- name: messages_acknowledge
DELETE FROM hodei.worker_messages WHERE worker_id = :worker_id AND seq <= :after;

-- name: inboxes_with_messages
SELECT DISTINCT worker_id FROM hodei.worker_messages WHERE worker_id = ANY(CAST(:ids AS uuid[]));

-- name: workers_known
SELECT id, state FROM public.workers WHERE id = ANY(CAST(:ids AS uuid[]));

-- name: heartbeat
-- In one statement, because each worker sends one every few seconds: that it lives, and which of the executions that it
-- names its agent must end. No row: the worker has ended.
WITH seen AS (
    UPDATE public.workers SET last_heartbeat = clock_timestamp(), usage = CAST(:usage AS jsonb)
     WHERE id = :id AND state <> 'TERMINATED'
 RETURNING id
)
SELECT ARRAY(SELECT CAST(e.id AS text) FROM hodei.executions e
              WHERE e.worker_id = seen.id AND e.id = ANY(CAST(:execution_ids AS uuid[]))
                AND e.state NOT IN ('pending', 'running') AND e.reported_at IS NULL) AS superseded
  FROM seen;

-- name: worker_set_provider_failure
-- What the provider knows of a worker that will never connect.
UPDATE public.workers SET agent = agent || jsonb_build_object('provider_failure', CAST(:failure AS jsonb)), updated_at = clock_timestamp()
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING') AND agent -> 'provider_failure' IS NULL;

-- name: workers_live
SELECT id FROM public.workers WHERE state <> 'TERMINATED';
