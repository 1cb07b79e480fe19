//! A client, for people and for programs.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower_oauth_client_validation::{
    AllowedScopes, Client, ClientKind, ClientOrigin, ClientStatus, Record, RedirectUri,
};

use crate::{Format, Output};

/// What can be told about a client; more where it comes from a store.
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

/// Members that nobody should find on a screen.
const SECRETS: [&str; 3] = ["client_secret", "client_secret_hash", "registration_access_token"];

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

    pub(crate) fn style(&self) -> Style {
        let color = if self.status() == "active" { AnsiColor::Green } else { AnsiColor::Red };
        color.on_default()
    }

    pub(crate) fn origin(&self) -> Option<&'static str> {
        self.record.as_ref().map(|record| match record.origin {
            ClientOrigin::Configured => "configured",
            ClientOrigin::Registered => "registered",
            ClientOrigin::Upstream => "upstream",
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

    fn write_text(&self, out: &mut Output) -> io::Result<()> {
        let mut line = |name: &str, value: &str| writeln!(out, "{name:<14} {}", plain(value));
        line("client_id", self.client.id())?;
        line("name", self.client.name().unwrap_or("-"))?;
        line("status", self.status())?;
        let kind = match self.client.kind() {
            ClientKind::Public => "public",
            ClientKind::Confidential => "confidential",
        };
        line("kind", kind)?;
        for uri in self.client.redirect_uris().iter().map(RedirectUri::as_str) {
            line("redirect_uri", uri)?;
        }
        line("scope", self.client.allowed_scopes().map_or("-", AllowedScopes::as_str))?;
        if let Some(end) = self.client.expires_at() {
            line("expires", &timestamp(end))?;
        }
        if let Some(record) = &self.record {
            line("origin", self.origin().unwrap_or_default())?;
            line("created", &timestamp(record.created_at))?;
            line("updated", &timestamp(record.updated_at))?;
            line("last used", &self.last_used_at().unwrap_or_else(|| "never".to_owned()))?;
        }
        let others: Vec<&str> = self.client.metadata().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if !others.is_empty() {
            line("also", &format!("{} (see --json)", others.join(", ")))?;
        }
        Ok(())
    }
}

pub(crate) fn show(known: &Known, out: &mut Output, format: Format) -> io::Result<()> {
    match format {
        Format::Text => known.write_text(out),
        Format::Json => writeln!(out, "{:#}", known.to_json()),
    }
}

fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "in a far future".to_owned(), |time| time.to_string())
}

/// Clients choose their names: what a terminal would obey is written as an escape.
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
