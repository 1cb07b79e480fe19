//! Client secrets: two are valid at a time, so that a client can change to the new one without an interruption.

use std::io::Write;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use shared::registry::Registry;
use tower_oauth_client_validation::{BoxStore, Client, RegistryStore, StoreError};

use crate::edit::{about, report};
use crate::{Failure, Format, Output, writable};

/// Members that hold a secret. The registry stores those that this tool creates as SHA-256.
const PLAIN: &str = "client_secret";
const HASHED: &str = "client_secret_hash";
const CURRENT: &str = "client_secret_sha256";
const PREVIOUS: &str = "previous_client_secret_sha256";
const METHOD: &str = "token_endpoint_auth_method";

pub(crate) async fn renew(registry: &Registry, id: &str, out: &mut Output, format: Format) -> Result<(), Failure> {
    let secret = shared::store::secret().map_err(|error| Failure::Broken(error.to_string()))?;
    let digest = sha256(&secret);
    let store = writable(registry)?;
    change(&store, id, |metadata| {
        match metadata.get(METHOD).and_then(Value::as_str) {
            None | Some("client_secret_basic" | "client_secret_post") => {}
            Some("none") => _ = metadata.insert(METHOD.to_owned(), "client_secret_basic".into()),
            Some(method) => {
                return Err(Failure::No(format!("client {id:?} authenticates by {method}, not by a secret")));
            }
        }
        let plain = metadata.remove(PLAIN).and_then(|plain| plain.as_str().map(str::to_owned));
        let known = match (metadata.remove(CURRENT), plain) {
            (Some(known), _) => Some(known),
            // A password hash keeps its own member.
            (None, Some(hash)) if hash.starts_with("$argon2") => {
                metadata.insert(HASHED.to_owned(), hash.into());
                None
            }
            (None, Some(plain)) => Some(sha256(&plain).into()),
            (None, None) => None,
        };
        metadata.remove(PREVIOUS);
        metadata.extend(known.map(|known| (PREVIOUS.to_owned(), known)));
        metadata.insert(CURRENT.to_owned(), digest.clone().into());
        Ok(())
    })
    .await?;
    match format {
        Format::Text => writeln!(out, "{secret}")?,
        Format::Json => writeln!(out, "{:#}", json!({ "client_id": id, "client_secret": secret }))?,
    }
    Ok(())
}

pub(crate) async fn drop_previous(
    registry: &Registry,
    id: &str,
    out: &mut Output,
    format: Format,
) -> Result<(), Failure> {
    let store = writable(registry)?;
    change(&store, id, |metadata| {
        if !metadata.contains_key(CURRENT) {
            return Err(Failure::No(format!("client {id:?} has only one secret")));
        }
        for member in [PREVIOUS, HASHED, PLAIN] {
            metadata.remove(member);
        }
        Ok(())
    })
    .await?;
    report(&*store, id, "dropped the previous secret of", out, format).await
}

/// Changes the metadata of a client, and retries after a concurrent change.
async fn change(
    store: &BoxStore,
    id: &str,
    edit: impl Fn(&mut Map<String, Value>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        let known = store.record(id).await?.ok_or_else(|| about(id, StoreError::Missing))?.client;
        let mut metadata = known.to_metadata();
        edit(&mut metadata)?;
        let changed = Client::from_metadata(metadata);
        let changed = changed.map_err(|error| Failure::Broken(format!("client {id:?}: {error}")))?;
        match store.replace_unchanged(&known, changed).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Changed) => {}
            Err(error) => return Err(about(id, error)),
        }
    }
}

/// In hexadecimal.
fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
