use std::time::Duration;
use std::{fmt, str};

use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, FromRedisValue, RedisError, Value};

use super::bounds::{NewValue, is_key};
use super::{StateBounds, StateError, StateStore};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Stores a value that is counted in two sorted sets, of its owner and of its kind, which are ordered by expiry.
/// Returns 1 if it was stored, 0 if the key has a live value, and -1 if a bound is reached.
const PUT_BOUNDED: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = now + ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
for set = 2, 3 do
    redis.call('ZREMRANGEBYSCORE', KEYS[set], '-inf', now)
    if redis.call('ZCARD', KEYS[set]) >= tonumber(ARGV[set + 1]) then return -1 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for set = 2, 3 do
    redis.call('ZADD', KEYS[set], expiry, KEYS[1])
    if redis.call('PTTL', KEYS[set]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[set], ARGV[2]) end
end
return 1
";

/// Facts in Redis or Valkey, shared by many nodes. Clones share the connection.
///
/// The server must have version 6.2 or later and be no cluster. Its keys begin with `oauth-state:`.
///
/// # What the server must keep
///
/// A server that loses a fact lets an assertion or a pushed request be used again. So let it write each change to the
/// disk before it answers (`appendonly yes`, `appendfsync always`; with `everysec` a crash loses a second), never evict
/// keys (`maxmemory-policy noeviction`), and fail over only to a replica that has everything. [`connect`](Self::connect)
/// logs a warning when the server says that it does otherwise.
///
/// # Encryption
///
/// `rediss://` needs the feature `tokio-rustls-comp` of the `redis` crate in your own dependencies. Over an unencrypted
/// `redis://`, anyone on the network path can read passwords and pushed requests.
#[derive(Clone)]
pub struct RedisStateStore {
    connection: ConnectionManager,
    timeout: Duration,
}

impl RedisStateStore {
    /// Connects to `redis://USER:PASSWORD@HOST:PORT/DATABASE` or `unix:///PATH`. A lost connection is opened again.
    ///
    /// # Errors
    ///
    /// When the URL is malformed or the server cannot be reached within two seconds.
    pub async fn connect(url: &str) -> Result<Self, StateError> {
        let client = redis::Client::open(url).map_err(state_error)?;
        let config = ConnectionManagerConfig::new()
            // The next call tries again.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(DEFAULT_TIMEOUT))
            .set_response_timeout(None);
        let connecting = ConnectionManager::new_with_config(client, config);
        let connected = tokio::time::timeout(DEFAULT_TIMEOUT, connecting).await.map_err(StateError::unavailable)?;
        let store = Self::from_connection(connected.map_err(state_error)?);
        store.warn_of_loss().await;
        Ok(store)
    }

    /// Uses a connection that the application has already, or one with other settings.
    #[must_use]
    pub fn from_connection(connection: ConnectionManager) -> Self {
        Self { connection, timeout: DEFAULT_TIMEOUT }
    }

    /// Sets how long an operation may take (default: 2 s).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StateError> {
        let mut connection = self.connection.clone();
        let answer = tokio::time::timeout(self.timeout, command.query_async(&mut connection)).await;
        answer.map_err(StateError::unavailable)?.map_err(state_error)
    }

    async fn put(&self, command: Result<Cmd, StateError>) -> Result<bool, StateError> {
        match self.run(command?).await? {
            Value::Okay | Value::Int(1) => Ok(true),
            Value::Nil | Value::Int(0) => Ok(false),
            Value::Int(-1) => Err(StateError::full()),
            _ => Err(StateError::failed("Redis gave an unexpected answer")),
        }
    }

    async fn take(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let stored: Option<Vec<u8>> = self.run(with_key("GETDEL", key)).await?;
        let Some(stored) = stored else { return Ok(None) };
        let (group, value) = decode(&stored)?;
        if let Some((kind, owner)) = group {
            // It is no longer counted. Should this fail, it is until it expires.
            let mut uncount = redis::pipe();
            for set in [owner_set(kind, owner), kind_set(kind)] {
                uncount.zrem(set, value_key(key)).ignore();
            }
            let (mut connection, timeout) = (self.connection.clone(), self.timeout);
            tokio::spawn(
                async move { tokio::time::timeout(timeout, uncount.query_async::<()>(&mut connection)).await },
            );
        }
        Ok(Some(value.to_vec()))
    }

    async fn warn_of_loss(&self) {
        let mut info = redis::cmd("INFO");
        info.arg("persistence").arg("memory");
        // A server that does not say may still be suitable.
        let Ok(info) = self.run::<String>(info).await else { return };
        let says = |line: &str| info.lines().any(|other| other.trim_end() == line);
        if says("aof_enabled:0") {
            tracing::warn!("Redis writes no append-only file: a restart forgets used assertions and pushed requests");
        }
        if info.contains("maxmemory_policy:") && !says("maxmemory_policy:noeviction") && !says("maxmemory:0") {
            tracing::warn!("Redis evicts keys when memory runs out, so that assertions could be used again");
        }
    }
}

impl StateStore for RedisStateStore {
    fn put_new_bounded(
        &self,
        key: &str,
        value: &[u8],
        lifetime: Duration,
        bounds: StateBounds<'_>,
    ) -> BoxFuture<'_, Result<bool, StateError>> {
        let command = NewValue::check(key, value, lifetime, bounds).map(|new| put_command(&new));
        self.put(command).boxed()
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        if !is_key(key) {
            return std::future::ready(Ok(None)).boxed();
        }
        let command = with_key("GET", key);
        async move {
            let stored: Option<Vec<u8>> = self.run(command).await?;
            stored.map(|stored| decode(&stored).map(|(_, value)| value.to_vec())).transpose()
        }
        .boxed()
    }

    fn take(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StateError>> {
        if !is_key(key) {
            return std::future::ready(Ok(None)).boxed();
        }
        let key = key.to_owned();
        async move { Self::take(self, &key).await }.boxed()
    }
}

impl fmt::Debug for RedisStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the connection, which has a password.
        f.debug_struct("RedisStateStore").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn put_command(new: &NewValue<'_>) -> Cmd {
    let milliseconds = u64::try_from(new.lifetime.as_millis()).unwrap_or(u64::MAX);
    let stored = encode(new.bounds.group(), new.value);
    let Some((kind, owner)) = new.bounds.group() else {
        let mut command = with_key("SET", new.key);
        command.arg(stored).arg("NX").arg("PX").arg(milliseconds);
        return command;
    };
    let mut command = redis::cmd("EVAL");
    command.arg(PUT_BOUNDED).arg(3).arg(value_key(new.key)).arg(owner_set(kind, owner)).arg(kind_set(kind));
    command.arg(stored).arg(milliseconds).arg(new.bounds.get_max_per_owner()).arg(new.bounds.get_max_in_all());
    command
}

fn with_key(command: &str, key: &str) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(value_key(key));
    command
}

fn value_key(key: &str) -> String {
    format!("oauth-state:value:{key}")
}

fn kind_set(kind: &str) -> String {
    format!("oauth-state:kind:{kind}")
}

fn owner_set(kind: &str, owner: &str) -> String {
    format!("oauth-state:owner:{}:{kind}{owner}", kind.len())
}

/// The value behind its group, which [`RedisStateStore::take`] needs: the lengths of kind and owner, and both.
fn encode(group: Option<(&str, &str)>, value: &[u8]) -> Vec<u8> {
    let (kind, owner) = group.unwrap_or_default();
    let length = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length(kind), &length(owner), kind.as_bytes(), owner.as_bytes(), value].concat()
}

fn decode(stored: &[u8]) -> Result<(Option<(&str, &str)>, &[u8]), StateError> {
    let split = || {
        let (kind, rest) = stored.split_first_chunk::<2>()?;
        let (owner, rest) = rest.split_first_chunk::<2>()?;
        let (kind, rest) = rest.split_at_checked(u16::from_be_bytes(*kind).into())?;
        let (owner, value) = rest.split_at_checked(u16::from_be_bytes(*owner).into())?;
        let group = (str::from_utf8(kind).ok()?, str::from_utf8(owner).ok()?);
        Some((Some(group).filter(|group| *group != ("", "")), value))
    };
    split().ok_or_else(|| StateError::failed("the value in Redis was not written by this library"))
}

/// Server errors that end without a change: loading, read-only, failing over, out of memory, unable to write.
const TRANSIENT_CODES: [&str; 9] =
    ["BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"];

fn state_error(error: RedisError) -> StateError {
    let is_transient = error.is_io_error()
        || error.is_unrecoverable_error()
        || error.code().is_some_and(|code| TRANSIENT_CODES.contains(&code));
    if is_transient { StateError::unavailable(error) } else { StateError::failed(error) }
}
