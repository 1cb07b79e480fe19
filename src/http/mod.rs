//! HTTP that all endpoints share: request bodies and responses. Knows no clients.

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod body;
#[cfg(any(feature = "pushed-requests", feature = "registration"))]
#[cfg_attr(not(feature = "registration"), allow(dead_code))]
pub(crate) mod endpoint;
pub(crate) mod form;
pub(crate) mod head;
