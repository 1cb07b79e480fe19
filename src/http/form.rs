//! Lossless decoding of `application/x-www-form-urlencoded`.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// A name or a value has a broken escape or is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable;

/// The names and values of a form, in their order. Empty pieces between two `&` are skipped.
#[cfg(feature = "client-authentication")]
pub(crate) fn pairs(form: &[u8]) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Undecodable>> {
    form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = pair.get(end + 1..).unwrap_or_default();
        Ok((decode(&pair[..end])?, decode(value)?))
    })
}

/// The names of a form that can be decoded, regardless of their values.
#[cfg(feature = "client-authentication")]
pub(crate) fn names(form: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    form.split(|byte| *byte == b'&').filter_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        decode(&pair[..end]).ok()
    })
}

/// Decodes one name or value, without replacing undecodable bytes.
pub(crate) fn decode(input: &[u8]) -> Result<Cow<'_, str>, Undecodable> {
    if !input.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return std::str::from_utf8(input).map(Cow::Borrowed).map_err(|_| Undecodable);
    }
    let mut escapes = input.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    let is_escape = |(at, _): (usize, &u8)| {
        input.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(is_escape) {
        return Err(Undecodable);
    }
    let spaced: Vec<u8> = input.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Undecodable)
}

#[cfg(all(test, feature = "client-authentication"))]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<Vec<(String, String)>, Undecodable> {
        pairs(form.as_bytes()).map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned()))).collect()
    }

    #[test]
    fn names_and_values_are_decoded() {
        let expected = [("a b", "c&d"), ("x", ""), ("y", "1=2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read("a+b=c%26d&&x&y=1=2"), Ok(expected.into()));
    }

    #[test]
    fn a_name_is_read_even_if_its_value_is_broken() {
        assert_eq!(names(b"client%5Fid=%ff&%zz=1&b").collect::<Vec<_>>(), ["client_id", "b"]);
    }

    #[test]
    fn broken_escapes_and_bytes_are_refused() {
        for form in ["a=%", "a=%4", "a=%4g", "%zz=1", "a=%ff", "a=%C3"] {
            assert_eq!(read(form), Err(Undecodable), "{form}");
        }
    }
}
