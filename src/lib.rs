#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../docs/crate.md")]

pub mod authorization;
pub mod client;
pub mod layer;
#[cfg(feature = "registration")]
#[cfg_attr(docsrs, doc(cfg(feature = "registration")))]
pub mod registration;
pub mod registry;

pub use crate::authorization::*;
pub use crate::client::*;
pub use crate::layer::*;
#[cfg(feature = "registration")]
pub use crate::registration::*;
pub use crate::registry::*;

/// Compiles the README's example.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Guides, each a page.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/guide/defaults.md")]
    pub mod defaults {}
    #[doc = include_str!("../docs/guide/why_refused.md")]
    pub mod why_refused {}
    #[doc = include_str!("../docs/guide/choosing_a_source.md")]
    pub mod choosing_a_source {}
    #[doc = include_str!("../docs/guide/writing_a_source.md")]
    pub mod writing_a_source {}
    #[doc = include_str!("../docs/guide/native_clients.md")]
    pub mod native_clients {}
    #[doc = include_str!("../docs/guide/rolling_out.md")]
    pub mod rolling_out {}
    #[doc = include_str!("../docs/guide/mcp_servers.md")]
    pub mod mcp_servers {}
    #[doc = include_str!("../docs/guide/from_python.md")]
    pub mod from_python {}
    #[cfg(feature = "metrics")]
    #[doc = include_str!("../docs/guide/seeing_it_run.md")]
    pub mod seeing_it_run {}
    #[doc = include_str!("../docs/guide/testing.md")]
    pub mod testing {}
    #[doc = include_str!("../docs/guide/the_handler.md")]
    pub mod the_handler {}
}
