//! What the example programs share: opening a registry, serving, consent, codes and tokens.

pub mod args;
pub mod causes;
pub mod consent;
pub mod pages;
#[cfg(feature = "registry")]
pub mod registry;
pub mod serve;
pub mod store;
pub mod token;
