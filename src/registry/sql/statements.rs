use std::borrow::Cow;

use crate::sql::{Backend, Migrations};

/// What differs between the databases.
pub trait Statements: Backend {
    /// Removes the rows of [`unused!`] and answers their ids.
    const REMOVE_UNUSED: &'static str;
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
            "SET metadata = $2, updated_at = $3, revoked_at = $4, expires_at = $5, disabled = $6 ",
            "WHERE client_id = $1 AND revoked_at IS NULL ",
            $condition,
            " RETURNING origin"
        )
    };
}

/// What `RegistryStore::remove_unused` removes, oldest first.
macro_rules! unused {
    () => {
        "SELECT client_id FROM oauth_clients \
        WHERE origin = $1 AND revoked_at IS NULL \
            AND last_used_at IS NULL AND disabled = 0 AND created_at < $2 \
        ORDER BY created_at, client_id LIMIT $3"
    };
}

pub(super) const FIND: &str = select!("WHERE client_id = $1");
pub(super) const LIST: &str = select!("WHERE client_id > $1 ORDER BY client_id LIMIT $2");
pub(super) const INSERT: &str = "INSERT INTO oauth_clients \
    (client_id, metadata, origin, created_at, updated_at, revoked_at, expires_at, disabled) \
    VALUES ($1, $2, $7, $3, $3, $4, $5, $6) ON CONFLICT (client_id) DO NOTHING";
pub(super) const REPLACE: &str = replace!("");
pub(super) const REPLACE_UNCHANGED: &str =
    replace!("AND metadata = $7 AND expires_at IS NOT DISTINCT FROM $8 AND disabled = $9");
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

#[cfg(feature = "sqlite")]
impl Statements for sqlx::Sqlite {
    const REMOVE_UNUSED: &'static str =
        concat!("DELETE FROM oauth_clients WHERE client_id IN (", unused!(), ") RETURNING client_id");
}

#[cfg(feature = "postgres")]
impl Statements for sqlx::Postgres {
    /// Skips rows that another node is removing or using: waiting for them would remove fewer rows than there are.
    /// The array makes every query plan select the rows only once.
    const REMOVE_UNUSED: &'static str = concat!(
        "DELETE FROM oauth_clients WHERE client_id = ANY(ARRAY(",
        unused!(),
        " FOR UPDATE SKIP LOCKED)) RETURNING client_id"
    );
}

#[cfg(feature = "sqlite")]
pub(super) fn sqlite_migrations() -> Migrations {
    migrations("BINARY", &[(3, "strict columns", include_str!("migrations/3_strict_columns_sqlite.sql"))])
}

#[cfg(feature = "postgres")]
pub(super) fn postgres_migrations() -> Migrations {
    let notify = (2, "notify", include_str!("migrations/2_notify.sql"));
    let strict_columns = (3, "strict columns", include_str!("migrations/3_strict_columns_postgres.sql"));
    migrations("\"C\"", &[notify, strict_columns])
}

/// `collation` makes ids compare by their bytes.
fn migrations(collation: &str, more: &[(i64, &'static str, &'static str)]) -> Migrations {
    let clients = include_str!("migrations/1_clients.sql").replace("$COLLATION", collation);
    let more = more.iter().map(|(version, name, sql)| (*version, *name, Cow::Borrowed(*sql)));
    let all = std::iter::once((1, "clients", Cow::Owned(clients))).chain(more).collect();
    Migrations { table: "oauth_clients_migrations", all }
}
