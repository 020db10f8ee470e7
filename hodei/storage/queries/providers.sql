-- Providers: the places that workers take, and what their health checks found.

-- name: provider_upsert_builtin
INSERT INTO public.provider_configs (id, name, provider_type, status, status_reason, config, priority, max_workers)
VALUES (:id, :name, :provider_type, 'UNHEALTHY', 'not checked yet', CAST(:config AS jsonb), :priority, :max_workers)
ON CONFLICT DO NOTHING;

-- name: provider_delete_unused
DELETE FROM public.provider_configs p WHERE id = :id
   AND NOT EXISTS (SELECT 1 FROM public.workers w WHERE w.provider_id = p.id)
   AND NOT EXISTS (SELECT 1 FROM public.jobs j WHERE j.selected_provider_id = p.id);

-- name: provider_list
SELECT *, (SELECT count(*) FROM public.workers w WHERE w.provider_id = p.id AND w.state <> 'TERMINATED') AS workers
  FROM public.provider_configs p ORDER BY priority DESC, name;

-- name: provider_page
SELECT *, (SELECT count(*) FROM public.workers w WHERE w.provider_id = p.id AND w.state <> 'TERMINATED') AS workers
  FROM public.provider_configs p
 WHERE (CAST(:after_name AS text) IS NULL OR (-priority, name) > (-CAST(:after_priority AS integer), :after_name))
 ORDER BY priority DESC, name LIMIT :limit;

-- name: provider_find
SELECT *, (SELECT count(*) FROM public.workers w WHERE w.provider_id = p.id AND w.state <> 'TERMINATED') AS workers
  FROM public.provider_configs p WHERE id::text = :key OR name = :key;

-- name: provider_set_checked
-- What a health check found. Only the states that checks set are changed: an operator's word stands, and so does its reason.
UPDATE public.provider_configs
   SET status = CASE WHEN status IN ('ACTIVE', 'UNHEALTHY', 'DEGRADED') THEN :status ELSE status END,
       status_reason = CASE WHEN status IN ('MAINTENANCE', 'DISABLED') THEN status_reason ELSE :reason END,
       capabilities = CAST(:capabilities AS jsonb), checked_at = clock_timestamp(),
       updated_at = CASE WHEN status <> :status THEN clock_timestamp() ELSE updated_at END
 WHERE id = :id
RETURNING status;

-- name: provider_lock
SELECT * FROM public.provider_configs WHERE id = :id FOR NO KEY UPDATE;

-- name: provider_places_promised
-- The places that sagas are about to take. Counted after the lock, in a statement of its own: one that waited for the
-- lock would not see what its holder has promised.
SELECT count(*) FROM public.sagas s JOIN public.saga_steps st ON st.saga_id = s.id AND st.step_order = 1
 WHERE s.saga_type = 'PROVISIONING' AND s.state IN ('PENDING', 'IN_PROGRESS')
   AND st.state IN ('PENDING', 'IN_PROGRESS') AND s.metadata ->> 'provider_id' = CAST(:id AS text);

-- name: provider_take_place
-- The one guarded update that takes a place: however many controllers ask, max_workers is never exceeded.
UPDATE public.provider_configs SET places_taken = places_taken + 1
 WHERE id = :id AND places_taken < max_workers AND status IN ('ACTIVE', 'DEGRADED')
RETURNING places_taken;

-- name: provider_release_place
-- Give back a place that no worker holds yet.
UPDATE public.provider_configs SET places_taken = places_taken - 1
 WHERE id = :id AND places_taken > 0 AND NOT EXISTS (SELECT 1 FROM public.workers WHERE id = :worker_id);

-- name: pull_claim
-- One pull of an image per provider at a time; a pull whose owner died is taken over.
INSERT INTO hodei.image_pulls AS p (provider_id, image, state, owner, lease_expires)
VALUES (:provider_id, :image, 'PULLING', :owner, clock_timestamp() + make_interval(secs => :lease_s))
ON CONFLICT (provider_id, image) DO UPDATE
   SET state = 'PULLING', owner = :owner, lease_expires = EXCLUDED.lease_expires, error_code = NULL, error_message = NULL,
       updated_at = clock_timestamp()
 WHERE p.state <> 'PULLING' OR p.lease_expires <= clock_timestamp()
RETURNING provider_id;

-- name: pull_renew
UPDATE hodei.image_pulls SET lease_expires = clock_timestamp() + make_interval(secs => :lease_s)
 WHERE provider_id = :provider_id AND image = :image AND owner = :owner AND state = 'PULLING';

-- name: pull_done
UPDATE hodei.image_pulls SET state = :state, error_code = :error_code, error_message = :error_message, updated_at = clock_timestamp()
 WHERE provider_id = :provider_id AND image = :image AND owner = :owner;

-- name: pull_get
SELECT *, updated_at > :since AS fresh FROM hodei.image_pulls WHERE provider_id = :provider_id AND image = :image;

-- name: pull_waiting_sagas
-- The sagas that wait for this image.
SELECT id FROM public.sagas
 WHERE saga_type = 'PROVISIONING' AND state = 'IN_PROGRESS' AND waiting_until IS NOT NULL
   AND metadata ->> 'provider_id' = :provider_id AND metadata ->> 'awaits_image' = :image;

-- name: provider_set_enabled_by_settings
UPDATE public.provider_configs SET status = 'UNHEALTHY', status_reason = 'not checked yet', updated_at = clock_timestamp()
 WHERE id = :id AND status = 'DISABLED' AND status_reason = 'switched off by the settings';

-- name: provider_set_disabled_by_settings
UPDATE public.provider_configs
   SET status = 'DISABLED', status_reason = 'switched off by the settings', updated_at = clock_timestamp()
 WHERE id = :id AND status <> 'DISABLED';

-- name: provider_insert
-- One that a person adds. No row: the name is taken.
INSERT INTO public.provider_configs (id, name, provider_type, status, status_reason, config, priority, max_workers, labels)
VALUES (:id, :name, :provider_type, :status, :status_reason, CAST(:config AS jsonb), :priority, :max_workers, CAST(:labels AS jsonb))
ON CONFLICT (name) DO NOTHING;

-- name: provider_hold
-- Held against everybody: dispatch, workers and jobs that would refer to it wait.
SELECT * FROM public.provider_configs WHERE id::text = :key OR name = :key FOR UPDATE;

-- name: provider_change
-- What a person changes of it; the states are moved by `provider_set_status`.
UPDATE public.provider_configs
   SET config = CAST(:config AS jsonb), priority = :priority, max_workers = :max_workers, labels = CAST(:labels AS jsonb),
       updated_at = clock_timestamp()
 WHERE id = :id;

-- name: provider_set_status
-- A person's word: DISABLED, MAINTENANCE, or UNHEALTHY for one that is to be looked at and used again.
UPDATE public.provider_configs SET status = :status, status_reason = :reason, updated_at = clock_timestamp() WHERE id = :id;

-- name: provider_in_use
-- What is in the way of its removal: workers that live, jobs that are on their way there, jobs that wait for it by its name.
SELECT (SELECT count(*) FROM public.workers w WHERE w.provider_id = p.id AND w.state <> 'TERMINATED') AS workers,
       (SELECT count(*) FROM public.jobs j WHERE j.selected_provider_id = p.id
           AND j.state IN ('SCHEDULED', 'ASSIGNED', 'RUNNING')) AS jobs,
       (SELECT count(*) FROM public.jobs j WHERE j.requested_provider = p.name AND j.state = 'PENDING' AND NOT j.held) AS waiting
  FROM public.provider_configs p WHERE p.id = :id;

-- name: provider_forget_in_jobs
-- Jobs that have ended keep their record without it; their events name it.
UPDATE public.jobs SET selected_provider_id = NULL WHERE selected_provider_id = :id;

-- name: provider_forget_in_workers
UPDATE public.workers SET provider_id = NULL WHERE provider_id = :id;

-- name: provider_forget_pulls
DELETE FROM hodei.image_pulls WHERE provider_id = :id;

-- name: provider_delete
DELETE FROM public.provider_configs WHERE id = :id;

-- name: provider_workers_by_state
SELECT state, count(*) AS workers FROM public.workers
 WHERE provider_id = :id AND state <> 'TERMINATED' GROUP BY state;

-- name: provider_jobs_by_state
-- Those on their way there, and those that wait for it by its name.
SELECT state, count(*) AS jobs FROM public.jobs
 WHERE (state IN ('SCHEDULED', 'ASSIGNED', 'RUNNING') AND selected_provider_id = :id)
    OR (state = 'PENDING' AND NOT held AND requested_provider = :name)
 GROUP BY state;

-- name: provider_ends
-- How jobs ended there, of those that were created in the last day.
SELECT state, error_code, count(*) AS jobs FROM public.jobs
 WHERE created_at > clock_timestamp() - interval '1 day' AND selected_provider_id = :id
   AND state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT')
 GROUP BY state, error_code;

-- name: provider_starts
-- How long workers took from their row to their agent's registration, of those that were created in the last day.
SELECT count(*) AS made, count(registered_at) AS connected,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM registered_at - created_at)) AS p50_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM registered_at - created_at)) AS p95_s
  FROM public.workers WHERE created_at > clock_timestamp() - interval '1 day' AND provider_id = :id;
