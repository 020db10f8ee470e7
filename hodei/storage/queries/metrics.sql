-- What `/metrics` shows of the whole platform. All of it is answered from partial indexes and small tables: a million finished jobs
-- cost a scrape nothing.

-- name: observations_fold
-- The oldest observations become totals; answers how many that were. Each is counted once, whoever else folds at the same time.
WITH taken AS (
    DELETE FROM hodei.observations
     WHERE id IN (SELECT id FROM hodei.observations ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
 RETURNING metric, labels, seconds, times
), folded AS (
    INSERT INTO hodei.totals AS t (metric, labels, le, times, seconds)
    SELECT metric, labels, COALESCE((SELECT min(bound) FROM unnest(CAST(:bounds AS float8[])) AS bound WHERE taken.seconds <= bound),
                                    'Infinity') AS le, sum(times), sum(COALESCE(seconds, 0))
      FROM taken GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (metric, labels, le) DO UPDATE SET times = t.times + EXCLUDED.times, seconds = t.seconds + EXCLUDED.seconds
)
SELECT count(*) FROM taken;

-- name: metrics_totals
-- The totals, and what was observed since they were made, in one look: the numbers only grow.
SELECT metric, labels, le, CAST(sum(times) AS bigint) AS times, sum(seconds) AS seconds
  FROM (SELECT metric, labels, le, times, seconds FROM hodei.totals
         UNION ALL
        SELECT o.metric, o.labels,
               COALESCE((SELECT min(bound) FROM unnest(CAST(:bounds AS float8[])) AS bound WHERE o.seconds <= bound), 'Infinity'),
               o.times, COALESCE(o.seconds, 0)
          FROM (SELECT * FROM hodei.observations ORDER BY id LIMIT :limit) o) counted
 GROUP BY metric, labels, le ORDER BY metric, labels, le;

-- name: metrics_queue
-- What waits for a place: by the provider that was asked for, and how much of it only waits for its back-off to end.
SELECT requested_provider AS provider, count(*) AS jobs, count(*) FILTER (WHERE due_at > clock_timestamp()) AS delayed,
       extract(epoch FROM clock_timestamp() - min(queued_at)) AS oldest_s
  FROM public.jobs WHERE state = 'PENDING' AND NOT held GROUP BY requested_provider ORDER BY requested_provider;

-- name: metrics_open_jobs
SELECT j.state, COALESCE(p.name, j.requested_provider) AS provider, count(*) AS jobs,
       extract(epoch FROM clock_timestamp() - min(j.state_since)) AS oldest_s
  FROM public.jobs j LEFT JOIN public.provider_configs p ON p.id = j.selected_provider_id
 WHERE j.state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING') AND NOT j.held GROUP BY 1, 2 ORDER BY 1, 2;

-- name: metrics_workers
SELECT w.state, COALESCE(p.name, w.provider_type) AS provider, count(*) AS workers,
       extract(epoch FROM clock_timestamp() - min(w.last_heartbeat)) AS silent_s
  FROM public.workers w LEFT JOIN public.provider_configs p ON p.id = w.provider_id
 WHERE w.state <> 'TERMINATED' GROUP BY 1, 2 ORDER BY 1, 2;

-- name: metrics_sagas
-- Open sagas. Overdue: nobody has looked at one a minute after its time, or the clock had to ask for it again and again.
SELECT saga_type, state, count(*) AS sagas, extract(epoch FROM clock_timestamp() - min(started_at)) AS oldest_s,
       count(*) FILTER (WHERE (nudge_after < clock_timestamp() - interval '60 s'
                               AND (lease_expires IS NULL OR lease_expires <= clock_timestamp())) OR nudges >= 3) AS overdue
  FROM public.sagas WHERE state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING') GROUP BY 1, 2 ORDER BY 1, 2;

-- name: metrics_outbox
SELECT status, count(*) AS events, extract(epoch FROM clock_timestamp() - min(created_at)) AS oldest_s
  FROM public.outbox_events WHERE status = 'PENDING' GROUP BY status
 UNION ALL
SELECT status, count(*), extract(epoch FROM clock_timestamp() - min(created_at))
  FROM public.outbox_events WHERE status = 'FAILED' GROUP BY status;

-- name: metrics_providers
SELECT name, provider_type, status, max_workers, places_taken,
       extract(epoch FROM clock_timestamp() - checked_at) AS checked_s
  FROM public.provider_configs ORDER BY name;

-- name: metrics_schedules
SELECT state, count(*) AS schedules, extract(epoch FROM clock_timestamp() - min(next_due_at)) AS late_s
  FROM hodei.schedules GROUP BY state ORDER BY state;
