-- One row per live or expired fact. Expired ones are removed by later writes.
CREATE TABLE oauth_state (
    key $BYTES NOT NULL PRIMARY KEY,
    value $BYTES NOT NULL,
    -- What it is, and whose: both are set, or neither.
    kind $BYTES,
    owner $BYTES,
    -- Milliseconds since the epoch, by the clock of the database.
    expires_at BIGINT NOT NULL
);

-- Counting the live facts of an owner and of a kind.
CREATE INDEX oauth_state_owner ON oauth_state (kind, owner, expires_at) WHERE kind IS NOT NULL;

-- Removing expired facts.
CREATE INDEX oauth_state_expiry ON oauth_state (expires_at);
