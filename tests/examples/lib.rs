//! The examples, run as programs.

// A test fails by panicking, helpers included; clippy knows that of `#[test]` functions only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)]

mod authorization_server;
mod clients;
mod composed;
mod crash;
mod http;
mod mcp_proxy;
mod openid;
#[path = "../postgres_cluster.rs"]
#[expect(dead_code, reason = "shared with tests of other needs")]
mod postgres_cluster;
mod process;
mod pushed;
mod registration;
mod slow_clients;
mod smallest;
mod store;
