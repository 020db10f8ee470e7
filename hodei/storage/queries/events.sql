-- Events. Their time is the database's and strictly grows within an aggregate: it is taken under the lock of the
-- aggregate's row. Each event is written together with its outbox row.

-- name: event_record_job
WITH tick AS (
    UPDATE public.jobs
       SET last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
     WHERE id = :aggregate_id
 RETURNING last_event_at, correlation_id
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT :id, last_event_at, :event_type, 'job', :aggregate_id, correlation_id, :actor, CAST(:payload AS jsonb) FROM tick
 RETURNING id, occurred_at, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT occurred_at FROM event;

-- name: event_record_worker
-- A worker's events are correlated by the worker: those of a job stay exactly the job's own.
WITH tick AS (
    UPDATE public.workers
       SET last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
     WHERE id = :aggregate_id
 RETURNING last_event_at
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT :id, last_event_at, :event_type, 'worker', :aggregate_id, :aggregate_id, :actor, CAST(:payload AS jsonb) FROM tick
 RETURNING id, occurred_at, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT occurred_at FROM event;

-- name: event_record_provider
WITH tick AS (
    UPDATE public.provider_configs
       SET last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
     WHERE id = :aggregate_id
 RETURNING last_event_at
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT :id, last_event_at, :event_type, 'provider', :aggregate_id, :aggregate_id, :actor, CAST(:payload AS jsonb) FROM tick
 RETURNING id, occurred_at, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT occurred_at FROM event;

-- name: event_record_schedule
WITH tick AS (
    UPDATE hodei.schedules
       SET last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
     WHERE id = :aggregate_id
 RETURNING last_event_at
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT :id, last_event_at, :event_type, 'schedule', :aggregate_id, :aggregate_id, :actor, CAST(:payload AS jsonb) FROM tick
 RETURNING id, occurred_at, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT occurred_at FROM event;

-- name: event_record_pipeline
WITH tick AS (
    UPDATE hodei.pipelines
       SET last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
     WHERE id = :aggregate_id
 RETURNING last_event_at
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT :id, last_event_at, :event_type, 'pipeline', :aggregate_id, :aggregate_id, :actor, CAST(:payload AS jsonb) FROM tick
 RETURNING id, occurred_at, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT occurred_at FROM event;

-- name: event_record_pipeline_run
WITH tick AS (
    UPDATE hodei.pipeline_runs
       SET last_event_at = GREATEST(clock_timestamp(), last_event_at + interval '1 microsecond')
     WHERE id = :aggregate_id
 RETURNING last_event_at
), event AS (
    INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
    SELECT :id, last_event_at, :event_type, 'pipeline_run', :aggregate_id, :aggregate_id, :actor, CAST(:payload AS jsonb) FROM tick
 RETURNING id, occurred_at, event_type, aggregate_type, aggregate_id, payload
), outbox AS (
    INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload, idempotency_key)
    SELECT id, aggregate_type, aggregate_id, event_type, payload, 'event:' || id FROM event
)
SELECT occurred_at FROM event;

-- name: event_record_refused_registration
-- A registration for a worker that does not exist here: there is no row to take the time from.
INSERT INTO public.domain_events (id, occurred_at, event_type, aggregate_type, aggregate_id, correlation_id, actor, payload)
VALUES (:id, clock_timestamp(), 'WorkerRegistrationRefused', 'worker', :aggregate_id, :aggregate_id, :actor, CAST(:payload AS jsonb));

-- name: outbox_claim
-- The oldest rows not yet handed over; whoever else relays at the same time gets others.
SELECT id, aggregate_type, aggregate_id, event_type, payload
  FROM public.outbox_events
 WHERE status = 'PENDING' AND created_at <= clock_timestamp() - make_interval(secs => :older_than_s)
 ORDER BY created_at, id
 LIMIT :limit
   FOR UPDATE SKIP LOCKED;

-- name: outbox_set_published
UPDATE public.outbox_events SET status = 'PUBLISHED', published_at = clock_timestamp()
 WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'PENDING';

-- name: outbox_age
SELECT count(*) AS pending, extract(epoch FROM clock_timestamp() - min(created_at)) AS oldest_s
  FROM public.outbox_events WHERE status = 'PENDING';

-- name: outbox_trim
-- What costs no more when much is kept: an index is searched by now(), not by clock_timestamp(), which is another for each row,
-- and what it finds is deleted where it lies, not looked for again.
DELETE FROM public.outbox_events
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM public.outbox_events
                          WHERE status = 'PUBLISHED' AND published_at < now() - interval '7 days'
                          ORDER BY published_at LIMIT :limit));
