//! Errors for logs and messages.

use std::fmt;

/// An error and its causes in one line.
#[derive(Debug)]
pub struct Causes<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = std::iter::successors(Some(self.0), |error| error.source());
        let mut said = String::new();
        for cause in causes {
            let text = cause.to_string().replace(['\n', '\r'], " ");
            // Some errors repeat their cause.
            if !said.contains(&text) {
                said = if said.is_empty() { text } else { format!("{said}: {text}") };
            }
        }
        f.write_str(&said)
    }
}
