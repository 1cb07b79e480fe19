//! The examples, run as programs and driven from outside.

mod authorization_server;
mod clients;
mod composed;
mod crash;
mod http;
mod mcp_proxy;
mod process;
mod registration;
mod smallest;
