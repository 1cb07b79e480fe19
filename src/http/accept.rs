//! Which media type a request prefers.

use http::header::{self, HeaderMap};

/// Whether `Accept` gives `text/html` a higher quality than `application/json` (RFC 9110 §12.5.1). False for a tie and
/// for a missing or unreadable header.
pub(crate) fn prefers_html(headers: &HeaderMap) -> bool {
    let mut html = Quality::default();
    let mut json = Quality::default();
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else {
            return false;
        };
        for range in split_outside_quotes(value, ',') {
            let range = range.trim();
            if range.is_empty() {
                continue;
            }
            let Some((media_range, quality)) = parse_range(range) else {
                return false;
            };
            html.consider(media_range, "text/html", "text/*", quality);
            json.consider(media_range, "application/json", "application/*", quality);
        }
    }
    html.value > json.value
}

/// The quality of one media type, as the most specific range gives it.
#[derive(Default)]
struct Quality {
    specificity: u8,
    value: u16,
}

impl Quality {
    fn consider(&mut self, range: &str, exact: &str, family: &str, quality: u16) {
        let specificity = if range.eq_ignore_ascii_case(exact) {
            3
        } else if range.eq_ignore_ascii_case(family) {
            2
        } else if range == "*/*" {
            1
        } else {
            return;
        };
        if specificity > self.specificity {
            *self = Self { specificity, value: quality };
        } else if specificity == self.specificity {
            self.value = self.value.max(quality);
        }
    }
}

/// A media range without parameters, and its quality in thousandths.
fn parse_range(range: &str) -> Option<(&str, u16)> {
    let mut parts = split_outside_quotes(range, ';').map(str::trim);
    let media_range = parts.next()?;
    let (main, sub) = media_range.split_once('/')?;
    if !is_token(main) || !is_token(sub) {
        return None;
    }
    let mut quality = 1000;
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") {
            quality = parse_quality(value.trim())?;
        }
    }
    Some((media_range, quality))
}

fn is_token(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(tchar)
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`, RFC 9110 §12.4.2.
fn parse_quality(value: &str) -> Option<u16> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        }
        c == separator && !quoted
    })
}
