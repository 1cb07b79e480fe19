//! Untrusted text made safe for logs: on one line, without control characters, truncated.

use std::error::Error;
use std::fmt::{self, Formatter, Write};

/// The longest id, or word of an error message, that is logged.
const MAX_WORD_BYTES: usize = 256;

/// The longest chain of error messages that is logged.
const MAX_CAUSES_BYTES: usize = 1024;

/// Untrusted text, escaped and truncated after 256 bytes.
pub(crate) struct Untrusted<'a>(pub(crate) &'a str);

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut left = MAX_WORD_BYTES;
        for c in self.0.chars() {
            // Never cut within an escape.
            let Some(rest) = left.checked_sub(c.escape_debug().map(char::len_utf8).sum()) else {
                return Ok(());
            };
            left = rest;
            write!(f, "{}", c.escape_debug())?;
        }
        Ok(())
    }
}

/// An error and its causes on one line. Words that are longer than 256 bytes, such as ids and URLs, are cut.
pub(crate) struct Causes<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = OneLine { f, left: MAX_CAUSES_BYTES, left_of_word: MAX_WORD_BYTES };
        write!(line, "{}", self.0)?;
        std::iter::successors(self.0.source(), |error| (**error).source())
            .try_for_each(|error| write!(line, ": {error}"))
    }
}

struct OneLine<'a, 'f> {
    f: &'a mut Formatter<'f>,
    left: usize,
    left_of_word: usize,
}

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let escaped = c.escape_debug();
            let is_plain = matches!(c, '"' | '\'' | '\\');
            let length = if is_plain { 1 } else { escaped.clone().map(char::len_utf8).sum() };
            self.left_of_word = if c == ' ' { MAX_WORD_BYTES } else { self.left_of_word.saturating_sub(length) };
            if self.left < length {
                self.left = 0;
                return Ok(());
            }
            if self.left_of_word == 0 {
                continue;
            }
            self.left -= length;
            if is_plain { self.f.write_char(c)? } else { write!(self.f, "{escaped}")? }
        }
        Ok(())
    }
}
