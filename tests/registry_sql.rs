//! Clients in SQLite and PostgreSQL, and what happens when these fail.

use std::error::Error;
use std::time::SystemTime;

use serde_json::json;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};
use tower_oauth_client_validation::{
    Client, ClientOrigin, ClientStatus, RegistryError, RegistrySource, RegistryStore, StoreError,
};

use crate::contract::contract;
use crate::wait::{eventually, in_time};

fn client(id: &str) -> Client {
    Client::builder(id).redirect_uri("https://app.example/cb").build().unwrap()
}

fn cause(error: &RegistryError) -> String {
    error.source().unwrap().to_string()
}

fn status_and_end(client: &Client) -> (ClientStatus, Option<u64>) {
    let end = client.expires_at().map(|end| end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    (client.status(), end)
}

/// Operators edit the columns, and the document.
async fn the_stricter_of_column_and_document_applies(registry: &impl RegistryStore, execute: impl AsyncFn(String)) {
    let metadata = json!({"client_id": "strict", "disabled": true, "expires_at": 1000});
    registry.insert(Client::from_metadata(metadata).unwrap(), ClientOrigin::Configured).await.unwrap();
    registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    let find = async |id: &'static str| status_and_end(&registry.record(id).await.unwrap().unwrap().client);
    for (columns, strict, app) in [
        ("disabled = 1, expires_at = 1", 1, (ClientStatus::Disabled, Some(1))),
        ("disabled = 1, expires_at = NULL", 1000, (ClientStatus::Disabled, None)),
        ("disabled = 0, expires_at = 2000", 1000, (ClientStatus::Active, Some(2000))),
        ("disabled = 0, expires_at = 500", 500, (ClientStatus::Active, Some(500))),
        ("disabled = 0, expires_at = -1", 1, (ClientStatus::Active, Some(1))),
        ("disabled = 0, expires_at = 0", 1000, (ClientStatus::Active, None)),
    ] {
        execute(format!("UPDATE oauth_clients SET {columns}")).await;
        assert_eq!(find("strict").await, (ClientStatus::Disabled, Some(strict)), "{columns}");
        assert_eq!(find("app").await, app, "{columns}");
    }
    execute("UPDATE oauth_clients SET revoked_at = 1, disabled = 1".to_owned()).await;
    assert_eq!(find("app").await.0, ClientStatus::Revoked);
}

/// A change of the columns is a change of the client.
async fn a_changed_column_is_not_overwritten(registry: &impl RegistryStore, execute: impl AsyncFn(String)) {
    registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    let read = async || registry.record("app").await.unwrap().unwrap().client;
    for update in
        ["UPDATE oauth_clients SET disabled = 1", "UPDATE oauth_clients SET disabled = 0, expires_at = 4102444800"]
    {
        let before = read().await;
        execute(update.to_owned()).await;
        let renamed = before.to_builder().name("late").build().unwrap();
        let late = registry.replace_unchanged(&before, renamed).await;
        assert!(matches!(late, Err(StoreError::Changed)), "{late:?}");
        assert!(matches!(registry.remove_unchanged(&before).await, Err(StoreError::Changed)));
        let changed = read().await;
        assert_ne!(changed, before);
        // A change that knows it keeps it, also when the columns lose it.
        let renamed = changed.to_builder().name("in time").build().unwrap();
        registry.replace_unchanged(&changed, renamed.clone()).await.unwrap();
        execute("UPDATE oauth_clients SET disabled = 0, expires_at = NULL".to_owned()).await;
        assert_eq!(*read().await, renamed);
        registry.replace(before.to_builder().build().unwrap()).await.unwrap();
    }
    let known = read().await;
    registry.remove_unchanged(&known).await.unwrap();
}

/// Otherwise a client that the operator switched off could come back, such as with its metadata document.
async fn a_client_that_its_document_switches_off_makes_no_room(
    registry: &impl RegistryStore,
    execute: impl AsyncFn(String),
) {
    let origin = ClientOrigin::Registered;
    let nested = json!({"client_id": "nested", "x": {"disabled": true}, "disabled": false});
    registry.insert(Client::from_metadata(nested).unwrap(), origin).await.unwrap();
    for id in ["disabled", "revoked", "unreadable"] {
        registry.insert(client(id), origin).await.unwrap();
    }
    for (id, metadata) in [
        ("disabled", r#"{"client_id": "disabled", "disabled": true}"#),
        ("revoked", r#"{"client_id": "revoked", "revoked" : true}"#),
        ("unreadable", r#"{"disabled": true"#),
    ] {
        execute(format!("UPDATE oauth_clients SET metadata = '{metadata}' WHERE client_id = '{id}'")).await;
    }
    let soon = SystemTime::now() + std::time::Duration::from_secs(86_400);
    let mut removed = registry.remove_unused(origin, soon, 9).await.unwrap();
    removed.sort_unstable();
    assert_eq!(removed, ["nested", "unreadable"]);
    for id in ["disabled", "revoked"] {
        registry.touch(id, SystemTime::UNIX_EPOCH).await.unwrap();
    }
    assert!(registry.remove_idle(origin, None, soon, 9).await.unwrap().is_empty());
}

/// The document of a client may say nothing about it, or be written by something else.
async fn the_origin_says_whether_a_client_is_dynamic(registry: &impl RegistryStore, execute: impl AsyncFn(String)) {
    for (origin, is_dynamic) in [
        (ClientOrigin::Configured, false),
        (ClientOrigin::Registered, true),
        (ClientOrigin::Upstream, true),
        (ClientOrigin::MetadataDocument, true),
    ] {
        let inserted = registry.insert(client("app"), origin).await.unwrap();
        assert_eq!(inserted.is_dynamic(), is_dynamic);
        execute(r#"UPDATE oauth_clients SET metadata = '{"client_id": "app"}'"#.to_owned()).await;
        let record = registry.record("app").await.unwrap().unwrap();
        assert_eq!((record.client.is_dynamic(), record.origin), (is_dynamic, origin));
        assert_eq!(registry.replace(client("app")).await.unwrap().is_dynamic(), is_dynamic);
        let read = registry.record("app").await.unwrap().unwrap().client;
        assert_eq!(read.is_dynamic(), is_dynamic);
        assert_eq!(registry.replace_unchanged(&read, client("app")).await.unwrap().is_dynamic(), is_dynamic);
        assert_eq!(registry.count(origin).await.unwrap(), 1);
        registry.remove("app").await.unwrap();
    }
}

/// Rows of the first version, whose columns do not agree with their documents.
const OLD_ROWS: &str = r#"INSERT INTO oauth_clients
    (client_id, metadata, origin, created_at, updated_at, last_used_at, revoked_at, expires_at, disabled) VALUES
    ('agrees', '{"client_id": "agrees", "disabled": true, "expires_at": 7}', 'configured', 1, 2, 3, NULL, 7, 1),
    ('document', '{"client_id": "document", "disabled": true, "expires_at": 7}', 'registered', 1, 2, NULL, 5, 9, 0),
    ('no column', '{"client_id": "no column", "expires_at": 7}', 'registered', 1, 2, NULL, NULL, NULL, 0),
    ('column', '{"client_id": "column", "disabled": false, "expires_at": 9}', 'upstream', 1, 2, NULL, NULL, 7, 1),
    ('never', '{"client_id": "never", "expires_at": 0, "disabled": null}', 'upstream', 1, 2, NULL, NULL, NULL, 0),
    ('huge', '{"client_id": "huge", "expires_at": 1e300}', 'upstream', 1, 2, NULL, NULL, 7, 0),
    ('types', '{"client_id": "types", "expires_at": "7", "disabled": "true"}', 'upstream', 1, 2, NULL, NULL, 7, 0),
    ('broken', '{"disabled": true', 'upstream', 1, 2, NULL, NULL, 7, 0),
    ('nul', '{"client_id": "nul", "client_name": "\u0000"}', 'upstream', 1, 2, NULL, NULL, 7, 0),
    ('source', '{"client_id": "source", "registration_source": "s\u00e9 \"q\""}', 'upstream', 1, 2, NULL, NULL, 7, 0),
    ('no text', '{"client_id": "no text", "registration_source": {"a": 1}}', 'upstream', 1, 2, NULL, NULL, 7, 0)"#;

const SOURCES: &str = "SELECT client_id, source FROM oauth_clients WHERE source IS NOT NULL";

const COLUMNS: &str = "SELECT client_id, disabled, expires_at FROM oauth_clients ORDER BY client_id";

const COLUMNS_AFTER: [(&str, i64, Option<i64>); 11] = [
    ("agrees", 1, Some(7)),
    ("broken", 0, Some(7)),
    ("column", 1, Some(7)),
    ("document", 1, Some(7)),
    ("huge", 0, Some(7)),
    ("never", 0, None),
    ("no column", 0, Some(7)),
    ("no text", 0, Some(7)),
    ("nul", 0, Some(7)),
    ("source", 0, Some(7)),
    ("types", 0, Some(7)),
];

/// The migrations of earlier versions, as they were applied.
fn old_migrator(collation: &str, more: &[(i64, &'static str, &'static str)]) -> Migrator {
    let clients = include_str!("../src/registry/sql/migrations/1_clients.sql").replace("$COLLATION", collation);
    let migration =
        |version, name: &'static str, sql| Migration::new(version, name.into(), MigrationType::Simple, sql, false);
    let mut all = vec![migration(1, "clients", AssertSqlSafe(clients).into_sql_str())];
    all.extend(more.iter().map(|(version, name, sql)| migration(*version, name, (*sql).into_sql_str())));
    let mut migrator = Migrator::with_migrations(all);
    migrator.dangerous_set_table_name("oauth_clients_migrations");
    migrator
}

/// Applied by a node of a later version.
const LATER_MIGRATION: &str = "INSERT INTO oauth_clients_migrations \
    (version, description, success, checksum, execution_time) VALUES (99, 'later', TRUE, '', 1)";

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::path::Path;
    use std::time::Duration;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{Connection, SqliteConnection};
    use tempfile::TempDir;
    use tower_oauth_client_validation::{RedirectUri, SqlConfig, SqliteRegistry};

    use super::*;

    fn url(folder: &Path) -> String {
        format!("sqlite://{}", folder.join("clients.sqlite").display())
    }

    async fn open() -> Option<(SqliteRegistry, TempDir)> {
        let folder = tempfile::tempdir().unwrap();
        let config =
            SqlConfig::default().acquire_timeout(Duration::from_secs(20)).statement_timeout(Duration::from_secs(20));
        let registry = SqliteRegistry::connect_with(&url(folder.path()), config).await.unwrap();
        registry.migrate().await.unwrap();
        Some((registry, folder))
    }

    contract!(contract, super::open);

    async fn other_connection(folder: &Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(folder.join("clients.sqlite"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn execute(registry: &SqliteRegistry, sql: String) {
        sqlx::query(AssertSqlSafe(sql)).execute(registry.pool()).await.unwrap();
    }

    async fn pragma<T>(registry: &SqliteRegistry, name: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA {name}"))).fetch_one(registry.pool()).await.unwrap()
    }

    #[tokio::test]
    async fn the_stricter_of_column_and_document_applies() {
        let (registry, _folder) = open().await.unwrap();
        super::the_stricter_of_column_and_document_applies(&registry, async |sql| execute(&registry, sql).await).await;
    }

    #[tokio::test]
    async fn a_changed_column_is_not_overwritten() {
        let (registry, _folder) = open().await.unwrap();
        super::a_changed_column_is_not_overwritten(&registry, async |sql| execute(&registry, sql).await).await;
    }

    #[tokio::test]
    async fn the_origin_says_whether_a_client_is_dynamic() {
        let (registry, _folder) = open().await.unwrap();
        super::the_origin_says_whether_a_client_is_dynamic(&registry, async |sql| execute(&registry, sql).await).await;
        // An origin of a later version is not trusted, and not listed as something else.
        registry.insert(client("app"), ClientOrigin::Configured).await.unwrap();
        execute(&registry, "UPDATE oauth_clients SET origin = 'later'".to_owned()).await;
        assert!(registry.find_client("app").await.unwrap().unwrap().is_dynamic());
        assert!(cause(&registry.record("app").await.unwrap_err()).contains("\"later\""));
    }

    #[tokio::test]
    async fn a_client_that_its_document_switches_off_makes_no_room() {
        let (registry, _folder) = open().await.unwrap();
        let execute = async |sql| execute(&registry, sql).await;
        super::a_client_that_its_document_switches_off_makes_no_room(&registry, execute).await;
    }

    #[tokio::test]
    async fn columns_of_old_rows_are_filled_from_their_documents() {
        let folder = tempfile::tempdir().unwrap();
        let registry = SqliteRegistry::connect(&url(folder.path())).await.unwrap();
        old_migrator("BINARY", &[]).run(registry.pool()).await.unwrap();
        execute(&registry, OLD_ROWS.to_owned()).await;
        registry.migrate().await.unwrap();
        let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(COLUMNS).fetch_all(registry.pool()).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|(id, disabled, end)| (&**id, *disabled, *end)).collect();
        assert_eq!(rows, COLUMNS_AFTER);
        let sources: Vec<(String, String)> = sqlx::query_as(SOURCES).fetch_all(registry.pool()).await.unwrap();
        assert_eq!(sources, [("source".to_owned(), "sé \"q\"".to_owned())]);
        let kept: (String, i64, i64, Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT origin, created_at, updated_at, last_used_at, revoked_at FROM oauth_clients WHERE client_id = 'agrees'",
        )
        .fetch_one(registry.pool())
        .await
        .unwrap();
        assert_eq!(kept, ("configured".to_owned(), 1, 2, Some(3), None));
        let index = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'oauth_clients_origin'";
        assert_eq!(sqlx::query_scalar::<_, i64>(index).fetch_one(registry.pool()).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn sources_and_uses_are_found_by_an_index() {
        let (registry, _folder) = open().await.unwrap();
        for (condition, index) in [
            ("source = 'a' AND created_at < 1", "oauth_clients_source"),
            ("last_used_at < 1", "oauth_clients_used"),
            ("created_at < 1 AND last_used_at IS NULL", "oauth_clients_origin"),
        ] {
            let query = format!(
                "EXPLAIN QUERY PLAN SELECT client_id FROM oauth_clients \
                WHERE origin = 'registered' AND revoked_at IS NULL AND disabled = 0 AND {condition}"
            );
            let plan = sqlx::query(AssertSqlSafe(query)).fetch_one(registry.pool()).await.unwrap();
            let plan: String = sqlx::Row::get(&plan, "detail");
            assert!(plan.contains(index), "{condition}: {plan}");
        }
    }

    #[tokio::test]
    async fn a_source_that_the_column_cannot_hold_is_not_written() {
        let (registry, _folder) = open().await.unwrap();
        for source in ["", "\0", "\u{e9}", &"a".repeat(2049)] {
            let client = client("app").to_builder().metadata("registration_source", source).build().unwrap();
            let refused = registry.insert(client, ClientOrigin::Registered).await;
            assert!(matches!(&refused, Err(StoreError::Registry(error)) if !error.is_transient()), "{refused:?}");
        }
        let longest = client("app").to_builder().metadata("registration_source", "a".repeat(2048)).build().unwrap();
        registry.insert(longest, ClientOrigin::Registered).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_starts_after_a_newer_version_has_migrated() {
        let (registry, folder) = open().await.unwrap();
        execute(&registry, LATER_MIGRATION.to_owned()).await;
        let older = SqliteRegistry::connect(&url(folder.path())).await.unwrap();
        older.migrate().await.unwrap();
    }

    #[tokio::test]
    async fn an_acknowledged_write_is_on_the_disk() {
        let (registry, _folder) = open().await.unwrap();
        assert_eq!(pragma::<i64>(&registry, "synchronous").await, 2, "FULL");
        assert_eq!(pragma::<String>(&registry, "journal_mode").await, "wal");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_new_file_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let (registry, folder) = open().await.unwrap();
        registry.insert(client("app"), ClientOrigin::Configured).await.unwrap();
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert!(files.len() >= 2, "the file and its journal");
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
        // What the operator chose stays.
        let path = folder.path().join("shared.sqlite");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        SqliteRegistry::connect(&format!("sqlite://{}", path.display())).await.unwrap().migrate().await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[tokio::test]
    async fn a_missing_file_is_not_created_where_the_address_forbids_it() {
        let folder = tempfile::tempdir().unwrap();
        for mode in ["ro", "rw"] {
            let url = format!("{}?mode={mode}", url(folder.path()));
            assert!(!SqliteRegistry::connect(&url).await.unwrap_err().is_transient());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing_folder = SqliteRegistry::connect(&url(&folder.path().join("missing"))).await.unwrap_err();
        assert!(!missing_folder.is_transient());
    }

    #[tokio::test]
    async fn the_default_limits_are_the_documented_ones() {
        let folder = tempfile::tempdir().unwrap();
        let registry = SqliteRegistry::connect(&url(folder.path())).await.unwrap();
        assert_eq!(registry.pool().options().get_max_connections(), 10);
        assert_eq!(registry.pool().options().get_acquire_timeout(), Duration::from_secs(2));
        assert_eq!(pragma::<i64>(&registry, "busy_timeout").await, 2000);
        assert!(format!("{:?}", SqlConfig::default()).contains("probe_interval: 15s"));
    }

    #[tokio::test]
    async fn limits_that_cannot_work_are_refused_by_name() {
        let pool = SqliteRegistry::connect("sqlite::memory:").await.unwrap().pool().clone();
        let zero = Duration::ZERO;
        for (setting, config) in [
            ("max_connections", SqlConfig::default().max_connections(0)),
            ("acquire_timeout", SqlConfig::default().acquire_timeout(zero)),
            ("statement_timeout", SqlConfig::default().statement_timeout(zero)),
            ("probe_interval", SqlConfig::default().probe_interval(zero)),
        ] {
            let refused = SqliteRegistry::connect_with("sqlite::memory:", config.clone()).await.unwrap_err();
            assert_eq!(cause(&refused), format!("{setting} must not be zero"));
            assert!(!refused.is_transient());
            assert!(SqliteRegistry::from_pool(pool.clone(), config).is_err());
        }
        let endless = Duration::MAX;
        let config = SqlConfig::default().acquire_timeout(endless).statement_timeout(endless).probe_interval(endless);
        let registry = SqliteRegistry::connect_with("sqlite::memory:", config).await.unwrap();
        registry.migrate().await.unwrap();
        assert!(registry.find_client("app").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_application_can_pass_its_own_pool() {
        let (registry, _folder) = open().await.unwrap();
        let same = SqliteRegistry::from_pool(registry.pool().clone(), SqlConfig::default()).unwrap();
        same.insert(client("app"), ClientOrigin::Configured).await.unwrap();
        assert!(registry.find_client("app").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_registry_can_be_opened_in_another_task() {
        let folder = tempfile::tempdir().unwrap();
        let url = url(folder.path());
        let opened = tokio::spawn(async move { SqliteRegistry::connect(&url).await?.migrate().await });
        in_time(opened).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn clients_survive_a_restart() {
        let (registry, folder) = open().await.unwrap();
        registry.insert(client("app"), ClientOrigin::Configured).await.unwrap();
        registry.insert(client("revoked"), ClientOrigin::Configured).await.unwrap();
        registry.revoke("revoked").await.unwrap();
        registry.close().await;
        let closed = registry.find_client("app").await.unwrap_err();
        assert!(closed.is_transient());

        let registry = SqliteRegistry::connect(&url(folder.path())).await.unwrap();
        registry.migrate().await.unwrap();
        assert_eq!(*registry.find_client("app").await.unwrap().unwrap(), client("app"));
        assert_eq!(registry.find_client("revoked").await.unwrap().unwrap().status(), ClientStatus::Revoked);
    }

    #[tokio::test]
    async fn a_database_in_memory_is_one_database() {
        let registry = SqliteRegistry::connect("sqlite::memory:").await.unwrap();
        registry.migrate().await.unwrap();
        for n in 0..20 {
            registry.insert(client(&format!("{n}")), ClientOrigin::Registered).await.unwrap();
        }
        assert_eq!(registry.count(ClientOrigin::Registered).await.unwrap(), 20);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrent_migrations_succeed() {
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let url = url(folder.path());
            let nodes = (0..8).map(|_| {
                let url = url.clone();
                tokio::spawn(async move { SqliteRegistry::connect(&url).await?.migrate().await })
            });
            for migrated in in_time(futures::future::join_all(nodes)).await {
                migrated.unwrap().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_migration_waits_for_others_longer_than_a_statement_may_take() {
        let folder = tempfile::tempdir().unwrap();
        let config = SqlConfig::default().statement_timeout(Duration::from_millis(30));
        let registry = SqliteRegistry::connect_with(&url(folder.path()), config).await.unwrap();
        let mut other = other_connection(folder.path()).await;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        let mut migrating = tokio::spawn(async move { registry.migrate().await });
        let gave_up = tokio::time::timeout(Duration::from_millis(300), &mut migrating).await;
        assert!(gave_up.is_err(), "{gave_up:?}");
        sqlx::query("COMMIT").execute(&mut other).await.unwrap();
        in_time(migrating).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_locked_out_writer_gets_a_transient_error() {
        let (_, folder) = open().await.unwrap();
        let config = SqlConfig::default().statement_timeout(Duration::from_millis(30));
        let registry = SqliteRegistry::connect_with(&url(folder.path()), config).await.unwrap();
        let mut other = other_connection(folder.path()).await;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        let locked = registry.insert(client("app"), ClientOrigin::Registered).await;
        assert!(matches!(&locked, Err(StoreError::Registry(error)) if error.is_transient()), "{locked:?}");
        assert!(registry.find_client("app").await.unwrap().is_none());
        sqlx::query("COMMIT").execute(&mut other).await.unwrap();
        registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
    }

    #[tokio::test]
    async fn an_exhausted_pool_is_transient_and_recovers() {
        let (_, folder) = open().await.unwrap();
        let config = SqlConfig::default().max_connections(1).acquire_timeout(Duration::from_millis(30));
        let registry = SqliteRegistry::connect_with(&url(folder.path()), config).await.unwrap();
        let held = registry.pool().acquire().await.unwrap();
        assert!(registry.find_client("app").await.unwrap_err().is_transient());
        drop(held);
        // The connection returns to the pool in the background.
        assert!(until_answered(&registry, "app").await.is_none());
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_is_named() {
        let (registry, _folder) = open().await.unwrap();
        for id in ["syntax", "rule", "other", "fine"] {
            registry.insert(client(id), ClientOrigin::Registered).await.unwrap();
        }
        let spoilt = [
            ("syntax", r#"{"client_id": "#),
            ("rule", r#"{"client_id": "rule", "redirect_uris": "https://app.example/cb"}"#),
            ("other", r#"{"client_id": "fine"}"#),
        ];
        for (id, metadata) in spoilt {
            let update = sqlx::query("UPDATE oauth_clients SET metadata = $2 WHERE client_id = $1");
            update.bind(id).bind(metadata).execute(registry.pool()).await.unwrap();
            let error = registry.find_client(id).await.unwrap_err();
            assert!(!error.is_transient());
            assert!(cause(&error).contains(&format!("{id:?}")), "{}", cause(&error));
            assert!(cause(&registry.record(id).await.unwrap_err()).contains(id));
        }
        assert!(registry.find_client("fine").await.unwrap().is_some());
        assert!(!registry.list(None, 10).await.unwrap_err().is_transient());
        registry.revoke("syntax").await.unwrap();
        for (id, _) in spoilt {
            registry.remove(id).await.unwrap();
        }
        assert_eq!(registry.list(None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_client_whose_id_is_too_long_is_not_written() {
        let (registry, _folder) = open().await.unwrap();
        let client = Client::builder("x".repeat(2049)).build().unwrap();
        let id = client.id().to_owned();
        let refused = registry.insert(client, ClientOrigin::Registered).await;
        assert!(matches!(&refused, Err(StoreError::Registry(error)) if !error.is_transient()), "{refused:?}");
        assert!(registry.find_client(&id).await.unwrap().is_none());
        assert!(registry.list(None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_insecure_redirect_uri_is_read_back_as_it_was_written() {
        let (registry, _folder) = open().await.unwrap();
        let insecure = RedirectUri::insecure_http("http://intranet.example/cb").unwrap();
        let client = Client::builder("http").parsed_redirect_uri(insecure).build().unwrap();
        registry.insert(client.clone(), ClientOrigin::Configured).await.unwrap();
        assert_eq!(registry.find_client("http").await.unwrap().unwrap().redirect_uris(), client.redirect_uris());
    }

    #[tokio::test]
    async fn a_stored_redirect_uri_that_breaks_a_rule_is_left_out() {
        let (registry, _folder) = open().await.unwrap();
        registry.insert(client("app"), ClientOrigin::Configured).await.unwrap();
        let uris = r#"["https://app.example/cb", "http://evil.example/", "https://app.example/#fragment"]"#;
        let metadata =
            format!(r#"{{"client_id": "app", "token_endpoint_auth_method": "none", "redirect_uris": {uris}}}"#);
        execute(&registry, format!("UPDATE oauth_clients SET metadata = '{metadata}'")).await;
        assert_eq!(*registry.find_client("app").await.unwrap().unwrap(), client("app"));
        assert_eq!(registry.list(None, 10).await.unwrap().len(), 1);
        // A change drops them.
        let read = registry.record("app").await.unwrap().unwrap().client;
        registry.replace_unchanged(&read, read.to_builder().build().unwrap()).await.unwrap();
        let stored: String =
            sqlx::query_scalar("SELECT metadata FROM oauth_clients").fetch_one(registry.pool()).await.unwrap();
        assert!(!stored.contains("evil.example"), "{stored}");
    }

    #[tokio::test]
    async fn a_missing_table_is_a_permanent_failure() {
        let registry = SqliteRegistry::connect("sqlite::memory:").await.unwrap();
        assert!(!registry.find_client("app").await.unwrap_err().is_transient());
        assert!(!SqliteRegistry::connect("nothing://").await.unwrap_err().is_transient());
    }
}

/// Asks until there is an answer; every failure before it must be transient.
async fn until_answered(registry: &impl RegistrySource, id: &str) -> Option<std::sync::Arc<Client>> {
    eventually(async || match registry.find_client(id).await {
        Ok(found) => Some(found),
        Err(error) => {
            assert!(error.is_transient(), "{}", cause(&error));
            None
        }
    })
    .await
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use sqlx::{Connection, PgConnection, Row};
    use tokio::sync::watch;
    use tower_oauth_client_validation::{PostgresRegistry, SqlConfig};

    use super::*;
    use crate::postgres_cluster::{Cluster, signal};

    async fn open() -> Option<(PostgresRegistry, ())> {
        Some((Cluster::shared()?.registry().await, ()))
    }

    contract!(contract, super::open);

    async fn execute(registry: &PostgresRegistry, sql: String) {
        sqlx::query(AssertSqlSafe(sql)).execute(registry.pool()).await.unwrap();
    }

    fn patient() -> SqlConfig {
        SqlConfig::default().acquire_timeout(Duration::from_secs(20))
    }

    fn database_name(registry: &PostgresRegistry) -> String {
        registry.pool().connect_options().get_database().unwrap().to_owned()
    }

    /// The server processes of a database that are in a state.
    async fn processes(cluster: &Cluster, database: &str, state: &'static str) -> Vec<i32> {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = $1 AND {state}");
        let processes = sqlx::query_scalar(AssertSqlSafe(sql)).bind(database);
        processes.fetch_all(&mut cluster.connect().await).await.unwrap()
    }

    const WAITS_FOR_A_LOCK: &str = "wait_event_type = 'Lock'";
    /// A probe is the last query of a connection that has listened for a while.
    const LISTENS: &str = "(query LIKE 'LISTEN%' OR query = 'SELECT 1')";

    #[tokio::test]
    async fn the_stricter_of_column_and_document_applies() {
        let Some((registry, ())) = open().await else { return };
        super::the_stricter_of_column_and_document_applies(&registry, async |sql| execute(&registry, sql).await).await;
    }

    #[tokio::test]
    async fn a_changed_column_is_not_overwritten() {
        let Some((registry, ())) = open().await else { return };
        super::a_changed_column_is_not_overwritten(&registry, async |sql| execute(&registry, sql).await).await;
    }

    #[tokio::test]
    async fn the_origin_says_whether_a_client_is_dynamic() {
        let Some((registry, ())) = open().await else { return };
        super::the_origin_says_whether_a_client_is_dynamic(&registry, async |sql| execute(&registry, sql).await).await;
    }

    #[tokio::test]
    async fn a_client_that_its_document_switches_off_makes_no_room() {
        let Some((registry, ())) = open().await else { return };
        let execute = async |sql| execute(&registry, sql).await;
        super::a_client_that_its_document_switches_off_makes_no_room(&registry, execute).await;
    }

    #[tokio::test]
    async fn columns_of_old_rows_are_filled_from_their_documents() {
        let Some(cluster) = Cluster::shared() else { return };
        let registry = PostgresRegistry::connect_with(&cluster.database().await, patient()).await.unwrap();
        let notify = (2, "notify", include_str!("../src/registry/sql/migrations/2_notify.sql"));
        old_migrator("\"C\"", &[notify]).run(registry.pool()).await.unwrap();
        execute(&registry, OLD_ROWS.to_owned()).await;
        registry.migrate().await.unwrap();
        let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(COLUMNS).fetch_all(registry.pool()).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|(id, disabled, end)| (&**id, *disabled, *end)).collect();
        assert_eq!(rows, COLUMNS_AFTER);
        let sources: Vec<(String, String)> = sqlx::query_as(SOURCES).fetch_all(registry.pool()).await.unwrap();
        assert_eq!(sources, [("source".to_owned(), "sé \"q\"".to_owned())]);
    }

    #[tokio::test]
    async fn a_node_starts_after_a_newer_version_has_migrated() {
        let Some((registry, ())) = open().await else { return };
        execute(&registry, LATER_MIGRATION.to_owned()).await;
        registry.migrate().await.unwrap();
    }

    #[tokio::test]
    async fn a_remote_server_must_prove_its_name() {
        for (address, mode) in [
            ("postgres://oauth@db.example/oauth", "VerifyFull"),
            ("postgresql://oauth@db.example:6432/oauth?application_name=x", "VerifyFull"),
            ("postgres://oauth@192.0.2.1/oauth", "VerifyFull"),
            ("postgres://oauth@[2001:db8::1]/oauth", "VerifyFull"),
            ("postgres://oauth@localhost.example/oauth", "VerifyFull"),
            ("postgres://oauth@localhost/oauth?host=db.example", "VerifyFull"),
            ("postgres://oauth@db.example/oauth?sslmode=require", "Require"),
            ("postgres://oauth@db.example/oauth?ssl-mode=disable", "Disable"),
            ("postgres://oauth@localhost/oauth", "Prefer"),
            ("postgres://oauth@127.0.0.1/oauth", "Prefer"),
            ("postgres://oauth@127.9.9.9/oauth", "Prefer"),
            ("postgres://oauth@[::1]/oauth", "Prefer"),
            ("postgres://oauth@%2Frun%2Fpostgresql/oauth", "Prefer"),
            ("postgres://oauth@db.example/oauth?host=/run/postgresql", "Prefer"),
            ("postgres://oauth@localhost/oauth?sslmode=verify-full", "VerifyFull"),
        ] {
            let registry = PostgresRegistry::connect_lazy(address, SqlConfig::default()).unwrap();
            assert_eq!(format!("{:?}", registry.pool().connect_options().get_ssl_mode()), mode, "{address}");
        }
    }

    #[tokio::test]
    async fn the_server_ends_a_statement_that_takes_too_long() {
        let Some(cluster) = Cluster::shared() else { return };
        let registry = cluster.registry_with(patient().statement_timeout(Duration::from_millis(300))).await;
        let limit: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(registry.pool()).await.unwrap();
        assert_eq!(limit, "300ms");
        let mut lock = PgConnection::connect_with(&registry.pool().connect_options()).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE oauth_clients").execute(&mut lock).await.unwrap();
        assert!(registry.find_client("app").await.unwrap_err().is_transient());
        let database = database_name(&registry);
        eventually(async || processes(cluster, &database, WAITS_FOR_A_LOCK).await.is_empty().then_some(())).await;
    }

    /// Otherwise the connection would wait for the answer before it returns to the pool, here in vain.
    #[tokio::test]
    async fn a_cancelled_lookup_does_not_keep_its_connection() {
        let Some(cluster) = Cluster::shared() else { return };
        let config = SqlConfig::default().max_connections(1).statement_timeout(Duration::from_secs(3));
        let registry = cluster.registry_with(config).await;
        let mut lock = PgConnection::connect_with(&registry.pool().connect_options()).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE oauth_clients").execute(&mut lock).await.unwrap();
        let (database, waiting) = (database_name(&registry), registry.clone());
        let lookup = tokio::spawn(async move { while waiting.find_client("app").await.is_err() {} });
        let pid = eventually(async || processes(cluster, &database, WAITS_FOR_A_LOCK).await.first().copied()).await;
        signal("-STOP", &pid.to_string());
        lookup.abort();
        lock.close().await.unwrap();
        let found = until_answered(&registry, "app").await;
        signal("-CONT", &pid.to_string());
        assert!(found.is_none());
    }

    #[tokio::test]
    async fn changes_are_announced() {
        use futures::StreamExt;
        use tower_oauth_client_validation::Change;

        let Some((registry, ())) = open().await else { return };
        let mut changes = registry.changes();
        let mut next = async || in_time(changes.next()).await.unwrap();
        assert_eq!(next().await, Change::Reset);
        let app = || Change::Changed("app".to_owned());
        registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
        assert_eq!(next().await, app());
        registry.replace(client("app")).await.unwrap();
        assert_eq!(next().await, app());
        for columns in ["disabled = 1", "expires_at = 1", "metadata = ''", "origin = 'upstream'", "revoked_at = 1"] {
            execute(&registry, format!("UPDATE oauth_clients SET {columns}")).await;
            assert_eq!(next().await, app(), "{columns}");
        }
        // A use is no change: the next announcement is that of the removal.
        registry.touch("app", SystemTime::now()).await.unwrap();
        execute(&registry, "UPDATE oauth_clients SET client_id = 'renamed'".to_owned()).await;
        assert_eq!([next().await, next().await], [app(), Change::Changed("renamed".to_owned())]);
        registry.remove("renamed").await.unwrap();
        assert_eq!(next().await, Change::Changed("renamed".to_owned()));

        // The payload of an announcement has less than 8,000 bytes.
        for (bytes, change) in [(7999, Change::Changed("x".repeat(7999))), (8000, Change::Reset)] {
            let insert = format!(
                "INSERT INTO oauth_clients (client_id, metadata, origin, created_at, updated_at) \
                VALUES (repeat('x', {bytes}), '', 'registered', 1, 1)"
            );
            execute(&registry, insert).await;
            assert_eq!(next().await, change);
        }
        execute(&registry, "TRUNCATE oauth_clients".to_owned()).await;
        assert_eq!(next().await, Change::Reset);
    }

    #[tokio::test]
    async fn a_silent_connection_is_probed() {
        use futures::StreamExt;
        use tower_oauth_client_validation::Change;

        let Some(cluster) = Cluster::shared() else { return };
        let registry = cluster.registry_with(patient().probe_interval(Duration::from_millis(200))).await;
        let mut changes = registry.changes();
        assert_eq!(in_time(changes.next()).await, Some(Change::Reset));
        let database = database_name(&registry);
        let pid = eventually(async || processes(cluster, &database, LISTENS).await.first().copied()).await;
        signal("-STOP", &pid.to_string());
        let reset = in_time(changes.next()).await;
        signal("-CONT", &pid.to_string());
        assert_eq!(reset, Some(Change::Reset));
    }

    #[tokio::test]
    async fn concurrent_migrations_beside_other_tables_succeed() {
        let Some(cluster) = Cluster::shared() else { return };
        let url = cluster.database().await;
        let mut other = PgConnection::connect(&url).await.unwrap();
        sqlx::query("CREATE TABLE _sqlx_migrations (version BIGINT)").execute(&mut other).await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (20010101)").execute(&mut other).await.unwrap();
        let nodes = (0..8).map(|_| async {
            let config = SqlConfig::default().acquire_timeout(Duration::from_secs(20));
            let registry = PostgresRegistry::connect_with(&url, config).await?;
            assert!(!registry.find_client("app").await.is_err_and(|error| error.is_transient()));
            registry.migrate().await?;
            registry.migrate().await?;
            registry.find_client("app").await
        });
        for found in futures::future::join_all(nodes).await {
            assert!(found.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_statement_timeout_is_transient_and_recovers() {
        let Some(cluster) = Cluster::shared() else { return };
        let config =
            SqlConfig::default().acquire_timeout(Duration::from_secs(20)).statement_timeout(Duration::from_millis(50));
        let registry = cluster.registry_with(config).await;
        let mut held = registry.pool().begin().await.unwrap();
        sqlx::query("LOCK TABLE oauth_clients IN ACCESS EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
        let error = registry.find_client("app").await.unwrap_err();
        assert!(error.is_transient(), "{}", cause(&error));
        held.rollback().await.unwrap();
        assert!(until_answered(&registry, "app").await.is_none());
    }

    #[tokio::test]
    async fn a_stopped_server_is_transient() {
        let Some(cluster) = Cluster::shared() else { return };
        let config = SqlConfig::default()
            .max_connections(1)
            .acquire_timeout(Duration::from_millis(500))
            .statement_timeout(Duration::from_millis(100));
        let registry = cluster.registry_with(config).await;
        let pid =
            eventually(async || sqlx::query("SELECT pg_backend_pid()").fetch_one(registry.pool()).await.ok()).await;
        let pid: i32 = pid.get(0);
        eventually(async || (registry.pool().num_idle() == 1).then_some(())).await;
        signal("-STOP", &pid.to_string());
        let error = registry.find_client("app").await.unwrap_err();
        // The next connection has another server process.
        let healed = until_answered(&registry, "app").await;
        signal("-CONT", &pid.to_string());
        assert!(error.is_transient(), "{}", cause(&error));
        assert!(healed.is_none());
    }

    #[tokio::test]
    async fn a_fault_that_needs_an_operator_is_permanent() {
        let Some(cluster) = Cluster::shared() else { return };
        let config = || SqlConfig::default().acquire_timeout(Duration::from_secs(20));
        cluster.connect().await;
        let missing = PostgresRegistry::connect_with(&cluster.url("missing"), config()).await.unwrap_err();
        assert!(!missing.is_transient(), "{}", cause(&missing));
        let empty = PostgresRegistry::connect_with(&cluster.database().await, config()).await.unwrap();
        assert!(!empty.find_client("app").await.unwrap_err().is_transient());
        assert!(PostgresRegistry::connect_lazy("nothing://", config()).is_err());
    }

    #[tokio::test]
    async fn an_unreachable_server_is_transient() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("postgres://oauth@localhost/oauth?host={}", folder.path().display());
        let config = SqlConfig::default().acquire_timeout(Duration::from_millis(30));
        let registry = PostgresRegistry::connect_lazy(&url, config.clone()).unwrap();
        let error = registry.find_client("app").await.unwrap_err();
        assert!(error.is_transient(), "{}", cause(&error));
        let nobody_listens = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let registry = PostgresRegistry::connect_lazy(&format!("postgres://oauth@{nobody_listens}/oauth"), config);
        let error = registry.unwrap().find_client("app").await.unwrap_err();
        assert!(error.is_transient(), "{}", cause(&error));
    }

    /// Known clients, revoked ones and unknown ones are asked for while the server is killed and started again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_server_gives_no_wrong_answer() {
        let Some(cluster) = Cluster::new() else { return };
        cluster.connect().await;
        let config = SqlConfig::default().acquire_timeout(Duration::from_millis(500));
        let url = cluster.database().await;
        let registry = PostgresRegistry::connect_with(&url, config).await.unwrap();
        registry.migrate().await.unwrap();
        registry.insert(client("known"), ClientOrigin::Configured).await.unwrap();
        registry.insert(client("revoked"), ClientOrigin::Configured).await.unwrap();
        registry.revoke("revoked").await.unwrap();

        let load = Arc::new(Load::new());
        let tasks: Vec<_> = (0..6)
            .map(|task| {
                let (registry, load) = (registry.clone(), Arc::clone(&load));
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    for n in 0.. {
                        if load.stop.load(Ordering::Relaxed) {
                            break;
                        }
                        load.count(&registry.find_client("known").await.map(|found| {
                            assert_eq!(found.as_deref(), Some(&client("known")));
                        }));
                        load.count(&registry.find_client("revoked").await.map(|found| {
                            assert_eq!(found.unwrap().status(), ClientStatus::Revoked);
                        }));
                        load.count(&registry.find_client("unknown").await.map(|found| assert!(found.is_none())));
                        let id = format!("{task}-{n}");
                        match registry.insert(client(&id), ClientOrigin::Configured).await {
                            Ok(_) => acknowledged.push(id),
                            Err(StoreError::Registry(error)) => load.count(&Err(error)),
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    acknowledged
                })
            })
            .collect();

        for _ in 0..3 {
            load.more(Counts { answered: 200, failed: 0 }).await;
            cluster.kill();
            load.more(Counts { answered: 0, failed: 6 }).await;
            cluster.start();
            drop(cluster.connect().await);
        }
        load.more(Counts { answered: 200, failed: 0 }).await;
        load.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for task in tasks {
            acknowledged.extend(in_time(task).await.unwrap());
        }
        assert!(!acknowledged.is_empty());
        for id in acknowledged {
            assert_eq!(until_answered(&registry, &id).await.as_deref(), Some(&client(&id)));
        }
    }

    /// Two nodes with one database.
    #[cfg(feature = "cache")]
    #[tokio::test]
    async fn a_client_revoked_by_one_node_is_revoked_for_the_other() {
        use futures::StreamExt;
        use tower_oauth_client_validation::{CacheConfig, CachedRegistry, Change};

        let Some(cluster) = Cluster::shared() else { return };
        let database = cluster.registry().await;
        // Nothing but a change ends what the cache holds.
        let hour = Duration::from_secs(3600);
        let node = || {
            let options = CacheConfig::new().ttl(hour).negative_ttl(hour);
            CachedRegistry::with_config(database.clone(), options)
        };
        let (one, other) = (node(), node());
        let (heard, mut changes) = futures::channel::mpsc::unbounded();
        let following = other.follow(database.changes().map(move |change| {
            heard.unbounded_send(change.clone()).unwrap();
            change
        }));
        let following = tokio::spawn(following);
        assert_eq!(in_time(changes.next()).await, Some(Change::Reset));

        assert!(other.find_client("app").await.unwrap().is_none());
        one.insert(client("app"), ClientOrigin::Registered).await.unwrap();
        assert_eq!(in_time(changes.next()).await, Some(Change::Changed("app".to_owned())));
        until(&other, |found| found.is_some()).await;
        one.touch("app", std::time::SystemTime::now()).await.unwrap();
        one.revoke("app").await.unwrap();
        assert_eq!(in_time(changes.next()).await, Some(Change::Changed("app".to_owned())));
        until(&other, |found| found.unwrap().status() == ClientStatus::Revoked).await;

        // What is missed while the connection is lost is made good.
        let database_name = database.pool().connect_options().get_database().unwrap().to_owned();
        let listening =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'LISTEN%'";
        let ended = sqlx::query(listening).bind(database_name).fetch_all(&mut cluster.connect().await).await.unwrap();
        assert_eq!(ended.len(), 1);
        one.remove("app").await.unwrap();
        while in_time(changes.next()).await != Some(Change::Reset) {}
        until(&other, |found| found.is_none()).await;

        // The removal may be announced after it, if the connection was restored in time.
        sqlx::query("TRUNCATE oauth_clients").execute(database.pool()).await.unwrap();
        while in_time(changes.next()).await != Some(Change::Reset) {}
        following.abort();
    }

    #[cfg(feature = "cache")]
    async fn until(registry: &impl RegistrySource, is_so: impl Fn(Option<Arc<Client>>) -> bool) {
        eventually(async || is_so(registry.find_client("app").await.unwrap()).then_some(())).await;
    }

    /// What a test has seen, so that it can wait for more.
    struct Load {
        stop: AtomicBool,
        counts: watch::Sender<Counts>,
    }

    #[derive(Clone, Copy)]
    struct Counts {
        answered: usize,
        failed: usize,
    }

    impl Load {
        fn new() -> Self {
            Self { stop: AtomicBool::new(false), counts: watch::Sender::new(Counts { answered: 0, failed: 0 }) }
        }

        fn count(&self, outcome: &Result<(), RegistryError>) {
            match outcome {
                Ok(()) => self.counts.send_modify(|counts| counts.answered += 1),
                Err(error) => {
                    assert!(error.is_transient(), "{}", cause(error));
                    self.counts.send_modify(|counts| counts.failed += 1);
                }
            }
        }

        async fn more(&self, more: Counts) {
            let start = *self.counts.borrow();
            let is_reached = |counts: &Counts| {
                counts.answered >= start.answered + more.answered && counts.failed >= start.failed + more.failed
            };
            in_time(self.counts.subscribe().wait_for(is_reached)).await.unwrap();
        }
    }
}
