-- Jobs that are not done, and those that ended badly in the last day: where each is, for how long, and why.
SELECT jobs.id, jobs.name, jobs.state, jobs.attempts || '/' || jobs.max_attempts AS attempts,
       date_trunc('second', now() - coalesce(jobs.completed_at, jobs.started_at, jobs.created_at)) AS since,
       provider_configs.name AS provider, jobs.error_code, left(jobs.error_message, 80) AS error
  FROM jobs LEFT JOIN provider_configs ON provider_configs.id = jobs.selected_provider_id
 WHERE jobs.state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')
    OR (jobs.state IN ('FAILED', 'TIMEOUT') AND jobs.completed_at > now() - interval '1 day')
 ORDER BY jobs.completed_at IS NOT NULL, jobs.created_at DESC
 LIMIT 50;
