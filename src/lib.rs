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
