-- Workers.

-- name: worker_insert
INSERT INTO public.workers (id, provider_id, provider_type, worker_type, state, reserved_for, max_jobs, holds_place,
                            provisioning_saga_id, image, connect_deadline)
VALUES (:id, :provider_id, :provider_type, :worker_type, 'CREATING', :reserved_for, :max_jobs, true, :saga_id, :image,
        :connect_deadline)
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
       agent = CAST(:agent AS jsonb),
       provider_resource_id = CASE WHEN provider_type = 'self-hosted' THEN NULLIF(CAST(:agent AS jsonb) ->> 'hostname', '')
                                   ELSE provider_resource_id END
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING', 'READY', 'BUSY', 'DRAINING');

-- name: worker_set_ready_if_connecting
-- Its inbox is open now.
UPDATE public.workers SET state = 'READY', inbox_polled_at = clock_timestamp(), last_heartbeat = clock_timestamp(), updated_at = clock_timestamp()
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING') AND registered_at IS NOT NULL;

-- name: inbox_touch
-- A poll in one statement: that the inbox is open, and what there is to do about it. No row: the worker has ended. The first poll
-- is noted by `worker_set_ready_if_connecting` alone: it may be cut before that.
WITH touched AS (
    UPDATE public.workers
       SET inbox_polled_at = CASE WHEN state IN ('CREATING', 'CONNECTING') THEN inbox_polled_at ELSE clock_timestamp() END,
           last_heartbeat = clock_timestamp()
     WHERE id = :id AND state <> 'TERMINATED'
 RETURNING id, state
)
SELECT touched.state, EXISTS (SELECT FROM hodei.worker_messages m WHERE m.worker_id = touched.id) AS has_messages
  FROM touched;

-- name: worker_set_busy_if_ready
UPDATE public.workers
   SET state = 'BUSY', current_job_id = :job_id, last_job_id = :job_id, reserved_for = NULL, updated_at = clock_timestamp()
 WHERE id = :id AND state = 'READY' AND (reserved_for IS NULL OR reserved_for = :job_id);

-- name: worker_set_ready_if_busy
-- A worker of many jobs, between two of them; a self-hosted one whose agent has left meanwhile is away.
UPDATE public.workers
   SET state = CASE WHEN registered_at IS NULL AND provider_type = 'self-hosted' THEN 'CONNECTING' ELSE 'READY' END,
       current_job_id = NULL, updated_at = clock_timestamp()
 WHERE id = :id AND state = 'BUSY' AND max_jobs <> 1 AND current_job_id = :job_id;

-- name: worker_set_terminating
-- Nothing is handed to it any more, and its one-time token is worth nothing.
WITH gone AS (
    UPDATE public.workers
       SET state = 'TERMINATING', updated_at = clock_timestamp(), destroy_after = clock_timestamp() + make_interval(secs => :destroy_in_s),
           termination_reason = COALESCE(termination_reason, :reason),
           last_job_id = COALESCE(current_job_id, reserved_for, last_job_id), reserved_for = NULL
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
-- Workers whose provider should be asked: those that do not connect, those that have gone silent, and those that a provider's watch
-- does not show alive, unless they have just reported and are on their way out. Our own downtime is not their silence: it counts from
-- when agents could last reach us.
SELECT id, provider_id, state, reserved_for, provisioning_saga_id, last_heartbeat, created_at, max_jobs,
       extract(epoch FROM clock_timestamp() - GREATEST(last_heartbeat, :reachable_since)) AS silent_s,
       agent -> 'infrastructure' IS NOT NULL AS noted, agent -> 'infrastructure' ->> 'code' AS awaited
  FROM public.workers w
 WHERE (state IN ('CREATING', 'CONNECTING') AND provider_resource_id IS NOT NULL
        AND updated_at < clock_timestamp() - interval '1 s')
    OR (state IN ('READY', 'BUSY', 'DRAINING')
        AND GREATEST(last_heartbeat, :reachable_since) < clock_timestamp() - make_interval(secs => :lost_after_s))
    OR (state IN ('READY', 'BUSY', 'DRAINING') AND updated_at < clock_timestamp() - interval '1 s'
        AND provider_id = ANY(CAST(:watched AS uuid[])) AND NOT id = ANY(CAST(:alive AS uuid[]))
        AND NOT EXISTS (SELECT FROM hodei.executions e
                         WHERE e.worker_id = w.id AND e.reported_at IS NOT NULL AND e.state IN ('pending', 'running')))
 ORDER BY updated_at;

-- name: worker_find_idle
-- A connected worker that nobody reserved and that fits; READY alone is not enough, its inbox must have been polled lately.
SELECT id, provider_id FROM public.workers
 WHERE state = 'READY' AND reserved_for IS NULL AND provider_id = :provider_id AND current_job_id IS NULL
   AND last_heartbeat > clock_timestamp() - interval '15 s' AND image IS NOT DISTINCT FROM :image
 ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: worker_reserve
UPDATE public.workers SET reserved_for = :job_id WHERE id = :id AND state = 'READY' AND reserved_for IS NULL;

-- name: worker_unreserve
-- A worker of many jobs whose job was taken away before it got it is free. One that is drained has its last job: it is not.
UPDATE public.workers SET reserved_for = NULL
 WHERE id = :id AND state = 'READY' AND max_jobs <> 1 AND reserved_for = :job_id;

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
 WHERE t.token_hash = :token_hash AND t.kind = 'session' AND w.state <> 'TERMINATED' AND w.registered_at IS NOT NULL
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
-- All of them: they are few at any moment, and those that are waited for are many.
SELECT DISTINCT CAST(worker_id AS text) AS worker_id FROM hodei.worker_messages;

-- name: workers_over
-- Of these, the ones that no live row stands for. One that ended a moment ago may still be on its way out.
SELECT seen.id FROM unnest(CAST(:ids AS uuid[])) AS seen(id) LEFT JOIN public.workers w ON w.id = seen.id
 WHERE w.id IS NULL OR (w.state = 'TERMINATED' AND w.terminated_at < clock_timestamp() - interval '5 s');

-- name: heartbeat
-- In one statement, because each worker sends one every few seconds: that it lives, and which of the executions that it
-- names its agent must end. No row: the worker has ended.
WITH seen AS (
    UPDATE public.workers SET last_heartbeat = clock_timestamp(), usage = CAST(:usage AS jsonb)
     WHERE id = :id AND state <> 'TERMINATED' AND registered_at IS NOT NULL
 RETURNING id
)
SELECT ARRAY(SELECT CAST(e.id AS text) FROM hodei.executions e
              WHERE e.worker_id = seen.id AND e.id = ANY(CAST(:execution_ids AS uuid[]))
                AND e.state NOT IN ('pending', 'running') AND e.reported_at IS NULL) AS superseded
  FROM seen;

-- name: heartbeats
-- Many workers' heartbeats at once, one element of each array per worker. A worker whose row somebody holds is passed over: it
-- must not keep all the others from being seen alive.
WITH beats AS (
    SELECT DISTINCT ON (b.id) b.id, b.usage
      FROM unnest(CAST(:ids AS uuid[]), CAST(:usages AS text[])) AS b(id, usage) ORDER BY b.id
), free AS (
    SELECT w.id FROM public.workers w
     WHERE w.id = ANY(CAST(:ids AS uuid[])) AND w.state <> 'TERMINATED' AND w.registered_at IS NOT NULL
     ORDER BY w.id FOR NO KEY UPDATE SKIP LOCKED
), seen AS (
    UPDATE public.workers w SET last_heartbeat = clock_timestamp(), usage = CAST(beats.usage AS jsonb)
      FROM beats JOIN free USING (id) WHERE w.id = beats.id
 RETURNING w.id
)
SELECT seen.id, ARRAY(SELECT CAST(e.id AS text) FROM hodei.executions e
                       WHERE e.worker_id = seen.id AND e.id = ANY(CAST(:execution_ids AS uuid[]))
                         AND e.state NOT IN ('pending', 'running') AND e.reported_at IS NULL) AS superseded
  FROM seen;

-- name: worker_set_provider_failure
-- What the provider knows of a worker that will never connect.
UPDATE public.workers SET agent = agent || jsonb_build_object('provider_failure', CAST(:failure AS jsonb)), updated_at = clock_timestamp()
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING') AND agent -> 'provider_failure' IS NULL;

-- name: worker_note_infrastructure
-- What the provider shows of a worker that has not connected, and since when: nothing changes when it is what was shown before.
UPDATE public.workers
   SET agent = agent || jsonb_build_object(
           'infrastructure', CAST(:seen AS jsonb) || jsonb_build_object('since', clock_timestamp()))
 WHERE id = :id AND state IN ('CREATING', 'CONNECTING')
   AND (agent -> 'infrastructure') - 'since' IS DISTINCT FROM CAST(:seen AS jsonb);

-- name: providers_with_workers
SELECT DISTINCT provider_id FROM public.workers WHERE state <> 'TERMINATED' AND provider_id IS NOT NULL;

-- name: workers_live
-- All but the self-hosted ones, which are not ours to end: they wait for us to come back.
SELECT id FROM public.workers WHERE state <> 'TERMINATED' AND provider_type <> 'self-hosted';

-- name: worker_silence
-- How long nobody has heard of it. NULL: it never registered.
SELECT state, termination_reason, last_heartbeat, registered_at, extract(epoch FROM clock_timestamp() - last_heartbeat) AS silent_s
  FROM public.workers WHERE id = :id;

-- name: worker_set_draining_if_busy
-- Its job is its last: CompleteJob ends it.
UPDATE public.workers SET state = 'DRAINING', updated_at = clock_timestamp() WHERE id = :id AND state = 'BUSY';

-- name: worker_set_last_job
-- The job that it is about to get is its last.
UPDATE public.workers SET max_jobs = 1 WHERE id = :id AND state IN ('CREATING', 'CONNECTING', 'READY') AND reserved_for IS NOT NULL;

-- name: worker_end_by_force_after
-- It was told to leave: when it still lives after so long, its provider ends it.
UPDATE public.workers SET destroy_after = LEAST(COALESCE(destroy_after, 'infinity'), clock_timestamp() + make_interval(secs => :patience_s))
 WHERE id = :id AND state = 'DRAINING';

-- name: workers_that_do_not_leave
SELECT id FROM public.workers
 WHERE state = 'DRAINING' AND destroy_after <= clock_timestamp()
 ORDER BY destroy_after LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: workers_idle_too_long
-- Workers that were made by hand and have had no job for longer than they may; `updated_at` is when they were free last.
SELECT w.id, CAST(s.metadata ->> 'idle_s' AS float8) AS idle_s
  FROM public.workers w JOIN public.sagas s ON s.id = w.provisioning_saga_id
 WHERE w.state = 'READY' AND w.reserved_for IS NULL AND w.current_job_id IS NULL AND s.metadata ->> 'idle_s' IS NOT NULL
   AND w.updated_at < clock_timestamp() - make_interval(secs => CAST(s.metadata ->> 'idle_s' AS float8))
 ORDER BY w.updated_at LIMIT :limit FOR UPDATE OF w SKIP LOCKED;
