//! How the closest registered redirect URI differs from a requested one.

use std::fmt;

use crate::client::uri::UriParts;

/// Defines [`UriPart`]: each part with its weight and the name that logs use, in the order of `Display`.
macro_rules! uri_parts {
    ($($(#[$doc:meta])* $part:ident = $weight:literal, $name:literal;)*) => {
        /// A part in which two redirect URIs differ.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum UriPart {
            $($(#[$doc])* $part = $weight,)*
        }

        impl UriPart {
            const ALL: &[Self] = &[$(Self::$part),*];

            /// The name that logs use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$part => $name,)*
                }
            }
        }
    };
}

// Among URIs with equally many differences, the one with the lowest sum of weights is the closest.
uri_parts! {
    /// The scheme.
    Scheme = 64, "scheme";
    /// The host.
    Host = 32, "host";
    /// The port.
    Port = 4, "port";
    /// The path.
    Path = 16, "path";
    /// The query.
    Query = 8, "query";
    /// Only a trailing slash of the path.
    TrailingSlash = 1, "trailing_slash";
    /// Only the case of letters, in any part.
    LetterCase = 2, "letter_case";
}

/// The registered redirect URI that is closest to the requested one, and the parts in which it differs. Empty when
/// the client has no redirect URI.
///
/// `Display` lists the parts: `port,path`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ClosestMatch {
    index: Option<usize>,
    parts: u8,
}

impl ClosestMatch {
    pub(super) fn find<'a>(requested: &str, registered: impl Iterator<Item = &'a str>) -> Self {
        let requested = UriParts::split(requested);
        registered
            .enumerate()
            .map(|(index, uri)| Self { index: Some(index), parts: differences(&requested, &UriParts::split(uri)) })
            .min_by_key(|closest| (closest.parts.count_ones(), closest.parts))
            .unwrap_or_default()
    }

    /// The position of the closest URI among the client's redirect URIs.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// The parts that differ.
    pub fn parts(&self) -> impl Iterator<Item = UriPart> + use<> {
        let parts = self.parts;
        UriPart::ALL.iter().copied().filter(move |part| parts & *part as u8 != 0)
    }
}

impl fmt::Display for ClosestMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, part) in self.parts().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(part.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClosestMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClosestMatch({self})")
    }
}

fn differences(a: &UriParts<'_>, b: &UriParts<'_>) -> u8 {
    let compare = |part, a: &str, b: &str| {
        if a == b {
            return 0;
        }
        let differs_in = if a.eq_ignore_ascii_case(b) {
            UriPart::LetterCase
        } else if part == UriPart::Path && a.strip_suffix('/').unwrap_or(a) == b.strip_suffix('/').unwrap_or(b) {
            UriPart::TrailingSlash
        } else {
            part
        };
        differs_in as u8
    };
    compare(UriPart::Scheme, a.scheme, b.scheme)
        | compare(UriPart::Host, a.host, b.host)
        | compare(UriPart::Port, a.port.unwrap_or_default(), b.port.unwrap_or_default())
        | compare(UriPart::Path, a.path, b.path)
        | compare(UriPart::Query, a.query.unwrap_or_default(), b.query.unwrap_or_default())
}
