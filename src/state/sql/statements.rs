use std::borrow::Cow;

use crate::sql::{Backend, Migrations};

/// The statements of [`SqlStateStore`](super::SqlStateStore), which differ in types and clocks.
pub trait Statements: Backend {
    const PUT: &'static str;
    const GET: &'static str;
    const TAKE: &'static str;
    const COUNT: &'static str;
    const SWEEP: &'static str;
    const BYTES: &'static str;
}

macro_rules! statements {
    (bytes: $bytes:literal, now: $now:literal, sweep: ($before:literal, $after:literal)) => {
        /// Changes no row if the key has a live value, or if the owner has `$6` of them.
        const PUT: &'static str = concat!(
            "INSERT INTO oauth_state (key, value, kind, owner, expires_at) ",
            "SELECT CAST($1 AS ",
            $bytes,
            "), CAST($2 AS ",
            $bytes,
            "), CAST($3 AS ",
            $bytes,
            "), ",
            "CAST($4 AS ",
            $bytes,
            "), ",
            $now,
            " + $5 ",
            "WHERE $6 > (SELECT COUNT(*) FROM (SELECT 1 FROM oauth_state ",
            "WHERE kind = $3 AND owner = $4 AND expires_at > ",
            $now,
            " LIMIT $6) AS live) ",
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, kind = excluded.kind, owner = excluded.owner, ",
            "expires_at = excluded.expires_at WHERE oauth_state.expires_at <= ",
            $now
        );
        const GET: &'static str = concat!("SELECT value FROM oauth_state WHERE key = $1 AND expires_at > ", $now);
        const TAKE: &'static str =
            concat!("DELETE FROM oauth_state WHERE key = $1 AND expires_at > ", $now, " RETURNING value");
        const COUNT: &'static str = concat!("SELECT COUNT(*) FROM oauth_state WHERE kind = $1 AND expires_at > ", $now);
        const SWEEP: &'static str = concat!(
            "DELETE FROM oauth_state WHERE key ",
            $before,
            "SELECT key FROM oauth_state WHERE expires_at <= ",
            $now,
            " ORDER BY expires_at LIMIT $1",
            $after
        );
        const BYTES: &'static str = $bytes;
    };
}

#[cfg(feature = "sqlite")]
impl Statements for sqlx::Sqlite {
    statements! {
        bytes: "BLOB",
        now: "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        sweep: ("IN (", ")")
    }
}

#[cfg(feature = "postgres")]
impl Statements for sqlx::Postgres {
    // Another node may be removing or renewing a row: it is skipped.
    statements! {
        bytes: "BYTEA",
        now: "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        sweep: ("= ANY(ARRAY(", " FOR UPDATE SKIP LOCKED))")
    }
}

pub(super) fn migrations<B: Statements>() -> Migrations {
    let state = include_str!("1_state.sql").replace("$BYTES", B::BYTES);
    Migrations { table: "oauth_state_migrations", all: vec![(1, "state", Cow::Owned(state))] }
}
