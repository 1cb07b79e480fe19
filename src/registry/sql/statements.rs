use std::borrow::Cow;

use crate::sql::{Backend, Migrations};

/// What differs between the databases: statements that remove rows and return their ids.
pub trait Statements: Backend {
    const REMOVE_UNUSED: &'static str;
    const REMOVE_UNUSED_OF_SOURCE: &'static str;
    const REMOVE_IDLE: &'static str;
    const REMOVE_IDLE_OF_SOURCE: &'static str;
}

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT client_id, metadata, origin, created_at, updated_at, last_used_at, revoked_at, expires_at, disabled ",
            "FROM oauth_clients ",
            $condition
        )
    };
}

macro_rules! replace {
    ($condition:literal) => {
        concat!(
            "UPDATE oauth_clients ",
            "SET metadata = $2, updated_at = $3, revoked_at = $4, expires_at = $5, disabled = $6, source = $7 ",
            "WHERE client_id = $1 AND revoked_at IS NULL ",
            $condition,
            " RETURNING origin"
        )
    };
}

/// The statements of [`Statements`]: `$before` and `$after` stand around one that selects the ids of the rows. `$is_on` is
/// whether the document neither disables nor revokes the client: operators edit it, too.
macro_rules! removals {
    ($before:literal, $is_on:literal, $after:literal) => {
        const REMOVE_UNUSED: &'static str = concat!($before, unused!(""), $is_on, oldest!(), $after);
        const REMOVE_UNUSED_OF_SOURCE: &'static str =
            concat!($before, unused!("AND source = $4 "), $is_on, oldest!(), $after);
        const REMOVE_IDLE: &'static str = concat!($before, idle!(""), $is_on, longest_idle!(), $after);
        const REMOVE_IDLE_OF_SOURCE: &'static str =
            concat!($before, idle!("AND source = $4 "), $is_on, longest_idle!(), $after);
    };
}

/// What `RegistryStore::remove_unused` removes.
macro_rules! unused {
    ($condition:literal) => {
        concat!(
            "SELECT client_id FROM oauth_clients WHERE origin = $1 AND revoked_at IS NULL ",
            "AND last_used_at IS NULL AND disabled = 0 AND created_at < $2 ",
            $condition
        )
    };
}

macro_rules! oldest {
    () => {
        " ORDER BY created_at, client_id LIMIT $3"
    };
}

/// What `RegistryStore::remove_idle` removes.
macro_rules! idle {
    ($condition:literal) => {
        concat!(
            "SELECT client_id FROM oauth_clients WHERE origin = $1 AND revoked_at IS NULL ",
            "AND last_used_at < $2 AND disabled = 0 ",
            $condition
        )
    };
}

macro_rules! longest_idle {
    () => {
        " ORDER BY last_used_at, client_id LIMIT $3"
    };
}

pub(super) const FIND: &str = select!("WHERE client_id = $1");
pub(super) const LIST: &str = select!("WHERE client_id > $1 ORDER BY client_id LIMIT $2");
pub(super) const INSERT: &str = "INSERT INTO oauth_clients \
    (client_id, metadata, origin, created_at, updated_at, revoked_at, expires_at, disabled, source) \
    VALUES ($1, $2, $8, $3, $3, $4, $5, $6, $7) ON CONFLICT (client_id) DO NOTHING";
pub(super) const REPLACE: &str = replace!("");
pub(super) const REPLACE_UNCHANGED: &str =
    replace!("AND metadata = $8 AND expires_at IS NOT DISTINCT FROM $9 AND disabled = $10");
pub(super) const REVOKE: &str = "UPDATE oauth_clients \
    SET updated_at = CASE WHEN revoked_at IS NULL THEN $2 ELSE updated_at END, revoked_at = COALESCE(revoked_at, $2) \
    WHERE client_id = $1";
pub(super) const REMOVE: &str = "DELETE FROM oauth_clients WHERE client_id = $1";
pub(super) const REMOVE_UNCHANGED: &str = "DELETE FROM oauth_clients WHERE client_id = $1 AND revoked_at IS NULL \
    AND metadata = $2 AND expires_at IS NOT DISTINCT FROM $3 AND disabled = $4";
pub(super) const TOUCH: &str = "UPDATE oauth_clients \
    SET last_used_at = CASE WHEN last_used_at >= $2 THEN last_used_at ELSE $2 END \
    WHERE client_id = $1";
pub(super) const COUNT: &str = "SELECT COUNT(*) FROM oauth_clients WHERE origin = $1 AND revoked_at IS NULL";
pub(super) const COUNT_OF_SOURCE: &str =
    "SELECT COUNT(*) FROM oauth_clients WHERE origin = $1 AND revoked_at IS NULL AND source = $2";

#[cfg(feature = "sqlite")]
impl Statements for sqlx::Sqlite {
    removals!(
        "DELETE FROM oauth_clients WHERE client_id IN (",
        "AND CASE WHEN json_valid(metadata) THEN json_type(metadata, '$.disabled') IS NOT 'true' \
            AND json_type(metadata, '$.revoked') IS NOT 'true' ELSE TRUE END",
        ") RETURNING client_id"
    );
}

/// Skips rows that another node is removing or using: waiting for them would remove fewer rows than there are. As an
/// array the rows are selected once, whatever the plan.
#[cfg(feature = "postgres")]
impl Statements for sqlx::Postgres {
    removals!(
        "DELETE FROM oauth_clients WHERE client_id = ANY(ARRAY(",
        "AND NOT oauth_clients_is_off(metadata)",
        " FOR UPDATE SKIP LOCKED)) RETURNING client_id"
    );
}

#[cfg(feature = "sqlite")]
pub(super) fn sqlite_migrations() -> Migrations {
    let strict_columns = (3, "strict columns", include_str!("migrations/3_strict_columns_sqlite.sql"));
    let source = (4, "source", include_str!("migrations/4_source_sqlite.sql"));
    migrations("BINARY", &[strict_columns, source])
}

#[cfg(feature = "postgres")]
pub(super) fn postgres_migrations() -> Migrations {
    let notify = (2, "notify", include_str!("migrations/2_notify.sql"));
    let strict_columns = (3, "strict columns", include_str!("migrations/3_strict_columns_postgres.sql"));
    let source = (4, "source", include_str!("migrations/4_source_postgres.sql"));
    migrations("\"C\"", &[notify, strict_columns, source])
}

/// `collation` makes ids compare by their bytes.
fn migrations(collation: &str, more: &[(i64, &'static str, &'static str)]) -> Migrations {
    let clients = include_str!("migrations/1_clients.sql").replace("$COLLATION", collation);
    let more = more.iter().map(|(version, name, sql)| (*version, *name, Cow::Borrowed(*sql)));
    let all = std::iter::once((1, "clients", Cow::Owned(clients))).chain(more).collect();
    Migrations { table: "oauth_clients_migrations", all }
}
