-- One row a client. `$COLLATION` makes ids compare by their bytes.
CREATE TABLE IF NOT EXISTS oauth_clients (
    client_id TEXT COLLATE $COLLATION NOT NULL PRIMARY KEY,
    -- RFC 7591 metadata plus client_id, JSON. Text: jsonb takes no \u0000 and does not keep what came.
    metadata TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('configured', 'registered', 'upstream')),
    -- Seconds since the epoch.
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT,
    -- The client is revoked when this is set, whatever the document says.
    revoked_at BIGINT,
    -- Copies of what the document says, for queries.
    expires_at BIGINT,
    disabled BIGINT NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
);

-- Counting the clients of an origin, and removing the unused ones, oldest first.
CREATE INDEX IF NOT EXISTS oauth_clients_origin
    ON oauth_clients (origin, created_at, client_id)
    WHERE revoked_at IS NULL;
