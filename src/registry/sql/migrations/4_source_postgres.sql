-- A copy of the document's `registration_source`, for queries.
ALTER TABLE oauth_clients ADD COLUMN source TEXT COLLATE "C";

CREATE FUNCTION oauth_clients_source(metadata text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE jsonb_typeof(metadata::jsonb -> 'registration_source')
        WHEN 'string' THEN metadata::jsonb ->> 'registration_source'
    END;
EXCEPTION WHEN others THEN
    -- A row that cannot be read stays as it is.
    RETURN NULL;
END
$$;
UPDATE oauth_clients SET source = oauth_clients_source(metadata)
    WHERE metadata LIKE '%"registration_source"%' AND octet_length(oauth_clients_source(metadata)) <= 2048;
DROP FUNCTION oauth_clients_source(text);

-- Counting the clients of a source, and removing the unused ones, oldest first.
CREATE INDEX oauth_clients_source
    ON oauth_clients (origin, source, created_at)
    WHERE revoked_at IS NULL AND source IS NOT NULL;

-- Removing the clients that were not used for longest.
CREATE INDEX oauth_clients_used
    ON oauth_clients (origin, last_used_at)
    WHERE revoked_at IS NULL AND last_used_at IS NOT NULL;

-- Whether the document disables or revokes the client. A document that cannot be read does neither.
CREATE FUNCTION oauth_clients_is_off(metadata text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN metadata::jsonb @> '{"disabled": true}' OR metadata::jsonb @> '{"revoked": true}';
EXCEPTION WHEN others THEN
    RETURN FALSE;
END
$$;
