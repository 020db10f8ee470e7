-- Providers: the places that workers take, and what their health checks found.

-- name: provider_upsert_builtin
INSERT INTO public.provider_configs (id, name, provider_type, status, status_reason, config, priority, max_workers)
VALUES (:id, :name, :provider_type, 'UNHEALTHY', 'not checked yet', CAST(:config AS jsonb), :priority, :max_workers)
ON CONFLICT (id) DO NOTHING;

-- name: provider_delete_unused
DELETE FROM public.provider_configs p WHERE id = :id
   AND NOT EXISTS (SELECT 1 FROM public.workers w WHERE w.provider_id = p.id)
   AND NOT EXISTS (SELECT 1 FROM public.jobs j WHERE j.selected_provider_id = p.id);

-- name: provider_list
SELECT *, (SELECT count(*) FROM public.workers w WHERE w.provider_id = p.id AND w.state <> 'TERMINATED') AS workers
  FROM public.provider_configs p ORDER BY priority DESC, name;

-- name: provider_find
SELECT *, (SELECT count(*) FROM public.workers w WHERE w.provider_id = p.id AND w.state <> 'TERMINATED') AS workers
  FROM public.provider_configs p WHERE id::text = :key OR name = :key;

-- name: provider_set_checked
-- What a health check found. Only the states that checks set are changed: an operator's word stands.
UPDATE public.provider_configs
   SET status = CASE WHEN status IN ('ACTIVE', 'UNHEALTHY', 'DEGRADED') THEN :status ELSE status END,
       status_reason = :reason, capabilities = CAST(:capabilities AS jsonb), checked_at = clock_timestamp(),
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
