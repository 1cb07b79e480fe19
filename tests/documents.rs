//! The documents say what the code does.

use std::fs;

/// The README's example is the program that is run in tests.
#[test]
fn the_example_in_the_readme_is_the_one_that_runs() {
    let readme = fs::read_to_string("README.md").unwrap();
    let example = fs::read_to_string("examples/axum.rs").unwrap();
    let (_head, code) = example.split_once("\n\n").unwrap();
    assert!(readme.contains(&format!("```rust,no_run\n{code}```")), "copy examples/axum.rs into README.md");
}

/// Each feature is in the README's table, and `full` has all.
#[test]
fn the_readme_lists_every_feature() {
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let readme = fs::read_to_string("README.md").unwrap();
    let features = manifest["features"].as_table().unwrap();
    for feature in features.keys().filter(|feature| *feature != "default") {
        assert!(
            readme.lines().any(|line| line.starts_with("| ") && line.contains(&format!("`{feature}`"))),
            "{feature} is not in the README"
        );
    }
}
