-- Secrets: only ever ciphertext.

-- name: secret_insert
INSERT INTO hodei.secrets (owner_id, name, ciphertext) VALUES (:owner_id, :name, :ciphertext);

-- name: secrets_of
SELECT name, ciphertext FROM hodei.secrets WHERE owner_id = :owner_id ORDER BY name;

-- name: secrets_forget
DELETE FROM hodei.secrets WHERE owner_id = :owner_id;
