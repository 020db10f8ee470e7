-- Everything of one job: its row, its attempts, its workers, its sagas with their steps, its log files.
\x on
SELECT * FROM jobs WHERE id = :'job';
\x off
SELECT attempt, state, exit_code, worker_id, started_at, completed_at FROM hodei.executions WHERE job_id = :'job' ORDER BY attempt;
SELECT id, provider_type, provider_resource_id, state, created_at, terminated_at, termination_reason FROM workers
 WHERE id IN (SELECT worker_id FROM hodei.executions WHERE job_id = :'job') ORDER BY created_at;
SELECT saga_type, sagas.state, step_name, saga_steps.state AS step_state, saga_steps.retry_count AS tries_again,
       saga_steps.completed_at - saga_steps.started_at AS took, coalesce(saga_steps.error_message, sagas.error_message) AS error
  FROM sagas JOIN saga_steps ON saga_steps.saga_id = sagas.id
 WHERE correlation_id = :'job' ORDER BY sagas.started_at, step_order;
SELECT execution_id, storage_uri, size_bytes, entry_count, expires_at FROM job_log_files WHERE job_id = :'job' ORDER BY created_at;
