#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../docs/crate.md")]

pub mod authorization;
pub mod client;
pub mod layer;
pub mod registry;

pub use crate::authorization::*;
pub use crate::client::*;
pub use crate::layer::*;
pub use crate::registry::*;
