use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::RegistryError;
use super::super::can_be_known_elsewhere;
use super::super::store::{Record, RegistryStore, StoreError};
use super::SqlRegistry;
use super::row::{Row, columns, origin_name, parse_origin, seconds};
use super::statements::{self, Statements};
use crate::client::{Client, ClientOrigin, ClientStatus};
use crate::sql::{Access, Argument, SqlError};

impl<B: Statements> RegistryStore for SqlRegistry<B> {
    fn insert(&self, mut client: Client, origin: ClientOrigin) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        async move {
            client.set_origin(origin);
            let mut arguments = columns(&client)?;
            arguments.push(origin_name(origin).into());
            self.change(statements::INSERT, arguments, StoreError::AlreadyExists).await?;
            Ok(Arc::new(client))
        }
        .boxed()
    }

    fn replace(&self, client: Client) -> BoxFuture<'_, Result<Arc<Client>, StoreError>> {
        async move {
            let arguments = columns(&client)?;
            self.exchange(statements::REPLACE, arguments, client).await?.ok_or(StoreError::Missing)
        }
        .boxed()
    }

    fn replace_unchanged<'a>(
        &'a self,
        known: &'a Client,
        client: Client,
    ) -> BoxFuture<'a, Result<Arc<Client>, StoreError>> {
        async move {
            if client.id() != known.id() {
                return Err(StoreError::Changed);
            }
            let mut arguments = columns(&client)?;
            arguments.extend(self.unchanged(known).await?);
            self.exchange(statements::REPLACE_UNCHANGED, arguments, client).await?.ok_or(StoreError::Changed)
        }
        .boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.change_one(statements::REVOKE, client_id, Some(SystemTime::now()))
    }

    fn remove<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.change_one(statements::REMOVE, client_id, None)
    }

    fn remove_unchanged<'a>(&'a self, known: &'a Client) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut arguments = vec![known.id().into()];
            arguments.extend(self.unchanged(known).await?);
            self.change(statements::REMOVE_UNCHANGED, arguments, StoreError::Changed).await
        }
        .boxed()
    }

    fn touch<'a>(&'a self, client_id: &'a str, at: SystemTime) -> BoxFuture<'a, Result<(), StoreError>> {
        self.change_one(statements::TOUCH, client_id, Some(at))
    }

    fn record<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<Record>, RegistryError>> {
        async move { self.row(client_id).await?.map(|row| row.record(&self.warned)).transpose() }.boxed()
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<Record>, RegistryError>> {
        async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            // No id is empty or holds a NUL, which PostgreSQL does not take.
            let after = after.unwrap_or_default().replace('\0', "");
            let rows = self.pool.fetch(Access::Read, statements::LIST, vec![after.into(), limit.into()]).await?;
            rows.iter().map(|row| Row::read::<B>(row)?.record(&self.warned)).collect()
        }
        .boxed()
    }

    fn count(&self, origin: ClientOrigin) -> BoxFuture<'_, Result<u64, RegistryError>> {
        self.number(statements::COUNT, vec![origin_name(origin).into()]).boxed()
    }

    fn remove_unused(
        &self,
        origin: ClientOrigin,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'_, Result<Vec<String>, RegistryError>> {
        self.remove_many(B::REMOVE_UNUSED, origin, created_before, max, None).boxed()
    }

    fn count_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
    ) -> BoxFuture<'a, Result<u64, RegistryError>> {
        async move {
            match can_be_known_elsewhere(source) {
                true => self.number(statements::COUNT_OF_SOURCE, vec![origin_name(origin).into(), source.into()]).await,
                false => Ok(0),
            }
        }
        .boxed()
    }

    fn remove_unused_by_source<'a>(
        &'a self,
        origin: ClientOrigin,
        source: &'a str,
        created_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        self.remove_many(B::REMOVE_UNUSED_OF_SOURCE, origin, created_before, max, Some(source)).boxed()
    }

    fn remove_idle<'a>(
        &'a self,
        origin: ClientOrigin,
        source: Option<&'a str>,
        used_before: SystemTime,
        max: u64,
    ) -> BoxFuture<'a, Result<Vec<String>, RegistryError>> {
        let statement = if source.is_some() { B::REMOVE_IDLE_OF_SOURCE } else { B::REMOVE_IDLE };
        self.remove_many(statement, origin, used_before, max, source).boxed()
    }
}

impl<B: Statements> SqlRegistry<B> {
    /// Runs a statement for one client; `otherwise` is the error when there was no row to change.
    async fn change(
        &self,
        sql: &'static str,
        arguments: Vec<Argument>,
        otherwise: StoreError,
    ) -> Result<(), StoreError> {
        let changed = self.pool.execute(sql, arguments).await.map_err(RegistryError::from)?;
        if changed > 0 { Ok(()) } else { Err(otherwise) }
    }

    /// Runs a statement that counts.
    async fn number(&self, sql: &'static str, arguments: Vec<Argument>) -> Result<u64, RegistryError> {
        let rows = self.pool.fetch(Access::Read, sql, arguments).await?;
        let count = rows.first().map(|row| B::number(row, 0)).transpose().map_err(SqlError::new::<B>)?;
        Ok(count.flatten().and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Runs a statement that removes clients, and returns their ids.
    async fn remove_many(
        &self,
        sql: &'static str,
        origin: ClientOrigin,
        before: SystemTime,
        max: u64,
        source: Option<&str>,
    ) -> Result<Vec<String>, RegistryError> {
        if source.is_some_and(|source| !can_be_known_elsewhere(source)) {
            return Ok(Vec::new());
        }
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let mut arguments = vec![origin_name(origin).into(), seconds(before).into(), max.into()];
        arguments.extend(source.map(Argument::from));
        let rows = self.pool.fetch(Access::Write, sql, arguments).await?;
        let ids = rows.iter().map(|row| B::text(row, 0));
        Ok(ids.collect::<Result<_, _>>().map_err(SqlError::new::<B>)?)
    }

    /// Runs a statement that replaces one client, and answers the new one: its origin is that of the row.
    async fn exchange(
        &self,
        sql: &'static str,
        arguments: Vec<Argument>,
        mut client: Client,
    ) -> Result<Option<Arc<Client>>, StoreError> {
        let rows = self.pool.fetch(Access::Write, sql, arguments).await.map_err(RegistryError::from)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let origin = B::text(row, 0).map_err(|error| RegistryError::from(SqlError::new::<B>(error)))?;
        client.set_origin(parse_origin(&origin).unwrap_or(ClientOrigin::Registered));
        Ok(Some(Arc::new(client)))
    }

    fn change_one<'a>(
        &'a self,
        sql: &'static str,
        client_id: &'a str,
        at: Option<SystemTime>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            if !can_be_known_elsewhere(client_id) {
                return Err(StoreError::Missing);
            }
            let mut arguments = vec![client_id.into()];
            arguments.extend(at.map(|at| seconds(at).into()));
            self.change(sql, arguments, StoreError::Missing).await
        }
        .boxed()
    }

    /// The columns `metadata`, `expires_at` and `disabled` of a client that still is what the caller read. The document
    /// may be written in another way than [`Client::to_metadata`] writes it.
    async fn unchanged(&self, known: &Client) -> Result<[Argument; 3], StoreError> {
        let row = self.row(known.id()).await?.ok_or(StoreError::Missing)?;
        match row.client(&self.warned)? {
            client if client.status() == ClientStatus::Revoked => Err(StoreError::Missing),
            client if client == *known => Ok([row.metadata.into(), row.expires_at.into(), row.disabled.into()]),
            _ => Err(StoreError::Changed),
        }
    }
}
