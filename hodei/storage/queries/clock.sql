-- The clock, the loops' progress, and the database itself.

-- name: ping
SELECT 1;

-- name: only_reads
-- Whether nothing can be written through this connection: it leads to a standby, or to a server that was made read-only.
SELECT current_setting('transaction_read_only') = 'on';

-- name: now
SELECT clock_timestamp();

-- name: deployment_id
SELECT id FROM hodei.deployment;

-- name: loop_claim
-- Who acts: the owner while its lease lives, else whoever asks first. Answers whether it is the asker.
INSERT INTO hodei.loops AS l (name, owner, lease_expires, interval_s)
VALUES (:name, :owner, clock_timestamp() + make_interval(secs => :lease_s), :interval_s)
ON CONFLICT (name) DO UPDATE
   SET owner = :owner, lease_expires = EXCLUDED.lease_expires, interval_s = :interval_s
 WHERE l.owner = :owner OR l.lease_expires <= clock_timestamp() OR l.lease_expires IS NULL
RETURNING name;

-- name: loop_progress
INSERT INTO hodei.loops AS l (name, owner, lease_expires, interval_s, progressed_at, detail)
VALUES (:name, :owner, clock_timestamp() + make_interval(secs => :lease_s), :interval_s, clock_timestamp(), CAST(:detail AS jsonb))
ON CONFLICT (name) DO UPDATE
   SET owner = :owner, lease_expires = EXCLUDED.lease_expires, progressed_at = clock_timestamp(), detail = l.detail || EXCLUDED.detail,
       interval_s = :interval_s;

-- name: presence_say
-- A process is there: since now when its lease has run out meanwhile (all of us slept, or the clock was set), else since it said so first.
INSERT INTO hodei.loops AS l (name, owner, lease_expires, interval_s, progressed_at, detail)
VALUES (:name, :owner, clock_timestamp() + make_interval(secs => :lease_s), :interval_s, clock_timestamp(),
        jsonb_build_object('up_since', clock_timestamp()))
ON CONFLICT (name) DO UPDATE
   SET owner = :owner, lease_expires = EXCLUDED.lease_expires, progressed_at = clock_timestamp(), interval_s = :interval_s,
       detail = CASE WHEN l.lease_expires > clock_timestamp() AND NOT :anew THEN l.detail ELSE EXCLUDED.detail END;

-- name: cleanup_count
-- What all CLEANUP sagas together did, kept with the loop that starts them.
UPDATE hodei.loops SET detail = detail || jsonb_build_object(
       'workers_removed', COALESCE((detail ->> 'workers_removed')::bigint, 0) + :workers_removed,
       'workers_left', :workers_left,
       'jobs_reset', COALESCE((detail ->> 'jobs_reset')::bigint, 0) + :jobs_reset)
 WHERE name = 'cleanup';

-- name: cleanup_counts
SELECT COALESCE((detail ->> 'workers_removed')::bigint, 0) AS workers_removed,
       COALESCE((detail ->> 'workers_left')::bigint, 0) AS workers_left,
       COALESCE((detail ->> 'jobs_reset')::bigint, 0) AS jobs_reset
  FROM hodei.loops WHERE name = 'cleanup';

-- name: loop_release
UPDATE hodei.loops SET lease_expires = clock_timestamp() WHERE name = :name AND owner = :owner;

-- name: loop_forget
DELETE FROM hodei.loops WHERE name = :name AND owner = :owner;

-- name: controllers_forget_dead
DELETE FROM hodei.loops WHERE name LIKE 'controller:%'
   AND progressed_at < clock_timestamp() - make_interval(secs => :silent_s)
RETURNING owner;

-- name: loops
SELECT name, owner, progressed_at, interval_s, detail, extract(epoch FROM clock_timestamp() - progressed_at) AS age_s
  FROM hodei.loops ORDER BY name;

-- name: loops_trim
-- All at once: they are as few as processes.
DELETE FROM hodei.loops WHERE progressed_at < clock_timestamp() - interval '10 min';

-- name: reachable_since
-- Since when agents could reach us without a break: the youngest start among the doors that are open now. An agent knows one
-- address, and which of several doors that is we do not know.
SELECT max((detail ->> 'up_since')::timestamptz) AS since FROM hodei.loops
 WHERE name LIKE 'door:%' AND progressed_at > clock_timestamp() - interval '15 s';
