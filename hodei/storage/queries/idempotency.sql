-- Idempotency keys: the first answer to a POST, for a day.

-- name: key_claim
-- Whoever comes second waits here for the first one's commit, and then finds its answer.
INSERT INTO hodei.idempotency_keys (scope, key, body_hash) VALUES (:scope, :key, :body_hash)
ON CONFLICT (scope, key) DO UPDATE
   SET body_hash = EXCLUDED.body_hash, answer = NULL, created_at = clock_timestamp()
 WHERE idempotency_keys.created_at < clock_timestamp() - interval '24 hours'
RETURNING key;

-- name: key_find
SELECT body_hash, answer FROM hodei.idempotency_keys WHERE scope = :scope AND key = :key;

-- name: key_answer
UPDATE hodei.idempotency_keys SET answer = CAST(:answer AS jsonb) WHERE scope = :scope AND key = :key;

-- name: keys_trim
DELETE FROM hodei.idempotency_keys
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM hodei.idempotency_keys
                          WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT :limit));
