use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tower::BoxError;

use super::super::store::{Record, registration_source};
use super::super::{MAX_ID_BYTES, RegistryError, can_be_known_elsewhere};
use crate::client::member::SOURCE_MEMBER;
use crate::client::{Client, ClientError, ClientOrigin, ClientStatus, from_unix_seconds, unix_seconds};
use crate::sql::{Argument, Backend, SqlError};

/// What the columns of `statements::FIND` hold.
#[derive(Debug)]
pub(super) struct Row {
    client_id: String,
    pub(super) metadata: String,
    origin: String,
    created_at: i64,
    updated_at: i64,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) disabled: Option<i64>,
}

impl Row {
    pub(super) fn read<B: Backend>(row: &B::Row) -> Result<Self, RegistryError> {
        let read = || -> sqlx::Result<Self> {
            Ok(Self {
                client_id: B::text(row, 0)?,
                metadata: B::text(row, 1)?,
                origin: B::text(row, 2)?,
                created_at: B::number(row, 3)?.unwrap_or_default(),
                updated_at: B::number(row, 4)?.unwrap_or_default(),
                last_used_at: B::number(row, 5)?,
                revoked_at: B::number(row, 6)?,
                expires_at: B::number(row, 7)?,
                disabled: B::number(row, 8)?,
            })
        };
        read().map_err(|error| SqlError::new::<B>(error).into())
    }

    /// The client as the stricter of its document and the columns has it: operators edit either.
    pub(super) fn client(&self, warned: &Warned) -> Result<Client, RegistryError> {
        let (mut client, dropped) = self.document().map_err(|source| self.unreadable(source))?;
        warned.warn_once(&self.client_id, &dropped);
        // An origin that this version does not know is none of configuration.
        client.set_origin(parse_origin(&self.origin).unwrap_or(ClientOrigin::Registered));
        if self.revoked_at.is_some() {
            client.set_status(ClientStatus::Revoked);
        } else if self.disabled != Some(0) && client.status() == ClientStatus::Active {
            client.set_status(ClientStatus::Disabled);
        }
        // As in the document, zero means never.
        match self.expires_at.filter(|end| *end != 0).map(|end| time(end.max(1))) {
            Some(end) if client.expires_at().is_none_or(|other| end < other) => {
                client.to_builder().expires_at(end).build().map_err(|error| self.unreadable(error.into()))
            }
            _ => Ok(client),
        }
    }

    /// The document without the redirect URIs that break a rule: they must not make the whole client fail.
    fn document(&self) -> Result<(Client, Vec<ClientError>), BoxError> {
        let metadata: serde_json::Value = serde_json::from_str(&self.metadata)?;
        let (client, dropped) = Client::from_stored_metadata(metadata)?;
        if client.id() == self.client_id {
            Ok((client, dropped))
        } else {
            Err("its metadata is that of another client".into())
        }
    }

    pub(super) fn record(&self, warned: &Warned) -> Result<Record, RegistryError> {
        let unknown = || self.unreadable(format!("its origin is {:?}", self.origin).into());
        Ok(Record {
            client: Arc::new(self.client(warned)?),
            origin: parse_origin(&self.origin).ok_or_else(unknown)?,
            created_at: time(self.created_at),
            updated_at: time(self.updated_at),
            last_used_at: self.last_used_at.map(time),
        })
    }

    fn unreadable(&self, source: BoxError) -> RegistryError {
        RegistryError::permanent(UnreadableRow { client_id: self.client_id.clone(), source })
    }
}

/// A row that cannot be read as a client.
#[derive(Debug)]
struct UnreadableRow {
    client_id: String,
    source: BoxError,
}

impl fmt::Display for UnreadableRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row of client {:?} cannot be read: {}", self.client_id, self.source)
    }
}

impl std::error::Error for UnreadableRow {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// The rows about whose redirect URIs a warning was logged.
#[derive(Clone, Default)]
pub(super) struct Warned(Arc<Mutex<HashSet<String>>>);

impl Warned {
    /// More rows are forgotten, and warned about again.
    const MAX_ROWS: usize = 1000;

    fn warn_once(&self, client_id: &str, dropped: &[ClientError]) {
        let Some(first) = dropped.first() else { return };
        let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() >= Self::MAX_ROWS {
            warned.clear();
        }
        if warned.insert(client_id.to_owned()) {
            tracing::warn!(client_id, dropped = dropped.len(), %first, "a stored client has redirect URIs that break the rules");
        }
    }
}

/// The first arguments of `INSERT` and `REPLACE`: `$1` to `$7`.
pub(super) fn columns(client: &Client) -> Result<Vec<Argument>, RegistryError> {
    let now = seconds(SystemTime::now());
    Ok(vec![
        client.id().into(),
        document(client)?.into(),
        now.into(),
        (client.status() == ClientStatus::Revoked).then_some(now).into(),
        client.expires_at().map(seconds).into(),
        i64::from(client.status() == ClientStatus::Disabled).into(),
        registration_source(client).into(),
    ])
}

/// The metadata document of a client, provided that it reads back as the same client.
fn document(client: &Client) -> Result<String, RegistryError> {
    let refuse =
        |source: BoxError| RegistryError::permanent(format!("client {:?} cannot be stored: {source}", client.id()));
    if !can_be_known_elsewhere(client.id()) {
        return Err(refuse(format!("its id is longer than {MAX_ID_BYTES} bytes").into()));
    }
    if registration_source(client).is_some_and(|source| !can_be_known_elsewhere(source)) {
        return Err(refuse(
            format!("its {SOURCE_MEMBER} is not 1 to {MAX_ID_BYTES} printable ASCII characters").into(),
        ));
    }
    let text = serde_json::to_string(&client.to_metadata()).map_err(|error| refuse(error.into()))?;
    let same = |back: &Client| {
        back.redirect_uris() == client.redirect_uris()
            && back.allowed_scopes() == client.allowed_scopes()
            && back.default_scopes() == client.default_scopes()
            && back.response_types() == client.response_types()
            && back.grant_types() == client.grant_types()
            && back.kind() == client.kind()
            && back.application_type() == client.application_type()
            && back.status() == client.status()
            && back.is_trusted() == client.is_trusted()
            && back.is_dynamic() == client.is_dynamic()
            && back.expires_at() == client.expires_at()
    };
    let back = serde_json::from_str::<serde_json::Value>(&text).map_err(|error| refuse(error.into()))?;
    match Client::from_metadata(back) {
        Ok(back) if back.id() == client.id() && same(&back) => Ok(text),
        Ok(_) => Err(refuse("its metadata would be read back as another client".into())),
        Err(error) => Err(refuse(error.into())),
    }
}

const ORIGINS: [(ClientOrigin, &str); 4] = [
    (ClientOrigin::Configured, "configured"),
    (ClientOrigin::Registered, "registered"),
    (ClientOrigin::Upstream, "upstream"),
    (ClientOrigin::MetadataDocument, "metadata_document"),
];

pub(super) fn parse_origin(name: &str) -> Option<ClientOrigin> {
    ORIGINS.iter().find(|(_, known)| *known == name).map(|(origin, _)| *origin)
}

pub(super) fn origin_name(origin: ClientOrigin) -> &'static str {
    match origin {
        ClientOrigin::Configured => "configured",
        ClientOrigin::Registered => "registered",
        ClientOrigin::Upstream => "upstream",
        ClientOrigin::MetadataDocument => "metadata_document",
    }
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    i64::try_from(unix_seconds(time)).unwrap_or(i64::MAX)
}

fn time(seconds: i64) -> SystemTime {
    from_unix_seconds(u64::try_from(seconds).unwrap_or_default()).unwrap_or(SystemTime::UNIX_EPOCH)
}
