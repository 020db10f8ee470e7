-- Pipelines and their runs. Whoever moves a run or a node of it holds the run's row.

-- name: pipeline_insert
-- No row: there is one of this name.
INSERT INTO hodei.pipelines (id, name, description, state, definition)
VALUES (:id, :name, :description, 'ACTIVE', CAST(:definition AS jsonb))
ON CONFLICT (name) DO NOTHING
RETURNING *;

-- name: pipeline_lock
SELECT * FROM hodei.pipelines WHERE id = :id FOR UPDATE;

-- name: pipeline_of_name
SELECT id FROM hodei.pipelines WHERE name = :name;

-- name: pipeline_name
SELECT name FROM hodei.pipelines WHERE id = :id;

-- name: pipelines_exist
-- Of these, the pipelines that there are.
SELECT id FROM hodei.pipelines WHERE id = ANY(CAST(:ids AS uuid[]));

-- name: pipeline_change
-- A new version where the definition is another one; runs keep the one that they began with.
UPDATE hodei.pipelines
   SET name = :name, description = :description, state = :state, definition = CAST(:definition AS jsonb),
       version = version + CASE WHEN definition IS DISTINCT FROM CAST(:definition AS jsonb) THEN 1 ELSE 0 END,
       updated_at = clock_timestamp()
 WHERE id = :id
RETURNING *;

-- name: pipeline_delete_if_idle
-- With its runs; nothing when one of them is going.
DELETE FROM hodei.pipelines p
 WHERE p.id = :id AND NOT EXISTS (SELECT 1 FROM hodei.pipeline_runs r WHERE r.pipeline_id = p.id AND r.state = 'RUNNING');

-- name: read_pipeline
SELECT * FROM hodei.pipelines WHERE id = :id;

-- name: read_pipelines
-- Without their jobs, which may be many.
SELECT id, name, description, state, version, created_at, updated_at, jsonb_array_length(definition -> 'jobs') AS job_count
  FROM hodei.pipelines
 WHERE (CAST(:name AS text) IS NULL OR name = :name)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: pipeline_next_run
-- The number of its next run; the row is held by who starts it.
UPDATE hodei.pipelines SET runs = runs + 1 WHERE id = :id RETURNING runs;

-- name: run_insert
INSERT INTO hodei.pipeline_runs (id, pipeline_id, number, version, state, params, max_parallel, nodes)
VALUES (:id, :pipeline_id, :number, :version, 'RUNNING', CAST(:params AS jsonb), :max_parallel, :nodes);

-- name: run_jobs_insert
INSERT INTO hodei.pipeline_run_jobs (run_id, key, template)
SELECT :run_id, key, template FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS job (key text, template jsonb);

-- name: nodes_insert
-- All nodes of a run in one statement, none of them decided on.
INSERT INTO hodei.pipeline_nodes (run_id, number, key, job_key, condition, matrix, state, open_needs)
SELECT :run_id, number, key, job_key, condition, matrix, 'WAITING', open_needs
  FROM jsonb_to_recordset(CAST(:nodes AS jsonb))
    AS node (number integer, key text, job_key text, condition text, matrix jsonb, open_needs integer);

-- name: edges_insert
INSERT INTO hodei.pipeline_edges (run_id, needed, by)
SELECT :run_id, needed, by FROM unnest(CAST(:needed AS integer[]), CAST(:by AS integer[])) AS edge (needed, by);

-- name: nodes_count_needs
-- How many of the needs of each WAITING node have not ended: of a run that goes on after it had ended, where the others succeeded.
UPDATE hodei.pipeline_nodes n
   SET open_needs = (SELECT count(*) FROM hodei.pipeline_edges e
                       JOIN hodei.pipeline_nodes m ON m.run_id = e.run_id AND m.number = e.needed
                      WHERE e.run_id = n.run_id AND e.by = n.number AND m.state IN ('WAITING', 'READY', 'SUBMITTED'))
 WHERE n.run_id = :run_id AND n.state = 'WAITING';

-- name: run_lock
SELECT * FROM hodei.pipeline_runs WHERE id = :id FOR UPDATE;

-- name: run_lock_if_free
-- None: somebody else advances it at this moment, and looks again when done.
SELECT * FROM hodei.pipeline_runs WHERE id = :id FOR UPDATE SKIP LOCKED;

-- name: nodes_settle
-- The nodes whose jobs have ended since the last look, each once, with what their jobs came to. A job that was deleted has failed.
WITH ended AS MATERIALIZED (
    SELECT n.number, j.state, j.completed_at, j.result -> 'outputs' AS outputs,
           CASE WHEN j.id IS NULL THEN 'Its job was deleted.'
                WHEN j.state = 'SUCCEEDED' THEN j.result ->> 'outputs_problem'
                ELSE COALESCE(j.error_message, 'Its job was cancelled.') END AS reason
      FROM hodei.pipeline_nodes n LEFT JOIN public.jobs j ON j.id = n.job_id
     WHERE n.run_id = :run_id AND n.state = 'SUBMITTED'
       AND (j.id IS NULL OR j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT'))
)
UPDATE hodei.pipeline_nodes n
   SET state = CASE WHEN ended.state IN ('SUCCEEDED', 'CANCELLED') THEN ended.state ELSE 'FAILED' END,
       outputs = CASE WHEN jsonb_typeof(ended.outputs) = 'object' THEN ended.outputs ELSE '{}' END,
       reason = ended.reason, ended_at = COALESCE(ended.completed_at, clock_timestamp())
  FROM ended
 WHERE n.run_id = :run_id AND n.number = ended.number AND n.state = 'SUBMITTED'
RETURNING n.number;

-- name: nodes_tell
-- Those who need the nodes that have just ended count them. Counted once, whatever the planner takes the tables' sizes for.
WITH told AS MATERIALIZED (
    SELECT e.by, count(*) AS ended, count(*) FILTER (WHERE m.state = 'FAILED') AS failed,
           count(*) FILTER (WHERE m.state <> 'SUCCEEDED') AS unsuccessful
      FROM hodei.pipeline_nodes m
      JOIN hodei.pipeline_edges e ON e.run_id = m.run_id AND e.needed = m.number
     WHERE m.run_id = :run_id AND m.number = ANY(CAST(:numbers AS integer[])) GROUP BY e.by
)
UPDATE hodei.pipeline_nodes n
   SET open_needs = n.open_needs - told.ended, failed_needs = n.failed_needs + told.failed,
       unsuccessful_needs = n.unsuccessful_needs + told.unsuccessful
  FROM told
 WHERE n.run_id = :run_id AND n.number = told.by AND n.state = 'WAITING';

-- name: nodes_to_decide
-- WAITING nodes of which something may be known by now, and of those that they need some that did not succeed.
SELECT n.number, n.key, n.condition, n.open_needs, n.failed_needs, n.unsuccessful_needs,
       ARRAY(SELECT m.key || ' ' || lower(m.state)
               FROM hodei.pipeline_edges e
               JOIN hodei.pipeline_nodes m ON m.run_id = e.run_id AND m.number = e.needed
              WHERE e.run_id = n.run_id AND e.by = n.number AND m.state IN ('FAILED', 'CANCELLED', 'SKIPPED')
              ORDER BY m.number LIMIT 3) AS culprits
  FROM hodei.pipeline_nodes n
 WHERE n.run_id = :run_id AND n.state = 'WAITING'
   AND (n.open_needs = 0 OR (n.condition = 'success' AND n.unsuccessful_needs > 0))
 ORDER BY n.number LIMIT :limit;

-- name: nodes_set_ready
UPDATE hodei.pipeline_nodes SET state = 'READY'
 WHERE run_id = :run_id AND number = ANY(CAST(:numbers AS integer[])) AND state = 'WAITING';

-- name: nodes_set_skipped
UPDATE hodei.pipeline_nodes n SET state = 'SKIPPED', reason = skipped.reason, ended_at = clock_timestamp()
  FROM unnest(CAST(:numbers AS integer[]), CAST(:reasons AS text[])) AS skipped (number, reason)
 WHERE n.run_id = :run_id AND n.number = skipped.number AND n.state = 'WAITING';

-- name: nodes_to_submit
-- The next READY nodes, as many as there is room for, with what their jobs are made of.
SELECT n.number, n.key, n.job_key, n.matrix, n.nth_try, t.template
  FROM hodei.pipeline_nodes n JOIN hodei.pipeline_run_jobs t ON t.run_id = n.run_id AND t.key = n.job_key
 WHERE n.run_id = :run_id AND n.state = 'READY'
 ORDER BY n.number
 LIMIT LEAST(:limit, CASE WHEN CAST(:max_parallel AS integer) IS NOT NULL
                     THEN GREATEST(0, :max_parallel - (SELECT count(*) FROM hodei.pipeline_nodes
                                                        WHERE run_id = :run_id AND state = 'SUBMITTED')) END);

-- name: nodes_outcomes
-- What the nodes of these jobs came to: for the expressions of those that need them.
SELECT job_key, key, state, outputs FROM hodei.pipeline_nodes
 WHERE run_id = :run_id AND job_key = ANY(CAST(:job_keys AS text[])) ORDER BY number;

-- name: nodes_set_submitted
UPDATE hodei.pipeline_nodes n SET state = 'SUBMITTED', job_id = made.job_id
  FROM unnest(CAST(:numbers AS integer[]), CAST(:job_ids AS uuid[])) AS made (number, job_id)
 WHERE n.run_id = :run_id AND n.number = made.number AND n.state = 'READY';

-- name: nodes_set_refused
-- Their jobs could not be made.
UPDATE hodei.pipeline_nodes n SET state = 'FAILED', reason = refused.reason, ended_at = clock_timestamp()
  FROM unnest(CAST(:numbers AS integer[]), CAST(:reasons AS text[])) AS refused (number, reason)
 WHERE n.run_id = :run_id AND n.number = refused.number AND n.state = 'READY';

-- name: secrets_copy_to_many
-- Each owner of `to_ids` gets a copy of what the owner of `from_ids` at the same place has.
INSERT INTO hodei.secrets (owner_id, name, ciphertext)
SELECT copy.to_id, s.name, s.ciphertext
  FROM unnest(CAST(:from_ids AS uuid[]), CAST(:to_ids AS uuid[])) AS copy (from_id, to_id)
  JOIN hodei.secrets s ON s.owner_id = copy.from_id;

-- name: secrets_names_of_many
SELECT owner_id, name FROM hodei.secrets WHERE owner_id = ANY(CAST(:owner_ids AS uuid[]));

-- name: secrets_forget_many
DELETE FROM hodei.secrets WHERE owner_id = ANY(CAST(:owner_ids AS uuid[]));

-- name: run_request_cancel
-- The wish is noted once.
UPDATE hodei.pipeline_runs SET cancel_requested_at = clock_timestamp()
 WHERE id = :id AND state = 'RUNNING' AND cancel_requested_at IS NULL;

-- name: nodes_set_cancelled
-- What has no job yet gets none.
UPDATE hodei.pipeline_nodes
   SET state = 'CANCELLED', reason = 'The run was cancelled before it began.', ended_at = clock_timestamp()
 WHERE run_id = :run_id AND state IN ('WAITING', 'READY');

-- name: nodes_to_cancel
-- Jobs of a run that nobody has asked to end yet.
SELECT j.id FROM hodei.pipeline_nodes n JOIN public.jobs j ON j.id = n.job_id
 WHERE n.run_id = :run_id AND n.state = 'SUBMITTED' AND j.cancel_requested_at IS NULL
   AND j.state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')
 ORDER BY n.number DESC LIMIT :limit;

-- name: nodes_count
-- How many nodes are in which state.
SELECT state, count(*) AS nodes FROM hodei.pipeline_nodes WHERE run_id = :run_id GROUP BY state;

-- name: run_is_open
SELECT EXISTS (SELECT 1 FROM hodei.pipeline_nodes WHERE run_id = :run_id AND state IN ('WAITING', 'READY', 'SUBMITTED'));

-- name: run_set_ended
UPDATE hodei.pipeline_runs SET state = :state, completed_at = clock_timestamp()
 WHERE id = :id AND state = ANY(CAST(:from_states AS text[]));

-- name: run_set_running_again
UPDATE hodei.pipeline_runs
   SET state = 'RUNNING', completed_at = NULL, cancel_requested_at = NULL, resumed = resumed + 1
 WHERE id = :id AND state IN ('FAILED', 'CANCELLED');

-- name: nodes_set_waiting_again
-- What did not succeed is to be done again, with a further try; what succeeded is kept.
UPDATE hodei.pipeline_nodes
   SET state = 'WAITING', nth_try = nth_try + 1, job_id = NULL, outputs = '{}', reason = NULL, ended_at = NULL,
       open_needs = 0, failed_needs = 0, unsuccessful_needs = 0
 WHERE run_id = :run_id AND state IN ('FAILED', 'CANCELLED', 'SKIPPED')
RETURNING number;

-- name: runs_to_attend
-- Where something is to be done: a job has ended, a node waits for nothing any more, there is room, a cancel was asked for.
SELECT r.id FROM hodei.pipeline_runs r
 WHERE r.state = 'RUNNING' AND r.id <> ALL(CAST(:seen AS uuid[]))
   AND (EXISTS (SELECT 1 FROM hodei.pipeline_nodes n LEFT JOIN public.jobs j ON j.id = n.job_id
                 WHERE n.run_id = r.id AND n.state = 'SUBMITTED'
                   AND (j.id IS NULL OR j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT')
                        OR (r.cancel_requested_at IS NOT NULL AND j.cancel_requested_at IS NULL)))
        OR EXISTS (SELECT 1 FROM hodei.pipeline_nodes n WHERE n.run_id = r.id AND n.state = 'WAITING'
                      AND (n.open_needs = 0 OR (n.condition = 'success' AND n.unsuccessful_needs > 0)
                           OR r.cancel_requested_at IS NOT NULL))
        OR (EXISTS (SELECT 1 FROM hodei.pipeline_nodes n WHERE n.run_id = r.id AND n.state = 'READY')
            AND (r.max_parallel IS NULL OR r.cancel_requested_at IS NOT NULL
                 OR r.max_parallel > (SELECT count(*) FROM hodei.pipeline_nodes n
                                       WHERE n.run_id = r.id AND n.state = 'SUBMITTED')))
        OR NOT EXISTS (SELECT 1 FROM hodei.pipeline_nodes n
                        WHERE n.run_id = r.id AND n.state IN ('WAITING', 'READY', 'SUBMITTED')))
 ORDER BY r.id LIMIT :limit;

-- name: read_runs
SELECT r.*, p.name AS pipeline_name,
       (SELECT jsonb_object_agg(c.state, c.nodes)
          FROM (SELECT n.state, count(*) AS nodes FROM hodei.pipeline_nodes n WHERE n.run_id = r.id GROUP BY n.state) c) AS counts
  FROM (SELECT * FROM hodei.pipeline_runs
         WHERE (CAST(:id AS uuid) IS NULL OR id = :id)
           AND (CAST(:pipeline_id AS uuid) IS NULL OR pipeline_id = :pipeline_id)
           AND (CAST(:state AS text) IS NULL OR state = :state)
           AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
         ORDER BY created_at DESC, id DESC LIMIT :limit) r
  JOIN hodei.pipelines p ON p.id = r.pipeline_id
 ORDER BY r.created_at DESC, r.id DESC;

-- name: run_of_job
SELECT r.number, r.state, p.name FROM hodei.pipeline_runs r JOIN hodei.pipelines p ON p.id = r.pipeline_id WHERE r.id = :run_id;

-- name: read_run_state
SELECT state FROM hodei.pipeline_runs WHERE id = :id;

-- name: read_run_states
SELECT id FROM hodei.pipeline_runs WHERE id = ANY(CAST(:ids AS uuid[])) AND state <> 'RUNNING';

-- name: read_nodes
-- The nodes of a run, and how far the job of each is.
SELECT n.*, t.template -> 'needs' AS needs, j.state AS job_state, j.attempts, j.exit_code, j.error_code, j.error_message,
       j.started_at, CASE WHEN j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT') THEN j.completed_at END AS job_ended_at
  FROM hodei.pipeline_nodes n
  JOIN hodei.pipeline_run_jobs t ON t.run_id = n.run_id AND t.key = n.job_key
  LEFT JOIN public.jobs j ON j.id = n.job_id
 WHERE n.run_id = :run_id AND (CAST(:key AS text) IS NULL OR n.key = :key)
 ORDER BY n.number;
