use std::time::Duration;

use super::error::SqlError;

/// A day: long enough, and no clock overflows.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Limits of a store in a SQL database.
///
/// | setting | default |
/// |---|---|
/// | [`max_connections`](Self::max_connections) | 10 |
/// | [`acquire_timeout`](Self::acquire_timeout) | 2 s |
/// | [`statement_timeout`](Self::statement_timeout) | 2 s |
/// | [`probe_interval`](Self::probe_interval) | 15 s |
///
/// An operation ends after `acquire_timeout` plus `statement_timeout` at the latest. Values that cannot work, such as
/// zero, are refused by the function that takes the configuration. A time of more than a day counts as a day.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth_client_validation::SqlConfig;
///
/// let config = SqlConfig::default().max_connections(4).statement_timeout(Duration::from_millis(500));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqlConfig {
    pub(super) max_connections: u32,
    pub(super) acquire_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) probe_interval: Duration,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(2),
            probe_interval: Duration::from_secs(15),
        }
    }
}

impl SqlConfig {
    /// Sets how many connections are open at once (default: 10). A SQLite database in memory has one.
    pub fn max_connections(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Sets how long an operation waits for a connection, including the time to open one (default: 2 s).
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets how long a statement may run, including waiting for locks (default: 2 s).
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets after how much silence the connection of `PostgresRegistry::changes` is probed (default: 15 s). A probe
    /// that gets no answer for as long means that the connection is lost.
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval.min(MAX_TIMEOUT);
        self
    }

    pub(super) fn check(&self) -> Result<(), SqlError> {
        let refuse = |setting| Err(SqlError::permanent(format!("{setting} must not be zero")));
        if self.max_connections == 0 {
            return refuse("max_connections");
        }
        let times = [
            ("acquire_timeout", self.acquire_timeout),
            ("statement_timeout", self.statement_timeout),
            ("probe_interval", self.probe_interval),
        ];
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((setting, _)) => refuse(setting),
            None => Ok(()),
        }
    }

    pub(super) fn pool_options<B: sqlx::Database>(&self) -> sqlx::pool::PoolOptions<B> {
        sqlx::pool::PoolOptions::new().max_connections(self.max_connections).acquire_timeout(self.acquire_timeout)
    }
}
