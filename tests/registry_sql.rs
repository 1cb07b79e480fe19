//! Clients in SQLite and PostgreSQL, and what happens when these fail.

use std::error::Error;

use tower_oauth_client_validation::{Client, ClientOrigin, RegistryError, RegistrySource, RegistryStore};

use crate::contract::contract;
use crate::wait::{eventually, in_time};

fn client(id: &str) -> Client {
    Client::builder(id).redirect_uri("https://app.example/cb").build().unwrap()
}

fn cause(error: &RegistryError) -> String {
    error.source().unwrap().to_string()
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::path::Path;
    use std::time::Duration;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{Connection, SqliteConnection};
    use tempfile::TempDir;
    use tower_oauth_client_validation::{ClientStatus, RedirectUri, SqlConfig, SqliteRegistry, StoreError};

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

    #[tokio::test]
    async fn clients_survive_a_restart() {
        let (registry, folder) = open().await.unwrap();
        registry.insert(client("app"), ClientOrigin::Registered).await.unwrap();
        registry.insert(client("revoked"), ClientOrigin::Registered).await.unwrap();
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

    #[tokio::test]
    async fn many_may_migrate_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = url(folder.path());
        let nodes = (0..8).map(|_| async {
            let config = SqlConfig::default().statement_timeout(Duration::from_secs(20));
            let registry = SqliteRegistry::connect_with(&url, config).await?;
            registry.migrate().await
        });
        for migrated in futures::future::join_all(nodes).await {
            migrated.unwrap();
        }
    }

    #[tokio::test]
    async fn a_writer_that_is_locked_out_may_try_again() {
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
    async fn an_exhausted_pool_is_transient_and_heals() {
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
        for id in ["syntax", "rule", "other", "origin", "fine"] {
            registry.insert(client(id), ClientOrigin::Registered).await.unwrap();
        }
        let spoilt = [
            ("syntax", r#"{"client_id": "#),
            ("rule", r#"{"client_id": "rule", "redirect_uris": ["http://evil.example/"]}"#),
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
        assert_eq!(registry.list(None, 10).await.unwrap().len(), 2);
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
    use tower_oauth_client_validation::{ClientStatus, PostgresRegistry, SqlConfig, StoreError};

    use super::*;
    use crate::postgres_cluster::{Cluster, signal};

    async fn open() -> Option<(PostgresRegistry, ())> {
        Some((Cluster::shared()?.registry().await, ()))
    }

    contract!(contract, super::open);

    #[tokio::test]
    async fn many_may_migrate_at_once_beside_other_tables() {
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
    async fn a_statement_that_takes_too_long_is_transient_and_heals() {
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
    async fn a_server_that_stands_still_is_transient() {
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
    async fn what_somebody_must_mend_is_permanent() {
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
    async fn a_server_that_is_away_is_transient() {
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
                        match registry.insert(client(&id), ClientOrigin::Registered).await {
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

        // The removal may be told after it, where the connection was there again in time.
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
