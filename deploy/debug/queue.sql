-- What waits: jobs for a worker, in the order in which they get one; events for the broker; sagas for their next step.
SELECT row_number() OVER (ORDER BY priority DESC, created_at) AS position, id, name, priority,
       date_trunc('second', now() - created_at) AS waited, spec ->> 'provider' AS provider
  FROM jobs WHERE state = 'PENDING' ORDER BY priority DESC, created_at LIMIT 30;

SELECT status, count(*), date_trunc('second', now() - min(created_at)) AS oldest, max(retry_count) AS tries
  FROM outbox_events WHERE status <> 'PUBLISHED' GROUP BY status;

SELECT saga_type, sagas.state, step_name AS step, count(*), date_trunc('second', now() - min(sagas.started_at)) AS oldest
  FROM sagas LEFT JOIN saga_steps ON saga_steps.saga_id = sagas.id AND saga_steps.state = 'IN_PROGRESS'
 WHERE sagas.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')
 GROUP BY saga_type, sagas.state, step_name;
