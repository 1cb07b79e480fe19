use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::backend::Backend;
use super::error::SqlError;

/// The migrations of one store.
pub(crate) struct Migrations {
    /// Names the table of applied migrations. Each store has one, so that the database can hold the tables and
    /// migrations of others.
    pub(crate) table: &'static str,
    /// Versions, names and statements. What was applied once must never change: sqlx compares checksums.
    pub(crate) all: Vec<(i64, &'static str, Cow<'static, str>)>,
}

impl Migrations {
    pub(super) async fn apply<B: Backend>(self, connection: &mut B::Connection) -> Result<(), SqlError> {
        let migration = |(version, name, sql): (i64, &'static str, Cow<'static, str>)| {
            let sql = AssertSqlSafe(sql.into_owned()).into_sql_str();
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
        };
        let mut migrator = Migrator::with_migrations(self.all.into_iter().map(migration).collect());
        migrator.dangerous_set_table_name(self.table);
        // A node of an older version must start on the tables of a newer one.
        migrator.set_ignore_missing(true);
        migrator.run_direct(None, connection, false).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => SqlError::new::<B>(error),
            error => SqlError::permanent(error),
        })
    }
}
