//! One client: adding, changing, taking away.

use std::io::Write;

use tower_oauth_client_validation::{Client, ClientOrigin, ClientStatus, RegistrySource, RegistryStore, StoreError};

use crate::args::{Action, NewClient};
use crate::registry::Registry;
use crate::show::{Known, plain, show};
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

pub(crate) async fn one(
    registry: &Registry,
    action: Action,
    id: &str,
    out: &mut Output,
    format: Format,
) -> Result<(), Failure> {
    let done = match action {
        Action::Show => {
            let known = match registry.store() {
                Some(store) => store.record(id).await?.map(Known::from),
                None => registry.source().find_client(id).await?.map(Known::from),
            };
            return Ok(show(&known.ok_or_else(|| about(id, StoreError::Missing))?, out, format)?);
        }
        Action::Disable => "disabled",
        Action::Enable => "enabled",
        Action::Revoke => "revoked",
        Action::Remove => "removed",
    };
    let store = writable(registry)?;
    let written = match action {
        Action::Revoke => store.revoke(id).await,
        Action::Remove => store.remove(id).await,
        Action::Show | Action::Disable | Action::Enable => loop {
            let known = store.record(id).await?.ok_or_else(|| about(id, StoreError::Missing))?.client;
            if known.status() == ClientStatus::Revoked {
                return Err(Failure::No(format!("client {id:?}: it is revoked, for good")));
            }
            let changed = known.to_builder().disabled(matches!(action, Action::Disable)).build();
            let changed = changed.map_err(|error| Failure::Broken(format!("client {id:?}: {error}")))?;
            match store.replace_unchanged(&known, changed).await {
                // The client itself did it: read it again.
                Err(StoreError::Changed) => {}
                replaced => break replaced.map(drop),
            }
        },
    };
    written.map_err(|error| about(id, error))?;
    report(&*store, id, done, out, format).await
}

async fn report<S>(store: &S, id: &str, done: &str, out: &mut Output, format: Format) -> Result<(), Failure>
where
    S: RegistryStore + ?Sized,
{
    match format {
        Format::Text => writeln!(out, "{done} {}", plain(id))?,
        Format::Json if done == "removed" => {
            writeln!(out, "{:#}", serde_json::json!({ "client_id": id, "status": done }))?;
        }
        Format::Json => {
            let record = store.record(id).await?.ok_or_else(|| about(id, StoreError::Missing))?;
            show(&record.into(), out, format)?;
        }
    }
    Ok(())
}

pub(crate) fn about(id: &str, error: StoreError) -> Failure {
    match error {
        StoreError::AlreadyExists => Failure::No(format!("client {id:?}: it exists already")),
        StoreError::Missing => Failure::No(format!("client {id:?}: there is none")),
        error => error.into(),
    }
}
