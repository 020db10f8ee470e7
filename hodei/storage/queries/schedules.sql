-- Schedules. Who fires one holds its row; a time is fired at most once, because its firing's key is that time.

-- name: schedule_insert
INSERT INTO hodei.schedules
       (id, name, job_id, command, cron, schedule_time, timezone, overlap, catch_up, catch_up_limit, jitter_s, start_at, end_at,
        pause_after_failures, state, next_at, next_due_at)
VALUES (:id, :name, :job_id, :command, :cron, :schedule_time, :timezone, :overlap, :catch_up, :catch_up_limit, :jitter_s,
        :start_at, :end_at, :pause_after_failures, 'ACTIVE', :next_at, :next_due_at);

-- name: schedule_lock
SELECT * FROM hodei.schedules WHERE id = :id FOR UPDATE;

-- name: schedule_lock_if_free
-- None: another clock has it at this moment, or somebody changes it.
SELECT * FROM hodei.schedules WHERE id = :id FOR UPDATE SKIP LOCKED;

-- name: schedules_to_attend
-- Where something is to be done: a time is due, a run has ended and was not counted, or one waits for nothing any more.
SELECT id FROM (
    (SELECT id, next_due_at AS since FROM hodei.schedules
      WHERE state = 'ACTIVE' AND next_due_at <= clock_timestamp() AND id <> ALL(CAST(:seen AS uuid[]))
      ORDER BY next_due_at LIMIT :limit)
    UNION ALL
    (SELECT f.schedule_id, f.created_at FROM hodei.schedule_firings f LEFT JOIN public.jobs j ON j.id = f.job_id
      WHERE NOT f.settled AND f.schedule_id <> ALL(CAST(:seen AS uuid[]))
        AND (j.id IS NULL OR j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT'))
      LIMIT :limit)
    UNION ALL
    (SELECT w.schedule_id, w.created_at FROM public.jobs w
      WHERE w.schedule_id IS NOT NULL AND w.state = 'PENDING' AND w.held AND w.schedule_id <> ALL(CAST(:seen AS uuid[]))
        AND EXISTS (SELECT 1 FROM hodei.schedules s WHERE s.id = w.schedule_id)
        AND NOT EXISTS (SELECT 1 FROM public.jobs l
                         WHERE l.schedule_id = w.schedule_id AND NOT l.held
                           AND l.state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING'))
      LIMIT :limit)) AS found
 GROUP BY id ORDER BY min(since) LIMIT :limit;

-- name: schedule_firings_settle
-- The runs that have ended since the last look, each counted once; a deleted one has no state.
WITH ended AS (
    SELECT f.scheduled_for, j.state, j.completed_at, f.job_id
      FROM hodei.schedule_firings f LEFT JOIN public.jobs j ON j.id = f.job_id
     WHERE f.schedule_id = :id AND NOT f.settled
       AND (j.id IS NULL OR j.state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMEOUT'))
), counted AS (
    UPDATE hodei.schedule_firings f SET settled = true FROM ended
     WHERE f.schedule_id = :id AND f.scheduled_for = ended.scheduled_for
)
SELECT state, job_id FROM ended ORDER BY completed_at NULLS FIRST, scheduled_for;

-- name: schedule_set_failures
UPDATE hodei.schedules SET failures = :failures WHERE id = :id;

-- name: schedule_set_active
-- It has a next time. A time that it fired last is kept where none is given.
UPDATE hodei.schedules
   SET state = 'ACTIVE', state_reason = NULL, next_at = :next_at, next_due_at = :next_due_at,
       last_at = COALESCE(CAST(:last_at AS timestamptz), last_at)
 WHERE id = :id;

-- name: schedule_set_stopped
-- PAUSED or ENDED: it has no next time.
UPDATE hodei.schedules
   SET state = :state, state_reason = :reason, next_at = NULL, next_due_at = NULL,
       last_at = COALESCE(CAST(:last_at AS timestamptz), last_at)
 WHERE id = :id;

-- name: schedule_change
UPDATE hodei.schedules
   SET name = :name, command = :command, cron = :cron, schedule_time = :schedule_time, timezone = :timezone, overlap = :overlap,
       catch_up = :catch_up, catch_up_limit = :catch_up_limit, jitter_s = :jitter_s, start_at = :start_at, end_at = :end_at,
       pause_after_failures = :pause_after_failures, updated_at = clock_timestamp()
 WHERE id = :id;

-- name: schedule_delete
DELETE FROM hodei.schedules WHERE id = :id;

-- name: schedule_firing_insert
-- The one firing of this time. No row: there is one.
INSERT INTO hodei.schedule_firings (schedule_id, scheduled_for, kind, outcome, reason, job_id, settled)
VALUES (:schedule_id, :scheduled_for, :kind, :outcome, :reason, :job_id, CAST(:job_id AS uuid) IS NULL)
ON CONFLICT (schedule_id, scheduled_for) DO NOTHING
RETURNING *;

-- name: schedule_has_fired
SELECT 1 FROM hodei.schedule_firings WHERE schedule_id = :id AND scheduled_for = :scheduled_for;

-- name: schedule_live_jobs
-- The schedule's jobs that have not ended, the oldest first. Those that wait for others are held.
SELECT id, state, held, scheduled_for FROM public.jobs
 WHERE schedule_id = :id AND state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')
 ORDER BY scheduled_for;

-- name: job_release_if_held
-- A firing that waited for those before it goes into the queue.
UPDATE public.jobs SET held = false, queued_at = clock_timestamp(), due_at = clock_timestamp()
 WHERE id = :id AND state = 'PENDING' AND held AND cancel_requested_at IS NULL;

-- name: secrets_copy
-- Ciphertext as it is: whoever owns the copy has its own.
INSERT INTO hodei.secrets (owner_id, name, ciphertext)
SELECT :to_id, name, ciphertext FROM hodei.secrets WHERE owner_id = :from_id;

-- name: schedule_secrets_forget
-- Those of the schedules that go together with their definition.
DELETE FROM hodei.secrets WHERE owner_id IN (SELECT id FROM hodei.schedules WHERE job_id = :job_id);

-- name: read_schedules
SELECT * FROM hodei.schedules
 WHERE (CAST(:id AS uuid) IS NULL OR id = :id)
   AND (CAST(:state AS text) IS NULL OR state = :state)
   AND (CAST(:job_id AS uuid) IS NULL OR job_id = :job_id)
   AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
 ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: read_schedule_firings
-- What the schedule's times came to, the latest first.
SELECT f.*, f.schedule_id AS id, j.state AS job_state, j.held AS job_held
  FROM hodei.schedule_firings f LEFT JOIN public.jobs j ON j.id = f.job_id
 WHERE f.schedule_id = :id
   AND (CAST(:before_at AS timestamptz) IS NULL OR f.scheduled_for < :before_at)
 ORDER BY f.scheduled_for DESC LIMIT :limit;

-- name: read_schedules_of_job
-- The schedules that fire this definition and have not ended.
SELECT id, name, state, next_at FROM hodei.schedules WHERE job_id = :job_id AND state <> 'ENDED' ORDER BY created_at, id;

-- name: read_jobs_before_in_schedule
-- What a firing that is held waits for.
SELECT id, state FROM public.jobs
 WHERE schedule_id = :schedule_id AND scheduled_for < :scheduled_for AND state IN ('PENDING', 'SCHEDULED', 'ASSIGNED', 'RUNNING')
 ORDER BY scheduled_for LIMIT 5;

-- name: schedule_firings_trim
-- A month is kept. The job of a firing keeps its schedule and its time for as long as there is the job.
DELETE FROM hodei.schedule_firings
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM hodei.schedule_firings
                          WHERE settled AND created_at < now() - interval '31 days' ORDER BY created_at LIMIT :limit));
