//! What the example programs share: opening a registry, serving, consent, codes and tokens.

pub mod args;
pub mod consent;
pub mod pages;
pub mod registry;
pub mod serve;
pub mod store;
pub mod token;
