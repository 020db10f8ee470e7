-- Workers that live, and the last that ended: what each does, and when it was last heard of.
SELECT id, provider_type, left(provider_resource_id, 24) AS resource, state, current_job_id,
       date_trunc('second', now() - last_heartbeat) AS silent_for,
       date_trunc('second', coalesce(terminated_at, now()) - created_at) AS lived, termination_reason
  FROM workers
 ORDER BY state = 'TERMINATED', created_at DESC
 LIMIT 30;
