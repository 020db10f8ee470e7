-- Sagas: moved by the engine alone, always under the lock of the saga's row. The order in which rows are locked is saga,
-- execution, job, worker, provider: whoever holds one of them never waits for one before it.

-- name: saga_insert
INSERT INTO public.sagas (id, saga_type, state, subject_id, correlation_id, actor, metadata)
VALUES (:id, :saga_type, 'PENDING', :subject_id, :correlation_id, :actor, CAST(:metadata AS jsonb))
ON CONFLICT (id) DO NOTHING;

-- name: saga_insert_steps
INSERT INTO public.saga_steps (id, saga_id, step_name, step_order)
SELECT gen_random_uuid(), :saga_id, name, ordinality
  FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS step(name, ordinality);

-- name: saga_lock
-- The saga with its steps. Whoever holds the row is the only one that moves it. When the row was waited for, the steps are as
-- they were before the wait: `stale` says so, and the query has to be asked again.
SELECT s.*, s.lease_expires > clock_timestamp() AS leased, clock_timestamp() AS now,
       (SELECT seen.version FROM public.sagas seen WHERE seen.id = s.id) <> s.version AS stale,
       (SELECT jsonb_agg(jsonb_build_object('name', step_name, 'order', step_order, 'state', state,
                                            'retry_count', retry_count, 'output', output_data) ORDER BY step_order)
          FROM public.saga_steps WHERE saga_id = s.id) AS steps
  FROM public.sagas s WHERE s.id = :id FOR UPDATE;

-- name: saga_advance
-- Set where the saga is, move its steps from where they may be moved, and append audit events whose times strictly grow.
WITH tick AS (
    UPDATE public.sagas
       SET state = :state, version = version + 1, lease_owner = :lease_owner,
           lease_expires = clock_timestamp() + make_interval(secs => CAST(:lease_s AS float8)),
           waiting_until = :waiting_until,
           nudge_after = COALESCE(:waiting_until, clock_timestamp() + make_interval(secs => CAST(:nudge_s AS float8))),
           nudges = CASE WHEN :progressed OR CAST(:waiting_until AS timestamptz) IS NOT NULL THEN 0 ELSE nudges END,
           completed_at = CASE WHEN :state IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN clock_timestamp() END,
           error_code = COALESCE(:error_code, error_code), error_message = COALESCE(:error_message, error_message),
           metadata = metadata || CAST(:metadata AS jsonb),
           last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
                           + interval '1 microsecond' * jsonb_array_length(CAST(:events AS jsonb))
     WHERE id = :id
 RETURNING last_event_at - interval '1 microsecond' * jsonb_array_length(CAST(:events AS jsonb)) AS base
), moved AS (
    UPDATE public.saga_steps step
       SET state = move.state, output_data = step.output_data || move.output,
           error_message = COALESCE(move.error_message, step.error_message),
           started_at = COALESCE(step.started_at, move.started_at),
           completed_at = CASE WHEN move.state IN ('COMPLETED', 'FAILED', 'COMPENSATED') THEN clock_timestamp()
                               ELSE step.completed_at END
      FROM jsonb_to_recordset(CAST(:moves AS jsonb)) AS move
               (step_name text, state text, output jsonb, error_message text, started_at timestamptz, from_states jsonb)
     WHERE step.saga_id = :id AND step.step_name = move.step_name AND move.from_states @> to_jsonb(step.state)
)
INSERT INTO public.saga_audit_events (id, saga_id, event_type, step_name, message, payload, occurred_at)
SELECT gen_random_uuid(), :id, e ->> 'event_type', e ->> 'step_name', e ->> 'message', COALESCE(e -> 'payload', '{}'),
       base + interval '1 microsecond' * ordinality
  FROM tick, jsonb_array_elements(CAST(:events AS jsonb)) WITH ORDINALITY AS item(e, ordinality);

-- name: saga_renew_lease
UPDATE public.sagas SET lease_expires = clock_timestamp() + make_interval(secs => :lease_s),
       nudge_after = clock_timestamp() + make_interval(secs => :nudge_s)
 WHERE id = :id AND lease_owner = :owner;

-- name: sagas_to_nudge
-- Open sagas whose time for a look has come: a deadline that passed, a lease that ran out, or a message that got lost.
SELECT id, saga_type, state, nudges FROM public.sagas
 WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') AND nudge_after <= clock_timestamp()
   AND (lease_expires IS NULL OR lease_expires <= clock_timestamp())
 ORDER BY nudge_after LIMIT :limit
   FOR UPDATE SKIP LOCKED;

-- name: sagas_hurry_overlooked
-- Sagas that wait for something that has been there for seconds: the message that said so got lost. They are due now.
UPDATE public.sagas SET waiting_until = NULL, nudge_after = clock_timestamp()
 WHERE id IN (
    SELECT s.id FROM public.sagas s
     WHERE s.state = 'IN_PROGRESS' AND s.waiting_until > clock_timestamp() + interval '12 s'
       AND (s.lease_expires IS NULL OR s.lease_expires <= clock_timestamp())
       AND (s.id IN (SELECT e.saga_id FROM hodei.executions e
                      WHERE e.state IN ('pending', 'running')
                        AND (e.reported_at < clock_timestamp() - interval '3 s'
                             OR (e.reported_at IS NULL AND e.error_code IS NOT NULL)))
            OR (s.saga_type = 'PROVISIONING'
                AND EXISTS (SELECT 1 FROM public.workers w
                             WHERE w.id = s.subject_id AND w.updated_at < clock_timestamp() - interval '3 s'
                               AND (w.inbox_polled_at IS NOT NULL OR w.agent -> 'provider_failure' IS NOT NULL
                                    OR w.state IN ('TERMINATING', 'TERMINATED')))))
     LIMIT :limit FOR UPDATE OF s SKIP LOCKED);

-- name: saga_nudged
-- Back-off per saga: a minute at least, a quarter of an hour at most.
UPDATE public.sagas
   SET nudges = nudges + 1, nudge_after = clock_timestamp() + LEAST(interval '60 s' * power(2, LEAST(nudges, 4)), interval '15 min')
 WHERE id = :id;

-- name: sagas_hurry_all
-- The broker lost its messages: whatever waits for one is looked at now, once.
UPDATE public.sagas SET nudge_after = clock_timestamp(), nudges = 0
 WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')
   AND (waiting_until IS NULL OR waiting_until <= clock_timestamp())
   AND (lease_expires IS NULL OR lease_expires <= clock_timestamp()) AND nudge_after > clock_timestamp();

-- name: sagas_open_of_job
-- The job's sagas of these types that go forward, each with the steps that it has still to do. Takes no lock.
SELECT s.id, s.saga_type, array_agg(st.step_name ORDER BY st.step_order) AS steps
  FROM public.sagas s JOIN public.saga_steps st ON st.saga_id = s.id AND st.state IN ('PENDING', 'IN_PROGRESS')
 WHERE s.correlation_id = :job_id AND s.state IN ('PENDING', 'IN_PROGRESS') AND s.saga_type = ANY(CAST(:types AS text[]))
 GROUP BY s.id, s.saga_type;

-- name: saga_is_open
-- Whether a saga of this type goes on for this subject of the job. Takes no lock.
SELECT EXISTS (SELECT FROM public.sagas WHERE correlation_id = :job_id AND subject_id = :subject_id AND saga_type = :saga_type
                  AND completed_at IS NULL);

-- name: sagas_making_worker
-- How many sagas may still give the job a worker, or have not undone all of what they made for it.
SELECT count(*) FROM public.sagas
 WHERE correlation_id = :job_id AND saga_type IN ('PROVISIONING', 'EXECUTION')
   AND state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING');

-- name: sagas_hurry_of_job
-- What they wait for may never come, because the job is being ended: the clock looks at them soon, whatever messages get lost.
-- Called before any execution, job or worker is locked.
UPDATE public.sagas SET waiting_until = NULL, nudge_after = LEAST(nudge_after, clock_timestamp() + interval '3 s')
 WHERE correlation_id = :job_id AND state IN ('PENDING', 'IN_PROGRESS') AND saga_type = ANY(CAST(:types AS text[]))
   AND (lease_expires IS NULL OR lease_expires <= clock_timestamp());
