//! A client as text and as JSON.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use comfy_table::{Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower_oauth_client_validation::{AllowedScopes, Client, ClientKind, ClientOrigin, ClientStatus, Record};

use crate::{Format, Output};

/// A client, with its record if it comes from a store.
pub(crate) struct Known {
    pub(crate) client: Arc<Client>,
    record: Option<Record>,
}

impl From<Record> for Known {
    fn from(record: Record) -> Self {
        Self { client: Arc::clone(&record.client), record: Some(record) }
    }
}

impl From<Arc<Client>> for Known {
    fn from(client: Arc<Client>) -> Self {
        Self { client, record: None }
    }
}

/// Members that stay hidden.
const SECRETS: [&str; 5] = [
    "client_secret",
    "client_secret_hash",
    "client_secret_sha256",
    "previous_client_secret_sha256",
    "registration_access_token_sha256",
];

impl Known {
    pub(crate) fn status(&self) -> &'static str {
        match self.client.status() {
            ClientStatus::Disabled => "disabled",
            ClientStatus::Revoked => "revoked",
            ClientStatus::Active if self.client.is_expired_at(SystemTime::now()) => "expired",
            ClientStatus::Active => "active",
            _ => "other",
        }
    }

    pub(crate) fn color(&self) -> Color {
        if self.status() == "active" { Color::Green } else { Color::Red }
    }

    pub(crate) fn origin(&self) -> Option<&'static str> {
        self.record.as_ref().map(|record| match record.origin {
            ClientOrigin::Configured => "configured",
            ClientOrigin::Registered => "registered",
            ClientOrigin::Upstream => "upstream",
            ClientOrigin::MetadataDocument => "metadata document",
            _ => "other",
        })
    }

    pub(crate) fn last_used_at(&self) -> Option<String> {
        self.record.as_ref()?.last_used_at.map(timestamp)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut metadata = self.client.to_metadata();
        for (name, value) in &mut metadata {
            if SECRETS.contains(&name.as_str()) {
                *value = "(hidden)".into();
            }
        }
        json!({
            "client_id": self.client.id(),
            "status": self.status(),
            "origin": self.origin(),
            "created_at": self.record.as_ref().map(|record| timestamp(record.created_at)),
            "updated_at": self.record.as_ref().map(|record| timestamp(record.updated_at)),
            "last_used_at": self.last_used_at(),
            "metadata": metadata,
        })
    }

    pub(crate) fn write(&self, out: &mut Output, format: Format) -> io::Result<()> {
        match format {
            Format::Text => write_pairs(self.pairs(), out),
            Format::Json => writeln!(out, "{:#}", self.to_json()),
        }
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        let client = &*self.client;
        let kind = match client.kind() {
            ClientKind::Public => "public",
            ClientKind::Confidential => "confidential",
        };
        let mut pairs = vec![
            ("client_id", plain(client.id())),
            ("name", plain(client.name().unwrap_or("-"))),
            ("status", self.status().to_owned()),
            ("kind", kind.to_owned()),
        ];
        pairs.extend(client.redirect_uris().iter().map(|uri| ("redirect_uri", plain(uri.as_str()))));
        pairs.push(("scope", plain(client.allowed_scopes().map_or("-", AllowedScopes::as_str))));
        pairs.extend(client.expires_at().map(|end| ("expires", plain(&timestamp(end)))));
        if let Some(record) = &self.record {
            pairs.extend([
                ("origin", plain(self.origin().unwrap_or_default())),
                ("created", plain(&timestamp(record.created_at))),
                ("updated", plain(&timestamp(record.updated_at))),
                ("last used", plain(&self.last_used_at().unwrap_or_else(|| "never".to_owned()))),
            ]);
        }
        let others: Vec<&str> = client.metadata().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if !others.is_empty() {
            pairs.push(("also", plain(&format!("{} (see --json)", others.join(", ")))));
        }
        pairs
    }
}

/// Spaces between two columns.
pub(crate) const GAP: u16 = 2;

/// A table without lines. Colors reach terminals only: see [`Output`].
pub(crate) fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).enforce_styling();
    table
}

/// Prints the table without the padding at both ends of its lines.
pub(crate) fn print(table: &mut Table, out: &mut Output) -> io::Result<()> {
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Names and values in two columns.
pub(crate) fn write_pairs(pairs: Vec<(&'static str, String)>, out: &mut Output) -> io::Result<()> {
    for (name, value) in pairs {
        writeln!(out, "{name:<13} {value}")?;
    }
    Ok(())
}

fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "in the far future".to_owned(), |time| time.to_string())
}

/// Clients choose their names: escapes what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => plain.push(c),
            _ => plain.extend(c.escape_debug()),
        }
    }
    plain
}
