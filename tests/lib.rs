//! One binary for all integration tests; a module by topic.

mod examples;
