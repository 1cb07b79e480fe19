//! Importing clients from standard input.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_oauth_client_validation::{Client, ClientOrigin, RegistryStore};

use crate::edit::about;
use crate::{Failure, Format, Output};

/// Prints an id only once its client is stored, so that a caller knows where to continue after a failure.
pub(crate) async fn import<S>(store: &S, at_once: usize, out: &mut Output, format: Format) -> Result<ExitCode, Failure>
where
    S: RegistryStore + ?Sized,
{
    let lines = futures::stream::unfold(read_lines(at_once), async |mut lines| Some((lines.recv().await?, lines)));
    let writes = lines.map(|(number, line)| async move {
        let written = match line {
            Ok(line) => write(store, &line).await,
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(id) => Ok(Ok(id)),
            Err(Failure::No(why)) => Ok(Err(format!("line {number}: {why}"))),
            Err(Failure::Broken(why)) => Err(Failure::Broken(format!("line {number}: {why}"))),
            Err(Failure::Unread) => Err(Failure::Unread),
        }
    });
    let mut writes = std::pin::pin!(writes.buffer_unordered(at_once));
    let mut all = true;
    while let Some(written) = writes.try_next().await? {
        match written {
            Ok(id) => {
                match format {
                    Format::Text => writeln!(out, "{id}")?,
                    Format::Json => writeln!(out, "{}", json!({ "client_id": id }))?,
                }
                out.flush()?;
            }
            Err(why) => {
                all = false;
                eprintln!("{why}");
            }
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn write<S: RegistryStore + ?Sized>(store: &S, line: &str) -> Result<String, Failure> {
    let metadata: Value = serde_json::from_str(line).map_err(|error| Failure::No(error.to_string()))?;
    let client = Client::from_metadata(metadata).map_err(|error| Failure::No(error.to_string()))?;
    let id = client.id().to_owned();
    store.insert(client, ClientOrigin::Configured).await.map_err(|error| about(&id, error))?;
    Ok(id)
}

/// In a thread that nothing joins: a blocked read must not keep the program from ending.
fn read_lines(ahead: usize) -> mpsc::Receiver<(usize, io::Result<String>)> {
    let (sender, receiver) = mpsc::channel(ahead);
    std::thread::spawn(move || {
        for (index, line) in io::stdin().lock().lines().enumerate() {
            let (blank, broken) = (line.as_ref().is_ok_and(|line| line.trim().is_empty()), line.is_err());
            if !blank && (sender.blocking_send((index + 1, line)).is_err() || broken) {
                return;
            }
        }
    });
    receiver
}
