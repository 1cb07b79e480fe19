//! Adding, showing, changing and removing one client.

use std::io::Write;

use serde_json::json;
use shared::registry::Registry;
use tower_oauth_client_validation::{
    BoxStore, Client, ClientOrigin, ClientStatus, RegistrySource, RegistryStore, StoreError,
};

use crate::args::NewClient;
use crate::show::{Known, plain};
use crate::{Failure, Format, Output, writable};

pub(crate) fn read(new: NewClient) -> Result<Client, Failure> {
    Client::from_metadata(new.into_metadata()).map_err(|error| Failure::Broken(error.to_string()))
}

pub(crate) async fn add<S>(store: &S, client: Client, out: &mut Output, format: Format) -> Result<(), Failure>
where
    S: RegistryStore + ?Sized,
{
    let id = client.id().to_owned();
    store.insert(client, ClientOrigin::Configured).await.map_err(|error| about(&id, error))?;
    report(store, &id, "added", out, format).await
}

pub(crate) async fn show(registry: &Registry, id: &str, out: &mut Output, format: Format) -> Result<(), Failure> {
    let known = match registry.store() {
        Some(store) => store.record(id).await?.map(Known::from),
        None => registry.source().find_client(id).await?.map(Known::from),
    };
    Ok(known.ok_or_else(|| about(id, StoreError::Missing))?.write(out, format)?)
}

pub(crate) async fn switch(
    registry: &Registry,
    id: &str,
    on: bool,
    out: &mut Output,
    format: Format,
) -> Result<(), Failure> {
    let store = writable(registry)?;
    while !switch_once(&store, id, on).await? {}
    report(&*store, id, if on { "enabled" } else { "disabled" }, out, format).await
}

/// `false` if the client changed its registration in the meantime.
async fn switch_once(store: &BoxStore, id: &str, on: bool) -> Result<bool, Failure> {
    let known = store.record(id).await?.ok_or_else(|| about(id, StoreError::Missing))?.client;
    if known.status() == ClientStatus::Revoked {
        return Err(Failure::No(format!("client {id:?} is revoked permanently")));
    }
    let switched = known.to_builder().disabled(!on).build();
    let switched = switched.map_err(|error| Failure::Broken(format!("client {id:?}: {error}")))?;
    match store.replace_unchanged(&known, switched).await {
        Ok(_) => Ok(true),
        Err(StoreError::Changed) => Ok(false),
        Err(error) => Err(about(id, error)),
    }
}

pub(crate) async fn revoke(registry: &Registry, id: &str, out: &mut Output, format: Format) -> Result<(), Failure> {
    let store = writable(registry)?;
    store.revoke(id).await.map_err(|error| about(id, error))?;
    report(&*store, id, "revoked", out, format).await
}

pub(crate) async fn remove(registry: &Registry, id: &str, out: &mut Output, format: Format) -> Result<(), Failure> {
    writable(registry)?.remove(id).await.map_err(|error| about(id, error))?;
    match format {
        Format::Text => writeln!(out, "removed {}", plain(id))?,
        Format::Json => writeln!(out, "{:#}", json!({ "client_id": id, "status": "removed" }))?,
    }
    Ok(())
}

pub(crate) async fn report<S>(store: &S, id: &str, done: &str, out: &mut Output, format: Format) -> Result<(), Failure>
where
    S: RegistryStore + ?Sized,
{
    match format {
        Format::Text => writeln!(out, "{done} {}", plain(id))?,
        Format::Json => {
            let record = store.record(id).await?.ok_or_else(|| about(id, StoreError::Missing))?;
            Known::from(record).write(out, format)?;
        }
    }
    Ok(())
}

/// The error with the client's id.
pub(crate) fn about(id: &str, error: StoreError) -> Failure {
    match error {
        StoreError::AlreadyExists => Failure::No(format!("client {id:?} exists already")),
        StoreError::Missing => Failure::No(format!("client {id:?} does not exist")),
        error => error.into(),
    }
}
