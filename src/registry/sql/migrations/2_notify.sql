-- Tells every listening node which client changed. The payload is the id, or nothing: any client may have changed.
CREATE FUNCTION oauth_clients_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        PERFORM pg_notify('oauth_clients', '');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        -- A payload has less than 8000 bytes; an id of that length was not written by this library.
        PERFORM pg_notify('oauth_clients', CASE WHEN octet_length(OLD.client_id) < 8000 THEN OLD.client_id ELSE '' END);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('oauth_clients', CASE WHEN octet_length(NEW.client_id) < 8000 THEN NEW.client_id ELSE '' END);
    END IF;
    RETURN NULL;
END
$$;

-- Not for last_used_at: a use changes no answer.
CREATE TRIGGER oauth_clients_changed
    AFTER INSERT OR DELETE OR UPDATE OF client_id, metadata, revoked_at ON oauth_clients
    FOR EACH ROW EXECUTE FUNCTION oauth_clients_notify();

CREATE TRIGGER oauth_clients_truncated
    AFTER TRUNCATE ON oauth_clients
    FOR EACH STATEMENT EXECUTE FUNCTION oauth_clients_notify();
