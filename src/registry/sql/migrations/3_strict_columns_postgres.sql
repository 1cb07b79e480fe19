-- Without a check of the origin, which may get more values.
ALTER TABLE oauth_clients DROP CONSTRAINT IF EXISTS oauth_clients_origin_check;

DROP TRIGGER oauth_clients_changed ON oauth_clients;

-- The columns catch up with documents that were edited by hand. The stricter of both counts.
CREATE FUNCTION oauth_clients_document(metadata text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN metadata::jsonb;
EXCEPTION WHEN others THEN
    -- A row that cannot be read stays as it is.
    RETURN NULL;
END
$$;
UPDATE oauth_clients SET disabled = 1
    WHERE disabled = 0 AND oauth_clients_document(metadata) -> 'disabled' = 'true'::jsonb;
UPDATE oauth_clients SET expires_at = ends.at
    FROM (
        SELECT client_id, LEAST(TRUNC((document ->> 'expires_at')::numeric), 9223372036854775807)::bigint AS at
        FROM (SELECT client_id, oauth_clients_document(metadata) AS document FROM oauth_clients) AS documents
        WHERE jsonb_typeof(document -> 'expires_at') = 'number'
    ) AS ends
    WHERE oauth_clients.client_id = ends.client_id AND ends.at > 0
        AND (oauth_clients.expires_at IS NULL OR oauth_clients.expires_at > ends.at);
DROP FUNCTION oauth_clients_document(text);

-- Not for last_used_at: a use changes no answer.
CREATE TRIGGER oauth_clients_changed
    AFTER INSERT OR DELETE OR UPDATE OF client_id, metadata, origin, revoked_at, expires_at, disabled ON oauth_clients
    FOR EACH ROW EXECUTE FUNCTION oauth_clients_notify();
