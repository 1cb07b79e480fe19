-- Without a check of the origin, which may get more values. SQLite cannot drop a check.
CREATE TABLE oauth_clients_new (
    client_id TEXT COLLATE BINARY NOT NULL PRIMARY KEY,
    -- RFC 7591 metadata plus client_id, JSON.
    metadata TEXT NOT NULL,
    origin TEXT NOT NULL,
    -- Seconds since the epoch.
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT,
    -- The stricter of these and the document counts.
    revoked_at BIGINT,
    expires_at BIGINT,
    disabled BIGINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
);

-- The columns catch up with documents that were edited by hand.
INSERT INTO oauth_clients_new
SELECT client_id, metadata, origin, created_at, updated_at, last_used_at, revoked_at,
    CASE
        WHEN NOT json_valid(metadata) THEN expires_at
        WHEN typeof(json_extract(metadata, '$.expires_at')) <> 'integer' THEN expires_at
        WHEN json_extract(metadata, '$.expires_at') <= 0 THEN expires_at
        ELSE MIN(json_extract(metadata, '$.expires_at'), COALESCE(expires_at, 9223372036854775807))
    END,
    CASE
        WHEN NOT json_valid(metadata) THEN disabled
        WHEN json_type(metadata, '$.disabled') = 'true' THEN 1
        ELSE disabled
    END
FROM oauth_clients;

DROP TABLE oauth_clients;
ALTER TABLE oauth_clients_new RENAME TO oauth_clients;

-- Counting the clients of an origin, and removing the unused ones, oldest first.
CREATE INDEX oauth_clients_origin
    ON oauth_clients (origin, created_at, client_id)
    WHERE revoked_at IS NULL;
