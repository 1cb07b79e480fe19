//! The HTTP that all gates share: bodies in, answers out. It knows no clients.

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod body;
#[cfg(feature = "client-authentication")]
pub(crate) mod form;
pub(crate) mod head;
pub(crate) mod text {
    use std::fmt;
    pub(crate) struct Escaped<'a>(pub(crate) &'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0.escape_debug())
        }
    }
    pub(crate) struct Causes<'a>(pub(crate) &'a (dyn std::error::Error + 'static));
    impl fmt::Display for Causes<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)
        }
    }
}
