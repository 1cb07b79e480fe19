-- A copy of the document's `registration_source`, for queries.
ALTER TABLE oauth_clients ADD COLUMN source TEXT;

UPDATE oauth_clients SET source = json_extract(metadata, '$.registration_source')
    WHERE CASE
        WHEN NOT json_valid(metadata) THEN 0
        WHEN json_type(metadata, '$.registration_source') IS NOT 'text' THEN 0
        ELSE length(json_extract(metadata, '$.registration_source')) <= 2048
    END;

-- Counting the clients of a source, and removing the unused ones, oldest first.
CREATE INDEX oauth_clients_source
    ON oauth_clients (origin, source, created_at)
    WHERE revoked_at IS NULL AND source IS NOT NULL;

-- Removing the clients that were not used for longest.
CREATE INDEX oauth_clients_used
    ON oauth_clients (origin, last_used_at)
    WHERE revoked_at IS NULL AND last_used_at IS NOT NULL;
